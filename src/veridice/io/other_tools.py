"""Lesion masks of other tools in their own folders: BIDS derivatives, LST-AI, SAMSEG, nnU-Net."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from veridice.config import LESION
from veridice.errors import InputError
from veridice.io.bids_dataset import BidsScan
from veridice.io.image_header import SUFFIXES

SAMSEG_LESION = 99
"""Label of white-matter lesions in SAMSEG's ``seg.mgz``."""
LESION_LABELS = {"lesion", "lesions", "wmh", "wml", "l", "lst"}
OTHER_SPACES = re.compile(r"_space-(?!flair|orig|t1w?|individual|native)[a-z0-9]+", re.IGNORECASE)


@dataclass(frozen=True)
class FoundMask:
    """A mask of another tool.

    Args:
        path: its file.
        label: of lesions where the file holds many labels; None: a mask or probabilities.
    """

    path: Path
    label: int | None = None


class MaskFolder:
    """Masks below a folder, by subject and session.

    Args:
        folder: that exists; BIDS derivatives, results of LST-AI or SAMSEG (a folder each subject), or nnU-Net's predictions.
        desc: only masks with this ``desc-``.
        target: what they are masks of.

    Raises:
        InputError: nothing in it looks like such a mask.
    """

    def __init__(self, folder: Path, desc: str = "", target: str = LESION.target) -> None:
        self.folder, self.desc, self.target = folder, desc, target
        self._by_scan: dict[tuple[str, str], list[FoundMask]] = defaultdict(list)
        for path in sorted(folder.rglob("*")):
            if path.name.endswith(SUFFIXES) and not any(part.startswith(".") for part in path.relative_to(folder).parts):
                self._take(path)
        if not self._by_scan:
            described = f" with desc-{desc}" if desc else ""
            tools = ", *seg-lst.nii.gz, seg.mgz" if target == LESION.target else ""
            raise InputError(
                f"{folder}: no {target} masks found{described}; looked for *_label-{target}_mask.nii.gz{tools} "
                "and files named as the scans are"
            )

    def _take(self, path: Path) -> None:
        place = path.relative_to(self.folder).as_posix()
        subject, session = _entity("sub", place), _entity("ses", place)
        if not subject or OTHER_SPACES.search(path.name):
            return
        if self.desc and _entity("desc", path.name) != self.desc:
            return
        if path.name in ("seg.mgz", "seg.nii.gz") and self.target == LESION.target:
            self._by_scan[subject, session].append(FoundMask(path, SAMSEG_LESION))
        elif _is_mask_of(self.target, path.name) or path.parent == self.folder:
            self._by_scan[subject, session].append(FoundMask(path))

    def of(self, scan: BidsScan) -> FoundMask:
        """The mask of a scan.

        Raises:
            InputError: there is none, or which one is meant cannot be told.
        """
        found = self._by_scan.get((scan.subject, scan.session), [])
        # A tool that knows no sessions.
        found = found or self._by_scan.get((scan.subject, ""), [])
        best = _best(found, scan)
        if not best:
            raise InputError(f"{self.folder}: no mask of {scan.name}; segment it, or leave it out (--participant-label)")
        if len(best) > 1:
            names = ", ".join(mask.path.name for mask in best[:3])
            raise InputError(f"{self.folder}: several masks of {scan.name} ({names}); say which with --masks DIR:desc")
        return best[0]


def find_masks(text: str, dataset: Path, target: str = LESION.target) -> MaskFolder:
    """The masks that ``DIR`` or ``DIR:desc`` names; a folder whose name has a colon is taken as it is.

    Args:
        text: relative to the current folder or, where there is none, to the data set.
        dataset: root of the BIDS data set.
        target: what they are masks of.

    Raises:
        InputError: there is no such folder in either, or nothing in it looks like such a mask.
    """
    folder, _, desc = text.rpartition(":")
    for name, described in ((text, ""), (folder, desc)):
        for place in (Path(name).absolute(), dataset.absolute() / name):
            if name and place.is_dir():
                return MaskFolder(place, described, target)
    places = (Path(folder or text).absolute(), dataset.absolute() / (folder or text))
    names = " nor ".join(str(place) for place in dict.fromkeys(places))
    raise InputError(f"--masks {text}: no such folder of masks: looked for {names}; check the path")


def _entity(name: str, text: str) -> str:
    """Value of the last ``name-value`` in a path, empty where there is none."""
    found = re.findall(rf"(?:^|[/_]){name}-([A-Za-z0-9]+)", text)
    return found[-1] if found else ""


def _is_mask_of(target: str, name: str) -> bool:
    stem = name.split(".")[0]
    if stem.endswith("seg-lst") and target == LESION.target:
        return "desc-annotated" not in stem
    label, suffix = _entity("label", stem).lower(), stem.rpartition("_")[2]
    return label in (LESION_LABELS if target == LESION.target else {target}) and suffix in ("mask", "dseg", "seg", "probseg")


def _best(found: Sequence[FoundMask], scan: BidsScan) -> list[FoundMask]:
    """What is left of several after each preference that not all fail: of this run, undescribed, binary, on the FLAIR."""
    entities = set(scan.name.split("_"))
    preferences = (
        lambda name: name.split(".")[0] in (scan.name, f"{scan.name}_FLAIR"),
        lambda name: entities <= set(name.split(".")[0].split("_")),
        lambda name: "_desc-" not in name and not name.startswith("desc-"),
        lambda name: "probseg" not in name,
        lambda name: re.search("space-(flair|orig)", name, re.IGNORECASE) is not None,
    )
    best = list(found)
    for preferred in preferences:
        best = [mask for mask in best if preferred(mask.path.name)] or best
    return best
