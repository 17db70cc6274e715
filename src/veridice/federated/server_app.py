"""What runs at the server: networks one after the other, rounds of each, the final weights to everybody."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp
from torch.utils.tensorboard import SummaryWriter

from veridice._version import __version__
from veridice.errors import ConfigError
from veridice.federated.common_networks import arrays_of, build_network, take
from veridice.federated.common_state import CommonState
from veridice.federated.federation import WEIGHTS, Federation, load_federation
from veridice.federated.messages import (
    ARRAYS,
    FINGERPRINT,
    FINISH,
    KEEP,
    SAID,
    SCORES,
    TEXT,
    federation_file,
    to_record,
)
from veridice.federated.strategy import Checked, averaging
from veridice.inference.weights import load_network, save_network
from veridice.io.atomic import write_json
from veridice.io.weight_cards import WeightCard, bundled_weights, read_card
from veridice.quality.common_scores import SiteScores, joined_scores, site_reports
from veridice.quality.decision import MAX_MISSED
from veridice.training.provenance import source_commit

FEWEST_SITES = 2
LARGEST_SHARED = 16 * 2**20
FAILED_IN_A_ROW = 3
"""Rounds without enough answers after which a federation ends; what was reached stays."""
NO_DECISION: dict[str, Any] = {"sites": 0, "scores": []}
PAUSE_S = 5.0
ANSWER_WAIT_S = 3600.0
app = ServerApp()


@app.main()
def main(grid: Grid, _context: Context) -> None:
    """Run, or go on with, the federation of this server's TOML file."""
    federation = load_federation(federation_file(), "server")
    assert federation.server is not None  # noqa: S101 (load_federation made sure)
    state = CommonState(federation.server.output)
    for network in federation.federation.networks:
        if not state.finished(network):
            learn(grid, federation, state, network)
    # Whoever came back late gets all of them.
    for network in federation.federation.networks:
        card, arrays = read_card(state.folder / WEIGHTS, network), arrays_of(load_network(state.folder / WEIGHTS, network)[0])
        ask_all(grid, federation, state, KEEP, card.model_dump_json(), arrays)
    decision = decide_together(grid, federation, state) if federation.federation.min_dice else NO_DECISION
    ask_all(grid, federation, state, FINISH, json.dumps(decision))
    state.tell("finished")


def learn(grid: Grid, federation: Federation, state: CommonState, network: str) -> None:
    """All rounds of one network that are left, then its card.

    Raises:
        ConfigError: too few sites answered, again and again.
    """
    agreement = federation.federation
    assert federation.server is not None  # noqa: S101
    if not (done := state.rounds_done(network)):
        state.keep(network, 0, initial_arrays(federation, network))
    board = SummaryWriter(str(state.folder / network / "tensorboard"))
    strategy = Checked(
        inner=averaging(agreement, len(federation.server.sites), done),
        network=network,
        fingerprint=federation.fingerprint(),
        minimum=agreement.minimum_sites,
        done=done,
        tell=lambda site, what: state.tell(f"{network}: {state.site_name(site)}: {what}"),
        on_weights=partial(state.keep, network),
        on_metrics=partial(note, state, network, agreement.rounds, board),
    )
    failed = 0
    while (left := agreement.rounds - strategy.done) > 0:
        before = strategy.done
        strategy.start(grid, to_record(state.weights(network)), num_rounds=left, timeout=60 * agreement.wait_minutes)
        failed = 0 if strategy.done > before else failed + 1
        if failed == FAILED_IN_A_ROW:
            raise ConfigError(f"{network}: too few sites answered in {FAILED_IN_A_ROW} rounds; see the events")
        if failed:
            time.sleep(PAUSE_S)
    board.close()
    trained = build_network(network, federation.training)
    take(trained, state.weights(network))
    save_network(state.folder / WEIGHTS, trained, card_of(federation, state, network, strategy))


def note(
    state: CommonState, network: str, rounds: int, board: SummaryWriter, number: int, said: dict[int, dict[str, float]]
) -> None:
    """Keep what sites said of the weights of a round."""
    by_site = {state.site_name(site): metrics for site, metrics in said.items()}
    state.note(network, number, by_site)
    for name in next(iter(by_site.values()), {}):
        values = {site: metrics[name] for site, metrics in by_site.items()}
        board.add_scalars(name, {**values, "mean over sites": float(np.mean(list(values.values())))}, number)
    board.flush()
    if number:
        state.tell(f"{network}: round {number} of {rounds}")


