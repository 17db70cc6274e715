"""What every object that is written has in common: who made it, stable names, codes. Needs the extra ``dicom``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from highdicom import AlgorithmIdentificationSequence
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID

from veridice._version import __version__

MAKER, MODEL = "veridice", "veridice"
DISCLAIMER = "Research use only. Not a medical device."
PRIVATE_SCHEME = "99VERIDICE"
FIRST_SERIES_NUMBER = 7700
"""Ours come after it, where the numbers are free: archives have taken two series of one number for one."""


def private(value: str, meaning: str) -> Code:
    """A code of our own, where there is none in the common ones."""
    return Code(value, PRIVATE_SCHEME, meaning)


SCHEMES = [
    CodingSchemeIdentificationItem(PRIVATE_SCHEME, "Codes of veridice", version=__version__, responsible_organization=MAKER)
]
PREDICTED_DICE = private("predicted-dice", "Predicted Dice of the segmentation")
DICE_LOW = private("dice-interval-low", "Lower end of the interval of the Dice")
DICE_HIGH = private("dice-interval-high", "Upper end of the interval of the Dice")
DICE_COVERAGE = private("dice-interval-coverage", "Share of true values inside such intervals")
DICE_NEEDED = private("dice-needed", "Dice that a segmentation needs to be of use")
MAX_MISSED = private("max-missed", "Of the segmentations below it, share that may be accepted")
UNFAMILIARITY = private("unfamiliarity", "How unlike all known scans, above 1 unknown")
VERDICT = private("verdict", "Whether the segmentation can be trusted")
VERDICTS = {
    "accept": private("accept", "Accept: good enough"),
    "review": private("review", "Review: a person has to look"),
    "reject": private("reject", "Reject: not good enough"),
}
ENTROPY = private("entropy", "Entropy of the probability of a lesion")
BIT = Code("bit", "UCUM", "bit")
LESION, WHITE_MATTER = codes.SCT.Lesion, codes.SCT.CerebralWhiteMatter
ABNORMAL = codes.SCT.MorphologicallyAbnormalStructure


def stable_uid(*parts: str) -> UID:
    """A UID that follows from its parts alone, so that the same result sent twice is one object (PS3.5, B.2)."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    # A random UUID's form, as the standard wants it of this root.
    number = int.from_bytes(digest[:16], "big") & ~(0xF << 76) | (4 << 76)
    return UID(f"2.25.{number & ~(0x3 << 62) | (0x2 << 62)}")


@dataclass(frozen=True)
class Making:
    """Who makes the objects of one judgement, and from what.

    Args:
        study: its UID.
        weights: SHA-256 of each network.
        judged: UIDs of the images that were judged, and what else the result rests on.
        taken: series numbers of the study.
        revision: how often results of the study took the place of earlier ones.
    """

    study: str
    weights: dict[str, str]
    judged: Sequence[str]
    taken: Sequence[int] = ()
    revision: int = 0

    @property
    def key(self) -> str:
        """Names the judgement: the same study, images and weights give the same."""
        parts = [
            self.study,
            __version__,
            str(self.revision),
            *(f"{k}={v}" for k, v in sorted(self.weights.items())),
            *self.judged,
        ]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def uid(self, what: str) -> UID:
        """Of an object or a series of this judgement."""
        return stable_uid(self.key, what)

    def series_number(self, order: int) -> int:
        """The ``order``-th number, from 0 on, that no series of the study has."""
        free = (number for number in range(FIRST_SERIES_NUMBER, 10**6) if number not in self.taken)
        return next(number for place, number in enumerate(free) if place == order)

    @property
    def parameters(self) -> dict[str, str]:
        """What tells this algorithm from others of its version: checksums of its weights."""
        return {f"{name}_sha256": value for name, value in sorted(self.weights.items())}

    @property
    def algorithm(self) -> AlgorithmIdentificationSequence:
        return AlgorithmIdentificationSequence(
            name=MODEL, family=codes.DCM.ArtificialIntelligence, version=__version__, source=MAKER, parameters=self.parameters
        )

    def common(self, series: str, order: int, instance: int = 1) -> dict[str, Any]:
        """Arguments that highdicom wants of every object."""
        return {
            "series_instance_uid": self.uid(f"series {series}"),
            "series_number": self.series_number(order),
            "sop_instance_uid": self.uid(f"{series} {instance}"),
            "instance_number": instance,
            "manufacturer": MAKER,
            "series_description": f"veridice {series} (research)",
        }

    @property
    def device(self) -> dict[str, Any]:
        """The same of those that name a device."""
        serial = hashlib.sha256("".join(self.parameters.values()).encode()).hexdigest()[:16]
        return {"manufacturer_model_name": MODEL, "software_versions": __version__, "device_serial_number": serial}


def finished(dataset: Dataset) -> Dataset:
    """The object as it is stored: with the preamble that archives look for, and the part of the body."""
    if dataset.Modality not in ("SR", "KO"):
        dataset.BodyPartExamined = "BRAIN"
    dataset.preamble = b"\0" * 128
    dataset.ManufacturerModelName = MODEL
    return dataset
