"""One hospital: its scans, its folder, and what it does when it is asked. No Flower."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from veridice.case import Case
from veridice.federated.common_networks import Arrays, build_network, take
from veridice.federated.federation import WEIGHTS, Agreement, Federation, SiteSettings
from veridice.inference.weights import save_network
from veridice.io.atomic import append_line, held, write_text
from veridice.io.datasets import read_manifest
from veridice.io.weight_cards import WeightCard
from veridice.quality.calibration import read_calibration, write_calibration
from veridice.quality.common_scores import SiteScores, share_scores
from veridice.quality.decision import GROSS
from veridice.quality.model import CALIBRATION
from veridice.training.settings import TrainingSettings

if TYPE_CHECKING:
    from veridice.federated.local_training import LocalRound

EVENTS, FINISHED = "events.txt", "finished.txt"
"""What was done, a line each; written when nothing more will be asked."""


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
            InputError: the manifest cannot be read.
        """
        training = federation.training
        here = training.data.model_copy(update={"cubes": str(own.output / "cubes")})
        return cls(
            agreement=federation.federation,
            fingerprint=federation.fingerprint(),
            training=training.model_copy(update={"data": here}),
            cases=read_manifest(own.manifest, own.data),
            output=own.output,
        )

    def working(self) -> AbstractContextManager[None]:
        """Hold the folder, so that an answer that takes too long is not overtaken by the next question."""
        return held(self.output)

    def train(self, network: str, number: int, arrays: Arrays) -> LocalRound:
        """Learn for round ``number`` from the common weights on."""
        from veridice.federated.local_training import train_round  # slow to import, as what follows

        local = train_round(self.agreement, self.training, self.cases, network, number, arrays, self.output)
        self.tell(f"{network}: round {number} learnt")
        return local

    def score(self, network: str, number: int, arrays: Arrays) -> tuple[dict[str, float], int]:
        """Metrics of the common weights after round ``number`` on the own validation people, and how many scans they have."""
        from torch.utils.tensorboard import SummaryWriter

        from veridice.federated.local_training import score

        metrics, count = score(self.training, self.cases, network, arrays, self.output)
        with SummaryWriter(str(self.output / network / "tensorboard")) as board:
            for name, value in metrics.items():
                board.add_scalar(f"common weights, own validation people/{name}", value, number)
        told = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        self.tell(f"{network}: common weights of round {number}: {told} on {count} scans here")
        return metrics, count

    def keep(self, card: str, arrays: Arrays) -> None:
        """Keep final weights of a network with their card, for ``--weights``."""
        described = WeightCard.model_validate_json(card)
        network = build_network(described.name, self.training)
        take(network, arrays)
        save_network(self.output / WEIGHTS, network, described.model_dump(exclude={"sha256"}))

    def scores(self) -> list[SiteScores]:
        """What the site shares of its masks for the common decision, one for each needed Dice.

        Raises:
            InputError: it has nobody of the split ``test``.
        """
        from veridice.federated.site_calibration import complete_weights, site_calibration

        weights = self.output / WEIGHTS
        complete_weights(weights, self.training.data.task.name)
        made = site_calibration(self.training, self.cases, weights, self.output / "masks")
        write_calibration(self.output / CALIBRATION, made)
        shared = [share_scores(made, needed, GROSS, self.agreement.quantiles) for needed in self.agreement.min_dice]
        for one in shared:
            people = f"{one.bad.people} people with bad masks, {one.good.people} with good ones"
            self.tell(f"scores at a Dice of {one.min_dice:g}: {people}")
        return shared

    def decide(self, common: list[SiteScores], sites: int) -> None:
        """Keep the common decision with the own masks, for ``--calibration``.

        Raises:
            InputError: this site shared no scores.
        """
        made = read_calibration(self.output / CALIBRATION)
        needed = ", ".join(f"{one.min_dice:g}" for one in common)
        source = f"{made.source}; decisions at {needed} rest on masks of {sites} sites of federation {self.agreement.name}"
        write_calibration(self.output / CALIBRATION, made.model_copy(update={"common": tuple(common), "source": source}))
        self.tell(f"decision for a Dice of {needed} -> {CALIBRATION}")

    def tell(self, line: str) -> None:
        """Note what was done, for the people of this site."""
        append_line(self.output / EVENTS, line)

    def finish(self) -> None:
        """Note that the federation is over."""
        write_text(self.output / FINISHED, f"{self.agreement.name}: {', '.join(self.agreement.networks)}\n")