def initial_arrays(federation: Federation, network: str) -> dict[str, np.ndarray[Any, Any]]:
    """Common weights before the first round.

    Raises:
        ConfigError: the weights that ship are of another layout.
    """
    fresh = build_network(network, federation.training)
    if federation.federation.start == "bundled":
        shipped, _ = load_network(bundled_weights(federation.training.data.task.name), network)
        try:
            fresh.load_state_dict(shipped.state_dict())
        except RuntimeError as error:
            raise ConfigError(f"the {network} that ships has another layout than the configuration; leave start out") from error
    return arrays_of(fresh)


def card_of(federation: Federation, state: CommonState, network: str, strategy: Checked) -> dict[str, Any]:
    """The weight card; of the people it says nothing, since their names stay at the sites."""
    agreement, training = federation.federation, federation.training
    rows = state.metrics()
    last = rows[(rows["network"] == network) & (rows["round"] == agreement.rounds)].dropna(axis="columns")
    metrics = last.drop(columns=["network", "round", "site"]).mean()
    sites = last["site"].nunique()
    spent = strategy.inner.privacy_spent() if agreement.privacy else None
    private = f"; differential privacy of a whole site: ε {spent.epsilon:.3g} at δ {spent.delta:g}" if spent else ""
    described = WeightCard(
        name=network,
        kind=network.split("-")[0],
        arguments=training.arguments_of(network),
        task=training.data.task.name,
        grid=training.data.grid,
        sha256="",
        configuration=training.name,
        data=f"federation {agreement.name}: {agreement.rounds} rounds of {agreement.steps} steps at {sites} sites, "
        f"{'FedProx' if agreement.proximal else 'FedAvg'}{private}; metrics are means over the sites' validation people",
        people={},
        steps=agreement.rounds * agreement.steps,
        best_step=agreement.rounds * agreement.steps,
        seed=agreement.seed,
        commit=source_commit(),
        created=datetime.now(UTC).strftime("%Y-%m-%d"),
        metrics={str(name): float(value) for name, value in metrics.items()},
        version=__version__,
    )
    return described.model_dump(exclude={"sha256"})


def decide_together(grid: Grid, federation: Federation, state: CommonState) -> dict[str, Any]:
    """Collect scores, join them, and tell which site differs; returns the decision for all sites."""
    by_site = {}
    for reply in ask_all(grid, federation, state, SCORES, ""):
        name = state.site_name(reply.metadata.src_node_id)
        try:
            by_site[name] = read_shared(str(reply.content[SAID][TEXT]), federation.federation.min_dice)
        except (ValueError, KeyError):
            state.tell(f"scores: {name}: refused: not what was agreed on")
    if len(by_site) < FEWEST_SITES:
        state.tell(f"scores: {len(by_site)} sites shared some, and {FEWEST_SITES} are needed: no common decision")
        return NO_DECISION
    common, reports = [], {}
    for number, needed in enumerate(federation.federation.min_dice):
        of_sites = {name: shared[number] for name, shared in by_site.items()}
        common.append(joined_scores(list(of_sites.values())))
        found = site_reports(of_sites, MAX_MISSED)
        reports[f"{needed:g}"] = {name: report.model_dump() for name, report in found.items()}
        for name in (name for name, report in found.items() if report.differs):
            state.tell(
                f"scores: {name} differs: at a Dice of {needed:g} the decision of the others accepts "
                f"{found[name].accepted_bad:.0%} of its bad masks, and {MAX_MISSED:.0%} are promised"
            )
    content: dict[str, Any] = {"sites": len(by_site), "scores": [scores.model_dump() for scores in common]}
    write_json(state.folder / "decision.json", {**content, "by_site": reports})
    return content


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


def ask_all(
    grid: Grid,
    federation: Federation,
    state: CommonState,
    question: str,
    text: str,
    arrays: dict[str, np.ndarray[Any, Any]] | None = None,
) -> list[Message]:
    """Ask every site that is there; who does not answer is told."""
    said = RecordDict({SAID: ConfigRecord({FINGERPRINT: federation.fingerprint(), TEXT: text})})
    if arrays is not None:
        said[ARRAYS] = to_record(arrays)
    sites = list(grid.get_node_ids())
    messages = [Message(content=said, message_type=question, dst_node_id=site) for site in sites]
    replies = list(grid.send_and_receive(messages, timeout=ANSWER_WAIT_S))
    answered = [reply for reply in replies if not reply.has_error()]
    for site in set(sites) - {reply.metadata.src_node_id for reply in answered}:
        state.tell(f"{question}: {state.site_name(site)}: no answer")
    return answered
