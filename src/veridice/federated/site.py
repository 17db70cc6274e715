"""One hospital: its scans, its folder, and what it does when it is asked. No Flower."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from veridice.case import Case
from veridice.errors import InputError, WeightsError
from veridice.federated.common_networks import build_network, take
from veridice.federated.federation import WEIGHTS, Agreement, Federation, SiteSettings, shipped_cards
from veridice.federated.updates import Arrays
from veridice.inference.weights import save_network
from veridice.io.atomic import append_line, held, make_folder, write_text
from veridice.io.datasets import read_manifest
from veridice.io.weight_cards import WeightCard, bundled_weights, read_card
from veridice.quality.calibration import read_calibration, write_calibration
from veridice.quality.common_scores import SiteScores, share_scores
from veridice.quality.decision import GROSS
from veridice.quality.model import CALIBRATION
from veridice.quality.site_reports import SiteReport
from veridice.training.settings import TrainingSettings

if TYPE_CHECKING:
    from veridice.federated.local_training import LocalRound

NEEDED = {
    "critic": ("segmenter",),
    "regressor-image": ("segmenter", "reconstructor"),
    "regressor-uncertainty": ("segmenter", "reconstructor"),
    "regressor-error": ("segmenter", "reconstructor"),
}
"""Networks that a site must have before it can learn another one."""
EVENTS, FINISHED = "events.txt", "finished.txt"
"""What was done, a line each; written when nothing more will be asked."""


class NetworksLackError(WeightsError):
    """Networks that were learnt before are not here yet; the server sends them when it hears so."""


@dataclass(frozen=True)
class Site:
    """A member of a federation.

    Args:
        agreement: what all members have in common.
        fingerprint: of that.
        training: configuration, with this site's cubes.
        cases: of the manifest.
        output: folder.
    """

    agreement: Agreement
    fingerprint: str
    training: TrainingSettings
    cases: Sequence[Case]
    output: Path

    @classmethod
    def of(cls, federation: Federation, own: SiteSettings) -> Site:
        """The site that a TOML file describes.

        Raises:
            InputError: the manifest cannot be read, or people who are to be judged were learnt from by weights that ship.
        """
        training = federation.training
        here = training.data.model_copy(update={"cubes": str(own.output / "cubes")})
        cases = read_manifest(own.manifest, own.data)
        refuse_shipped_people(cases, training.data.task.name)
        return cls(
            agreement=federation.federation,
            fingerprint=federation.fingerprint(),
            training=training.model_copy(update={"data": here}),
            cases=cases,
            output=own.output,
        )

    def working(self) -> AbstractContextManager[None]:
        """Hold the folder, so that an answer that takes too long is not overtaken by the next question."""
        return held(self.output)

    def train(self, network: str, number: int, arrays: Arrays) -> LocalRound:
        """Learn for round ``number`` from the common weights on.

        Raises:
            NetworksLackError: networks that it needs are not here.
        """
        self._require(network)
        from veridice.federated.local_training import train_round  # slow to import, as what follows

        local = train_round(self.agreement, self.training, self.cases, network, number, arrays, self.output)
        self.tell(f"{network}: round {number} learnt")
        return local

    def score(self, network: str, number: int, arrays: Arrays) -> dict[str, float]:
        """Metrics of the common weights after round ``number`` on the own validation people.

        Raises:
            NetworksLackError: networks that it needs are not here.
        """
        self._require(network)
        from torch.utils.tensorboard import SummaryWriter

        from veridice.federated.local_training import score

        metrics = score(self.training, self.cases, network, arrays, self.output)
        with SummaryWriter(str(self.output / network / "tensorboard")) as board:
            for name, value in metrics.items():
                board.add_scalar(f"common weights, own validation people/{name}", value, number)
        told = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        self.tell(f"{network}: common weights of round {number}: {told} on the validation people here")
        return metrics

    def keep(self, card: str, arrays: Arrays) -> None:
        """Keep final weights of a network with their card, for ``--weights``."""
        described = WeightCard.model_validate_json(card)
        network = build_network(described.name, self.training)
        take(network, arrays)
        save_network(self.output / WEIGHTS, network, described.model_dump(exclude={"sha256"}))

    def _require(self, network: str) -> None:
        if not all((self.output / WEIGHTS / f"{name}.json").exists() for name in NEEDED.get(network, ())):
            raise NetworksLackError(f"{self.output}: lacks networks that the {network} needs")

    def scores(self, networks: Mapping[str, str]) -> list[SiteScores]:
        """What the site shares of its masks for the common decision, one for each needed Dice.

        Args:
            networks: checksum of each network that the federation learnt.

        Raises:
            InputError: it has nobody of the split ``test``.
            NetworksLackError: the networks here are others.
        """
        from veridice.federated.site_calibration import site_calibration

        weights = self.output / WEIGHTS
        for name, checksum in networks.items():
            if not (weights / f"{name}.json").exists() or read_card(weights, name).sha256 != checksum:
                raise NetworksLackError(f"{weights}: has not got the federation's {name}")
        complete_weights(weights, self.training.data.task.name)
        made = site_calibration(self.training, self.cases, weights, self.output)
        write_calibration(self.output / CALIBRATION, made)
        shared = [share_scores(made, needed, GROSS, self.agreement.quantiles) for needed in self.agreement.min_dice]
        for one in shared:
            people = f"{one.bad.people} people with bad masks, {one.good.people} with good ones"
            self.tell(f"scores at a Dice of {one.min_dice:g}: {people}")
        return shared

    def decide(self, common: Sequence[SiteScores], reports: Mapping[str, SiteReport], sites: int) -> None:
        """Keep the common decision with the own masks, for ``--calibration``; not where it does not hold for this site.

        Args:
            common: joined scores, one for each needed Dice; none: there is no common decision.
            reports: how the decision of the others does here, by needed Dice.
            sites: that shared scores.

        Raises:
            InputError: the joined scores cannot be those of this site and others.
        """
        if not common or not reports or not (self.output / CALIBRATION).exists():
            self.tell("no common decision: too few sites shared scores, or this one shared none")
            return
        made = read_calibration(self.output / CALIBRATION)
        kept = []
        for one in common:
            if one.bad.people < share_scores(made, one.min_dice, GROSS).bad.people:
                raise InputError("the joined scores are of fewer people than this site alone has")
            report = reports.get(f"{one.min_dice:g}")
            if report is None or report.differs:
                why = "this site differs: " + report.in_words(one.min_dice) if report else "nothing is known of this site"
                self.tell(f"{why}. So its own masks decide there")
            else:
                kept.append(one)
        needed = ", ".join(f"{one.min_dice:g}" for one in kept)
        if kept:
            words = f"; decisions at {needed} rest on masks of {sites} sites of federation {self.agreement.name}"
            made = made.model_copy(update={"common": tuple(kept), "source": made.source + words})
            write_calibration(self.output / CALIBRATION, made)
            self.tell(f"decision for a Dice of {needed} -> {CALIBRATION}")

    def tell(self, line: str) -> None:
        """Note what was done, for the people of this site."""
        make_folder(self.output)
        append_line(self.output / EVENTS, line)

    def finish(self) -> None:
        """Put beside the common networks what ships, so that masks can be judged, and note that the federation is over."""
        complete_weights(self.output / WEIGHTS, self.training.data.task.name)
        write_text(self.output / FINISHED, f"{self.agreement.name}: {', '.join(self.agreement.networks)}\n")


def complete_weights(weights: Path, task: str) -> None:
    """Put the networks that ship, and the judge of masks, beside those that a federation learnt, where they lack."""
    weights.mkdir(parents=True, exist_ok=True)
    for file in bundled_weights(task).iterdir() if shipped_cards(task) else ():
        if file.is_file() and not (weights / file.name).exists():
            shutil.copy(file, weights / file.name)


def refuse_shipped_people(cases: Sequence[Case], task: str) -> None:
    """Refuse people on whom weights are to be tried although weights that ship learnt from them.

    Raises:
        InputError: there are some.
    """
    known = {
        person for name in shipped_cards(task) for person in read_card(bundled_weights(task), name).people.get("train", ())
    }
    if both := sorted({case.patient for case in cases if case.split != "train"} & known):
        raise InputError(f"patient {both[0]}: weights that ship learnt from this person; use the split 'train'")
