"""Several masks of one scan, each judged: the scan is analysed once, whatever their number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from veridice._version import __version__
from veridice.assessment.check import Request, with_calibration
from veridice.config import Frozen, InferenceSettings
from veridice.errors import VeridiceError
from veridice.imaging.scan import GivenMask, Scan
from veridice.imaging.volume import Volume
from veridice.io.atomic import write_json
from veridice.io.bids import file_stem, write_maps
from veridice.io.mask_values import MaskLabel
from veridice.io.scan_reader import read_given_mask, read_scan
from veridice.metrics.overlap import dice
from veridice.progress import Clock
from veridice.report.thumbnail import write_thumbnail
from veridice.types import Mask, Numbers

if TYPE_CHECKING:
    from veridice.assessment.models import Models

OWN, OWN_TOOL = "own", "veridice"
"""What our own mask is called by itself, and among those of tools."""
COMPARISON_SUFFIX = "_comparison.json"
HALF = 0.5
STAPLE, WEIGHTED = "consensus (STAPLE)", "consensus (weighted)"
BEST, CONSENSUS = SELECTED = "best_mask", "consensus_mask"
"""Maps that a comparison may write."""


@dataclass(frozen=True)
class Comparing:
    """What is to be compared on one scan.

    Args:
        tools: name of the tool that made each mask of the request, in order.
        labels: of lesions in each mask; None: masks or probabilities.
        own: whether our own mask is one of them.
        best, consensus: whether the best mask, or one made of all, is written.
        absent: why a tool has no mask of this scan, by its name.
    """

    tools: tuple[str, ...]
    labels: tuple[MaskLabel | None, ...]
    own: bool
    best: bool
    consensus: bool
    absent: tuple[tuple[str, str], ...] = ()


class ComparedMask(Frozen):
    """One mask of a scan, as it was judged."""

    tool: str
    predicted_dice: float
    spread: float = Field(description="expected size of the error of the predicted Dice")
    interval: tuple[float, float]
    verdict: str
    volume_ml: float
    lesion_count: int
    agreement_with_passes: float = Field(description="mean Dice with our stochastic passes")
    agreement_with_others: float | None = Field(None, description="mean Dice with the other masks, by their predicted Dice")
    warnings: tuple[str, ...] = Field((), description="what a reader should know of this mask")
    thumbnail: str | None = Field(None, description="file beside this one")


class Comparison(Frozen):
    """What came of a scan; stored beside its pictures."""

    case: str
    masks: tuple[ComparedMask, ...] = Field(description="of tools, the best first")
    consensus: tuple[ComparedMask, ...] = Field((), description="made of all masks, the better one first")
    agreement: dict[str, dict[str, float]] = Field(description="Dice of each two masks, by tools")
    problems: dict[str, str] = Field({}, description="why a tool has no mask that could be judged")
    maps: dict[str, str] = Field({}, description="name to file of written masks")
    known: bool = Field(description="whether the scan is of a kind that the models know, without doubts")
    own_volume_ml: float
    slice_mm: float = Field(description="largest edge of a voxel")
    min_dice: float = Field(description="Dice that a mask needs to be of use")
    warnings: tuple[str, ...] = ()
    seconds: dict[str, float] = Field({})
    version: str = __version__


def read_comparison(path: Path) -> Comparison:
    """Read what :func:`compare_files` stored.

    Raises:
        ValueError, OSError: it is missing or something else.
    """
    return Comparison.model_validate_json(path.read_text(encoding="utf-8"))


def compare_files(
    request: Request, comparing: Comparing, stage: Path, load: Callable[[], Models], settings: InferenceSettings
) -> None:
    """Read and judge all masks of a scan; write the comparison, pictures and selected masks into an empty folder.

    A mask that cannot be read is a problem of its tool and not of the scan.

    Args:
        request: files and how to read them.
        comparing: whose masks they are.
        stage: the folder.
        load: gives the networks; called beside the reading of the files.
        settings: passes, seed, device, threshold.

    Raises:
        VeridiceError: the scan cannot be judged, or no mask of it.
    """
    clock = Clock()
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load)
        with clock.stage("read"):
            scan = read_scan(request.flair, request.t1, request.brain_mask, request.registration)
            masks, problems = read_masks(request, comparing, scan)
        models = with_calibration(loading.result(), request.calibration)
    problems = {**dict(comparing.absent), **problems}
    if not masks and not comparing.own:
        raise VeridiceError("; ".join(f"{tool}: {reason}" for tool, reason in problems.items()) or "no tool has a mask")
    with clock.stage("judge"):
        compared = compare_masks(request.case, scan, masks, comparing, models, settings)
    with clock.stage("write"):
        done = _store(compared, stage)
    seconds = {name: round(value, 3) for name, value in clock.seconds.items()}
    comparison = done.model_copy(update={"problems": problems, "seconds": seconds})
    write_json(stage / f"{file_stem(request.case)}{COMPARISON_SUFFIX}", comparison.model_dump(mode="json"))


def read_masks(request: Request, comparing: Comparing, scan: Scan) -> tuple[list[GivenMask], dict[str, str]]:
    """Masks by the names of their tools, and why others could not be read."""
    masks, problems = [], {}
    for tool, label, path in zip(comparing.tools, comparing.labels, request.masks, strict=True):
        try:
            given = read_given_mask(path, scan, request.mask_threshold, label)
        except (VeridiceError, OSError) as error:
            problems[tool] = " ".join(str(error).replace(str(path), path.name).split())
        else:
            masks.append(replace(given, name=tool))
    return masks, problems


@dataclass(frozen=True)
class Compared:
    """A comparison with the voxels that are to be written: masks by tool, selected ones by the name of their map."""

    comparison: Comparison
    scan: Scan
    transform: Any
    masks: Mapping[str, Mask]
    selected: Mapping[str, Mask]


def compare_masks(
    case: str, scan: Scan, masks: Sequence[GivenMask], comparing: Comparing, models: Models, settings: InferenceSettings
) -> Compared:
    """Judge all masks of a scan.

    Args:
        case: name of the scan.
        scan: from :func:`veridice.io.scan_reader.read_scan`.
        masks: named by their tools.
        comparing: whether ours is among them, and what is selected.
        models: from :func:`veridice.load_models`.
        settings: passes, seed, device, threshold.

    Raises:
        InputError: nothing can be judged in this image.
    """
    # Needs torch, which stored comparisons are read without.
    from veridice.assessment.analysis import analyse_mask, analyse_scan
    from veridice.assessment.decide import calibration_warnings, decide_all, limits_of, ood_warnings, rank
    from veridice.inference.passes import choose_backend

    if models.quality is None:
        raise ValueError("these models cannot judge; load them with load_models(folder)")
    quality, clock, backend = models.quality, Clock(), choose_backend(settings)
    analysis = analyse_scan(scan, models, settings, backend, clock, None)
    limits, unusual = limits_of(settings, analysis), ood_warnings(analysis, quality)
    known = not (analysis.doubts or unusual)

    def decide(given: Sequence[GivenMask | None]) -> list[Any]:
        analyses = [analyse_mask(mask, analysis, models, backend, clock) for mask in given]
        return decide_all(analyses, analysis, quality, settings.coverage, limits, known)

    decisions = decide([*masks, *([None] if comparing.own else [])])
    ranked = [(_named(decision), decision, agreement) for decision, agreement in rank(decisions)]
    consensus: list[Any] = []
    if comparing.consensus and len(decisions) > 1:
        made = {name: Volume(mask, scan.flair.geometry) for name, mask in consensus_masks(decisions).items()}
        consensus = sorted(decide([GivenMask(name, mask) for name, mask in made.items()]), key=lambda one: -one.predicted_dice)
    selected = {BEST: ranked[0][1].mask_analysis.mask} if comparing.best else {}
    selected |= {CONSENSUS: consensus[0].mask_analysis.mask} if consensus else {}
    masks_of = {name: decision.mask_analysis.mask for name, decision, _ in ranked}
    doubtful = calibration_warnings(quality.calibration, settings, limits)
    voxel_ml = scan.flair.geometry.voxel_volume_ml
    comparison = Comparison(
        case=case,
        masks=tuple(_compared(name, decision, voxel_ml, agreement) for name, decision, agreement in ranked),
        consensus=tuple(_compared(decision.mask_analysis.name, decision, voxel_ml, None) for decision in consensus),
        agreement=agreement_table(masks_of),
        known=known,
        own_volume_ml=float(analysis.own.sum() * voxel_ml),
        slice_mm=float(max(scan.flair.geometry.voxel_spacing)),
        min_dice=limits.min_dice,
        warnings=tuple(notice.text for notice in (*analysis.warnings, *analysis.doubts, *unusual, *doubtful)),
    )
    return Compared(comparison, scan, analysis.transform, masks_of, selected)


def _named(decision: Any) -> str:
    return OWN_TOOL if decision.mask_analysis.name == OWN else str(decision.mask_analysis.name)


def _compared(tool: str, decision: Any, voxel_ml: float, agreement: float | None) -> ComparedMask:
    analysed = decision.mask_analysis
    return ComparedMask(
        tool=tool,
        predicted_dice=decision.predicted_dice,
        spread=decision.spread,
        interval=decision.interval,
        verdict=decision.verdict,
        volume_ml=float(analysed.mask.sum() * voxel_ml),
        lesion_count=int(analysed.scores["lesion_count"] or 0),
        agreement_with_passes=float(analysed.scores["agreement_mean"] or 0.0),
        agreement_with_others=agreement,
        warnings=tuple(notice.text for notice in analysed.warnings),
    )


def agreement_table(masks: Mapping[str, Mask]) -> dict[str, dict[str, float]]:
    """Dice of each two masks, by their names."""
    table: dict[str, dict[str, float]] = {name: {} for name in masks}
    for first, second in combinations(masks, 2):
        table[first][second] = table[second][first] = dice(masks[first], masks[second]).dice
    return table


def consensus_masks(decisions: Sequence[Any]) -> dict[str, Mask]:
    """One mask made of all, in two ways: STAPLE (Warfield et al. 2004), and a vote in which each counts by its predicted Dice.

    Args:
        decisions: of the masks of one scan, at least two.
    """
    masks = [decision.mask_analysis.mask for decision in decisions]
    weights = np.array([max(decision.predicted_dice, 0.01) for decision in decisions])
    return {STAPLE: staple(masks), WEIGHTED: weighted_vote(masks, weights)}


def weighted_vote(masks: Sequence[Mask], weights: Numbers) -> Mask:
    """Where at least half of the weight says lesion."""
    votes = np.zeros(masks[0].shape)
    for mask, weight in zip(masks, weights, strict=True):
        votes += weight * mask
    return np.asarray(votes >= HALF * weights.sum())


def staple(masks: Sequence[Mask]) -> Mask:
    """SimpleITK's STAPLE, on the box around all marked voxels: outside of it all masks agree."""
    import SimpleITK as sitk

    marked = np.logical_or.reduce(masks)
    if not marked.any():
        return marked
    # With a rim, so that there is a background too.
    box = tuple(slice(max(0, int(index.min()) - 1), int(index.max()) + 2) for index in np.nonzero(marked))
    images = [sitk.GetImageFromArray(mask[box].astype(np.uint8)) for mask in masks]
    probability = sitk.GetArrayFromImage(sitk.STAPLE(images, 1.0))
    if not np.isfinite(probability).all():  # where next to nothing disagrees the estimate may lose its footing
        return weighted_vote(masks, np.ones(len(masks)))
    found = np.zeros(marked.shape, bool)
    found[box] = probability >= HALF
    return found


