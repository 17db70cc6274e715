"""Leads a federation from its first round to its end: networks one after the other, the decision, a last word to each."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from torch.utils.tensorboard import SummaryWriter

from veridice.errors import ConfigError
from veridice.federated.common_card import card_of, initial_arrays
from veridice.federated.common_networks import arrays_of, build_network, take
from veridice.federated.common_state import CommonState
from veridice.federated.federation import WEIGHTS, Federation
from veridice.federated.messages import ARRAYS, BUSY, FINGERPRINT, FINISH, KEEP, SAID, SCORES, TEXT, to_record
from veridice.federated.strategy import Checked, averaging
from veridice.inference.weights import load_network, save_network
from veridice.io.atomic import write_json
from veridice.io.weight_cards import read_card
from veridice.quality.common_scores import SiteScores, joined_scores
from veridice.quality.decision import MAX_MISSED
from veridice.quality.site_reports import SiteReport, site_reports

FEWEST_SITES = 2
"""Without so many no decision is a common one."""
LARGEST_SHARED = 16 * 2**20
FAILED_IN_A_ROW = 3
"""Rounds without enough answers after which a federation ends; what was reached stays."""
ASKED_AGAIN = 3
"""How often a site that is busy is asked in all."""
PAUSE_S = 5.0


class Conductor:
    """The server's side of a federation.

    Args:
        grid: Flower's way to the sites.
        federation: what was agreed on.
        state: the server's folder.
        sites: that may take part.
    """

    def __init__(self, grid: Grid, federation: Federation, state: CommonState, sites: int) -> None:
        self.grid, self.federation, self.state, self.sites = grid, federation, state, sites
        self.agreement = federation.federation
        self.fingerprint = federation.fingerprint()

    def conduct(self) -> None:
        """Learn what is not learnt yet, decide together, and tell everybody that this was all.

        Raises:
            ConfigError: too few sites answered, again and again.
        """
        networks = self.agreement.networks
        for number, network in enumerate(networks):
            if not self.state.finished(network):
                self.learn(network, networks[:number])
        self.wait_for_sites()
        self.hand_out(networks)
        shared = self.collect_scores() if self.agreement.min_dice else {}
        self.finish(shared)
        self.state.tell("finished")

    def wait_for_sites(self) -> None:
        """Give sites that are away some time to come back, since a last word is said once."""
        last = time.monotonic() + 60 * self.agreement.wait_minutes
        while len(list(self.grid.get_node_ids())) < self.sites and time.monotonic() < last:
            time.sleep(PAUSE_S)

    def learn(self, network: str, before: Sequence[str]) -> None:
        """All rounds of one network that are left, then its card.

        Args:
            network: that is learnt.
            before: networks that were learnt before, which it may need.

        Raises:
            ConfigError: too few sites answered, again and again.
        """
        self.hand_out(before)
        if not self.state.rounds_done(network):
            self.state.keep(network, 0, initial_arrays(self.federation, network))
        board = SummaryWriter(str(self.state.folder / network / "tensorboard"))
        strategy, failed = self.strategy(network, board), 0
        while (done := self.state.rounds_done(network)) < self.agreement.rounds:
            arrays = to_record(self.state.weights(network))
            strategy.start(self.grid, arrays, num_rounds=1, timeout=60 * self.agreement.wait_minutes)
            if self.state.rounds_done(network) > done:
                failed = 0
                continue
            failed += 1
            if failed == FAILED_IN_A_ROW:
                raise ConfigError(f"{network}: too few sites answered in {FAILED_IN_A_ROW} rounds; see the events")
            if strategy.lacking:
                self.hand_out(before)
            time.sleep(PAUSE_S)
            strategy = self.strategy(network, board)
        board.close()
        trained = build_network(network, self.federation.training)
        take(trained, self.state.weights(network))
        card = card_of(self.federation, self.state, network, strategy.epsilon())
        save_network(self.state.folder / WEIGHTS, trained, card)

    def strategy(self, network: str, board: SummaryWriter) -> Checked:
        """How the answers of the next rounds are averaged."""
        so_far = self.agreement.networks[: self.agreement.networks.index(network) + 1]
        released = sum(self.state.rounds_done(name) for name in so_far)
        return Checked(
            inner=averaging(self.agreement, self.sites, released),
            network=network,
            fingerprint=self.fingerprint,
            minimum=self.sites if self.agreement.privacy else self.agreement.minimum_sites,
            private=self.agreement.privacy is not None,
            done=self.state.rounds_done(network),
            tell=lambda site, what: self.state.tell(f"{network}: {self.state.site_name(site)}: {what}"),
            on_weights=partial(self.state.keep, network),
            on_metrics=partial(self.note, network, board),
        )

    def note(self, network: str, board: SummaryWriter, number: int, said: dict[int, dict[str, float]]) -> None:
        """Keep what sites said of the weights of a round."""
        by_site = {self.state.site_name(site): metrics for site, metrics in said.items()}
        self.state.note(network, number, by_site)
        for name in next(iter(by_site.values()), {}):
            values = {site: metrics[name] for site, metrics in by_site.items() if name in metrics}
            board.add_scalars(name, {**values, "mean over sites": float(np.mean(list(values.values())))}, number)
        board.flush()
        if number:
            self.state.tell(f"{network}: round {number} of {self.agreement.rounds}")

    def hand_out(self, networks: Sequence[str]) -> None:
        """Send finished networks to every site that is there."""
        for network in networks:
            card = read_card(self.state.folder / WEIGHTS, network)
            arrays = arrays_of(load_network(self.state.folder / WEIGHTS, network)[0])
            self.ask(KEEP, card.model_dump_json(), arrays)

    def collect_scores(self) -> dict[int, list[SiteScores]]:
        """What sites share of their masks, by site."""
        names = self.agreement.networks
        asked = json.dumps({name: read_card(self.state.folder / WEIGHTS, name).sha256 for name in names})
        shared = {}
        for site, reply in self.ask(SCORES, asked).items():
            try:
                shared[site] = read_shared(str(reply.content[SAID][TEXT]), self.agreement.min_dice)
            except Exception as error:  # whatever a site sends
                self.state.tell(f"scores: {self.state.site_name(site)}: refused ({type(error).__name__})")
        return shared

    def finish(self, shared: dict[int, list[SiteScores]]) -> None:
        """Join the scores, and tell each site the decision and how it does there."""
        common: list[SiteScores] = []
        reports: dict[int, dict[str, SiteReport]] = {site: {} for site in shared}
        if self.agreement.min_dice and len(shared) < FEWEST_SITES:
            self.state.tell(f"scores: {len(shared)} sites shared some, and {FEWEST_SITES} are needed: no common decision")
        for number, needed in enumerate(self.agreement.min_dice if len(shared) >= FEWEST_SITES else ()):
            of_sites = {site: scores[number] for site, scores in shared.items()}
            common.append(joined_scores(list(of_sites.values())))
            tests = len(shared) * len(self.agreement.min_dice)
            for site, report in site_reports(of_sites, MAX_MISSED, tests, bool(self.agreement.quantiles)).items():
                reports[site][f"{needed:g}"] = report
                if report.differs:
                    self.state.tell(f"scores: {self.state.site_name(site)} differs: {report.in_words(needed)}")
        content: dict[str, Any] = {"sites": len(shared), "scores": [scores.model_dump() for scores in common]}
        told = {site: {name: report.model_dump() for name, report in found.items()} for site, found in reports.items()}
        if common:
            by_site = {self.state.site_name(site): found for site, found in told.items()}
            write_json(self.state.folder / "decision.json", {**content, "by_site": by_site})
        self.ask(FINISH, lambda site: json.dumps({**content, "report": told.get(site, {})}))

    def ask(
        self,
        question: str,
        text: str | Callable[[int], str],
        arrays: dict[str, np.ndarray[Any, Any]] | None = None,
    ) -> dict[int, Message]:
        """Ask every site that is there; one that is busy is asked again, and who does not answer is told."""
        answers: dict[int, Message] = {}
        waiting, last = list(self.grid.get_node_ids()), dict[int, str]()
        for number in range(ASKED_AGAIN):
            texts = {site: text if isinstance(text, str) else text(site) for site in waiting}
            messages = [self._message(question, said, arrays, site) for site, said in texts.items()]
            for reply in self.grid.send_and_receive(messages, timeout=60 * self.agreement.wait_minutes):
                if reply.has_error():
                    last[reply.metadata.src_node_id] = reply.error.reason
                else:
                    answers[reply.metadata.src_node_id] = reply
            waiting = [site for site in waiting if site not in answers and last.get(site) == BUSY]
            if not waiting or number + 1 == ASKED_AGAIN:
                break
            time.sleep(PAUSE_S)
        for site in sorted(set(self.grid.get_node_ids()) - set(answers)):
            self.state.tell(f"{question}: {self.state.site_name(site)}: {last.get(site, 'no answer')}")
        return answers

    def _message(self, question: str, text: str, arrays: dict[str, np.ndarray[Any, Any]] | None, site: int) -> Message:
        said = RecordDict({SAID: ConfigRecord({FINGERPRINT: self.fingerprint, TEXT: text})})
        if arrays is not None:
            said[ARRAYS] = to_record(arrays)
        return Message(content=said, message_type=question, dst_node_id=site)


def read_shared(text: str, needed: Sequence[float]) -> list[SiteScores]:
    """Scores that a site shared.

    Raises:
        ValueError: they are none, too many, or for other needed Dice.
    """
    if len(text) > LARGEST_SHARED:
        raise ValueError("more than any site has")
    found = [SiteScores.model_validate(one) for one in json.loads(text)]
    if [one.min_dice for one in found] != list(needed):
        raise ValueError("for other needed Dice")
    return found
