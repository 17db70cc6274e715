"""How answers of sites become common weights: Flower's averages, with answers refused that would spoil them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import DifferentialPrivacyClientSideFixedClipping, FedAvg, FedProx, Strategy
from flwr.supercore.privacy_accounting import GaussianPrivacyEvent, NeighboringRelation, PrivacyConfig, SamplingMethod
from flwr.supercore.privacy_accounting.rdp_accountant import RdpAccountant

from veridice.federated.federation import Agreement
from veridice.federated.messages import ARRAYS, EXAMPLES, FINGERPRINT, LACKS, METRICS, NETWORK, ROUND, from_record
from veridice.federated.updates import far_from_others, what_is_wrong

MEASURED = ("dice", "dice_median", "ssim", "ssim_hole", "difference_hole", "mae", "mae_of_constant", "pearson", "error")
"""What sites may say of common weights; other names are not read."""
Tell = Callable[[int, str], None]
"""Told about a site: its number at the server, and what happened."""


def averaging(agreement: Agreement, sites: int, done: int) -> Strategy:
    """FedAvg, or FedProx, and differential privacy around it where it is asked for.

    Args:
        agreement: of the federation.
        sites: that may take part.
        done: rounds, of all networks, that came out before; they count for the ε.
    """
    # What is to be kept secret with a stated ε needs every site in every round, each counting alike.
    fewest = sites if agreement.privacy else agreement.minimum_sites
    options: dict[str, Any] = {
        "min_train_nodes": fewest,
        "min_evaluate_nodes": fewest,
        "min_available_nodes": fewest,
        "weighted_by_key": EXAMPLES,
        "arrayrecord_key": ARRAYS,
    }
    average = FedProx(**options, proximal_mu=agreement.proximal) if agreement.proximal else FedAvg(**options)
    if (privacy := agreement.privacy) is None:
        return average
    accounted = PrivacyConfig(privacy.delta, sites, NeighboringRelation.ADD_OR_REMOVE_ONE, SamplingMethod.NO_AMPLIFICATION)
    accountant = RdpAccountant(accounted)
    if done:
        accountant.compose(GaussianPrivacyEvent(privacy.noise, sites, sites), done)
    return DifferentialPrivacyClientSideFixedClipping(average, privacy.noise, privacy.clip, sites, accountant=accountant)


@dataclass
class Checked(Strategy):
    """A strategy that averages only what may be averaged, and says which answers it refused.

    Args:
        inner: that averages.
        network: which one is learnt.
        fingerprint: of what all members agreed on.
        minimum: answers without which a round does not count.
        private: whether sites count alike, as the promise of privacy needs.
        done: rounds that counted.
        tell: called for every answer that is refused or lacks.
        on_weights: called with the number of a round that counted and the weights that came out of it, before they are sent on.
        on_metrics: called with the number of that round and what each site said of them.
        lacking: whether a site said that it has not got the networks that were learnt before.
    """

    inner: Strategy
    network: str
    fingerprint: str
    minimum: int
    private: bool
    done: int
    tell: Tell
    on_weights: Callable[[int, dict[str, Any]], None]
    on_metrics: Callable[[int, dict[int, dict[str, float]]], None]
    lacking: bool = False
    _sent: dict[str, Any] = field(default_factory=dict)
    _asked: set[int] = field(default_factory=set)

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        self._sent = from_record(arrays)
        return self._told(self.inner.configure_train(server_round, arrays, self._said(config, self.done + 1), grid))

    def configure_evaluate(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        return self._told(self.inner.configure_evaluate(server_round, arrays, self._said(config, self.done), grid))

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        usable = self._usable(self._answers(replies))
        if len(usable) < self.minimum:
            return None, None
        arrays, metrics = self.inner.aggregate_train(server_round, usable)
        if arrays is not None:
            self.done += 1
            self.on_weights(self.done, from_record(arrays))
        return arrays, metrics

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:  # noqa: ARG002
        said = {reply.metadata.src_node_id: numbers_of(reply) for reply in self._answers(replies)}
        self.on_metrics(self.done, {site: numbers for site, numbers in said.items() if numbers})
        return None

    def summary(self) -> None:
        self.inner.summary()

    def epsilon(self) -> float | None:
        """Of all that came out so far; None where no privacy was promised."""
        spent = self.inner.privacy_spent() if self.private else None
        return None if spent is None else float(spent.epsilon)

    def _said(self, config: ConfigRecord, number: int) -> ConfigRecord:
        config[FINGERPRINT], config[NETWORK], config[ROUND] = self.fingerprint, self.network, number
        return config

    def _told(self, messages: Iterable[Message]) -> list[Message]:
        asked = list(messages)
        self._asked = {message.metadata.dst_node_id for message in asked}
        return asked

    def _answers(self, replies: Iterable[Message]) -> list[Message]:
        """Answers that are no errors; who gave none, or an error, is told."""
        answers = []
        for reply in replies:
            site = reply.metadata.src_node_id
            if site not in self._asked:
                # The server's own word for a site that is away comes under a number of its own.
                continue
            self._asked.discard(site)
            if reply.has_error():
                self.lacking |= reply.error.reason == LACKS
                self.tell(site, reply.error.reason)
            else:
                answers.append(reply)
        for site in sorted(self._asked):
            self.tell(site, "no answer in time")
        return answers

    def _usable(self, answers: list[Message]) -> list[Message]:
        """Answers that may be averaged; of the others it is told why not."""
        kept, weights = [], []
        for reply in answers:
            try:
                arrays, wrong = self._read(reply)
            except Exception as error:  # whatever a site sends
                arrays, wrong = {}, f"cannot be read ({type(error).__name__})"
            if wrong:
                self.tell(reply.metadata.src_node_id, f"refused: {wrong}")
            else:
                kept.append(reply)
                weights.append(arrays)
        usable = []
        for reply, far in zip(kept, far_from_others(self._sent, weights), strict=True):
            if far:
                self.tell(reply.metadata.src_node_id, "refused: weights that moved much farther than those of the others")
            else:
                usable.append(reply)
        return usable

    def _read(self, reply: Message) -> tuple[dict[str, Any], str]:
        """The weights of an answer, and what is wrong with it."""
        if {name: type(record) for name, record in reply.content.items()} != {ARRAYS: ArrayRecord, METRICS: MetricRecord}:
            return {}, "more or less than weights and a count"
        arrays, numbers = from_record(reply.content[ARRAYS]), reply.content[METRICS]
        if set(numbers) != {EXAMPLES} or (self.private and numbers[EXAMPLES] != 1):
            return {}, "another count than was agreed on"
        return arrays, what_is_wrong(self._sent, arrays, numbers[EXAMPLES])


def numbers_of(reply: Message) -> dict[str, float]:
    """The metrics of a reply that are known and finite; none, where it is no such reply."""
    try:
        found = {name: float(reply.content[METRICS][name]) for name in MEASURED if name in reply.content[METRICS]}
    except Exception:  # whatever a site sends
        return {}
    return {name: value for name, value in found.items() if isfinite(value)}