def _store(compared: Compared, stage: Path) -> Comparison:
    """Pictures and selected masks; returns the comparison that names them."""
    comparison, flair = compared.comparison, compared.scan.flair
    stem, pictures = file_stem(comparison.case), {}
    for number, (tool, mask) in enumerate(compared.masks.items(), start=1):
        pictures[tool] = f"{stem}_mask-{number}_thumbnail.png"
        write_thumbnail(flair, flair.with_voxels(mask), compared.transform, stage / pictures[tool])
    volumes = {name: flair.with_voxels(mask) for name, mask in compared.selected.items()}
    made_of = {
        BEST: comparison.masks[0].tool,
        CONSENSUS: comparison.consensus[0].tool if comparison.consensus else "",
    }
    files: dict[str, str] = {}
    for name, volume in volumes.items():
        about: dict[str, Any] = {"Selected": made_of[name], "SelectedFrom": [mask.tool for mask in comparison.masks]}
        about |= {"GeneratedBy": {"Name": "veridice compare", "Version": __version__}}
        files |= write_maps(stage, comparison.case, {name: volume}, about)
    masks = tuple(mask.model_copy(update={"thumbnail": pictures[mask.tool]}) for mask in comparison.masks)
    return comparison.model_copy(update={"masks": masks, "maps": files})
