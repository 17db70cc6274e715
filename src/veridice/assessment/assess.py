"""One scan end to end: volumes in, judgement and maps out. The heart of the package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from veridice._version import __version__
from veridice.assessment.analysis import OWN, MaskAnalysis, analyse_mask, analyse_scan
from veridice.assessment.decide import (
    Decision,
    calibration_warnings,
    decide_all,
    limits_of,
    ood_warnings,
    quality_chances,
    rank,
    ranking,
    unfamiliarity,
    worth,
)
from veridice.assessment.models import Models, describe_model
from veridice.assessment.result import AssessmentResult
from veridice.case import Assessment, Calibration, Notice
from veridice.config import LESION, InferenceSettings, Task
from veridice.errors import GeometryError
from veridice.imaging.scan import GivenMask, Scan
from veridice.imaging.volume import Volume
from veridice.inference.passes import choose_backend
from veridice.metrics.parts import label_map
from veridice.metrics.scores import lesion_volume_ml
from veridice.metrics.shadowed_sets import shadow_labels
from veridice.progress import Clock, OnStep
from veridice.quality.critic_evidence import error_maps
from veridice.quality.lesion_places import by_place, places_of
from veridice.quality.model import QualityModel
from veridice.quality.scan_analysis import ScanAnalysis
from veridice.quality.single_lesions import Lesion, describe_lesions, label_lesions, missed_mask
from veridice.types import Mask, Numbers, ProbabilityMap


def assess_scan(
    case: str,
    flair: Volume,
    t1: Volume | None,
    mask: Volume | None,
    models: Models,
    settings: InferenceSettings,
    on_step: OnStep | None = None,
) -> AssessmentResult:
    """Judge our own segmentation of a scan, or a given one.

    Args:
        case: name of the scan.
        flair: the scan; all maps come back in its grid.
        t1: on the same grid; zeros take its place when absent, with a warning.
        mask: boolean, on the same grid; judged instead of our own segmentation.
        models: from :func:`load_models`.
        settings: passes, seed, device, threshold.
        on_step: called after each stochastic pass.

    Raises:
        GeometryError: T1w or mask lie on another grid.
        InputError: nothing can be judged in this image.
    """
    _require_grid(flair, t1, "T1w", "register and resample the T1w to the FLAIR first (for example with flirt)")
    _require_grid(flair, mask, "mask", "resample it with nearest neighbour first")
    given = [] if mask is None else [GivenMask("mask", mask)]
    return assess_masks(case, Scan(flair, t1), given, models, settings, on_step)


def assess_masks(
    case: str,
    scan: Scan,
    masks: Sequence[GivenMask],
    models: Models,
    settings: InferenceSettings,
    on_step: OnStep | None = None,
) -> AssessmentResult:
    """Judge our own segmentation of a scan, a given one, or several, of which the best is described and all are ranked.

    Args:
        case: name of the scan.
        scan: from :func:`veridice.io.scan_reader.read_scan`.
        masks: to judge; none: our own.
        models: from :func:`load_models`.
        settings: passes, seed, device, threshold.
        on_step: called after each stochastic pass.

    Raises:
        InputError: nothing can be judged in this image.
    """
    if models.quality is None:
        raise ValueError("these models cannot judge; load them with load_models(folder)")
    clock = Clock()
    backend = choose_backend(settings)
    analysis = analyse_scan(scan, models, settings, backend, clock, on_step)
    mask_analyses = [analyse_mask(mask, analysis, models, backend, clock) for mask in masks or (None,)]
    limits = limits_of(settings, analysis, models.task)
    with clock.stage("verdict"):
        unusual = ood_warnings(analysis, models.quality)
        known = not (analysis.doubts or unusual)
        ranked = rank(decide_all(mask_analyses, analysis, models.quality, settings.coverage, limits, known))
    decision, best = ranked[0][0], ranked[0][0].mask_analysis
    native, lesions = _shown(best, analysis, models.task, settings, clock)
    doubts = tuple(Notice(code, f"{text}; no mask is accepted unseen") for code, text in analysis.doubts)
    doubtful = calibration_warnings(models.quality.calibration, settings, limits)
    notices = (*analysis.warnings, *doubts, *best.warnings, *unusual, *doubtful)
    assessment = Assessment(
        case=case,
        **_of_decision(decision, analysis, models.quality, models.task, limits.min_dice, known),
        coverage=settings.coverage,
        volumes_ml=_volumes_ml(best, analysis, lesions.missed, models.task),
        passes_volumes_ml=tuple(round(float(volume), 5) for volume in passes_volumes_ml(analysis)),
        lesions_by_place=lesions.by_place,
        task=models.task,
        ranking=ranking(ranked, scan.flair.geometry.voxel_volume_ml) if len(masks) > 1 else (),
        warnings=tuple(models.task.say(notice.text) for notice in notices),
        warning_codes=tuple(notice.code for notice in notices),
        maps={},
        seconds=clock.seconds,
        model=describe_model(models, settings, limits, decision.max_gross, backend.for_network(models.segmenter)),
        version=__version__,
    )
    return AssessmentResult(
        assessment=assessment,
        scan=scan,
        volumes=native,
        found=lesions.found,
        missed=lesions.missed,
        places=lesions.places,
        lesion_model=models.quality.lesions,
        transform=analysis.transform,
        preprocessing=analysis.preprocessing,
    )


@dataclass(frozen=True)
class _Lesions:
    """Lesions of a mask and places that look missed, and where each of both lies, in this order; none of another target."""

    found: Sequence[Lesion] = ()
    missed: Sequence[Lesion] = ()
    places: Sequence[str] = ()

    @property
    def by_place(self) -> dict[str, dict[str, float]]:
        """Count and volume of those that were found; nothing, where no anatomy is known."""
        return by_place(self.places[: len(self.found)], [lesion.volume_ml for lesion in self.found]) if self.places else {}


def _shown(
    best: MaskAnalysis, analysis: ScanAnalysis, task: Task, settings: InferenceSettings, clock: Clock
) -> tuple[dict[str, Volume], _Lesions]:
    """Maps in the scan's grid by name, and the lesions."""
    with clock.stage("native_maps"):
        native = native_maps(best, analysis, task)
        if settings.shadow:
            native["shadow"] = Volume(shadow_labels(analysis.probability), analysis.geometry)
    if not task.scattered:
        return native, _Lesions()
    with clock.stage("lesions"):
        lesions, native["lesion_numbers"] = _listed(best, analysis)
    return native, lesions


def _listed(best: MaskAnalysis, analysis: ScanAnalysis) -> tuple[_Lesions, Volume]:
    """The lesions, and the map of their numbers."""
    numbers, found, missed = list_lesions(best.mask, analysis, best.chance)
    places = lesion_places(numbers, len(found) + len(missed), analysis)
    return _Lesions(found, missed, places), Volume(numbers, analysis.geometry)


def _of_decision(
    decision: Decision, analysis: ScanAnalysis, quality: QualityModel, task: Task, min_dice: float, known: bool
) -> dict[str, Any]:
    """What an assessment takes over from the decision on its mask."""
    best, calibration = decision.mask_analysis, quality.calibration
    # Good, fair and poor have limits for lesions.
    chances = quality_chances(decision, calibration, known) if task.name == LESION.name else {}
    return {
        "verdict": decision.verdict,
        "predicted_dice": decision.predicted_dice,
        "interval": decision.interval,
        "for_review": not known,
        "decided_by": decision.decided_by,
        "quality_class": max(chances, key=lambda name: chances[name]) if chances else None,
        "quality_chances": chances,
        "p_values": decision.p_values,
        "judged_mask": best.name,
        "calibration": Calibration(
            source=calibration.source, n=calibration.n, simulated=calibration.simulated, sha256=calibration.checksum
        ),
        "scores": {
            **best.scores,
            "predicted_spread": decision.spread,
            **passes_volume(analysis),
            "unfamiliarity": unfamiliarity(analysis, quality),
            **worth(decision, calibration, min_dice, known),
        },
    }


def passes_volumes_ml(analysis: ScanAnalysis) -> Numbers:
    """Lesion volume that each stochastic pass draws (passes,)."""
    return np.asarray(analysis.samples.sizes * analysis.geometry.voxel_volume_ml)


def passes_volume(analysis: ScanAnalysis) -> dict[str, float | None]:
    """Their mean and deviation."""
    volumes = passes_volumes_ml(analysis)
    return {"passes_volume_ml": float(volumes.mean()), "passes_volume_deviation_ml": float(volumes.std(ddof=1))}


def _volumes_ml(judged: MaskAnalysis, analysis: ScanAnalysis, missed: Sequence[Lesion], task: Task) -> dict[str, float]:
    masks = {"judged_mask": judged.mask, "own_mask": analysis.own}
    if task.whole_head:
        masks["brain"] = analysis.native_brain
    masks |= {f"judged_{name}": part for name, part in zip(task.parts, judged.parts, strict=False)}
    volumes = {name: lesion_volume_ml(mask, analysis.geometry.voxel_volume_ml) for name, mask in masks.items()}
    return {**volumes, "looks_missed": sum(lesion.volume_ml for lesion in missed)} if task.scattered else volumes


def list_lesions(
    mask: Mask, analysis: ScanAnalysis, chance: ProbabilityMap | None = None
) -> tuple[np.ndarray[Any, np.dtype[np.int16]], list[Lesion], list[Lesion]]:
    """Label map (int16, FLAIR's grid), lesions of the mask, and places that look missed, numbered after them.

    Args:
        mask: (x, y, z).
        analysis: of the scan.
        chance: of a lesion in each voxel, by the critic, which saw this mask; None without one.
    """
    labels, count = label_lesions(mask)
    missed, missed_count = label_lesions(missed_mask(mask, analysis))
    numbers = np.where(missed > 0, missed + count, labels)
    found = describe_lesions(numbers, count + missed_count, analysis.scan.flair.voxels, analysis, chance)
    return numbers.astype(np.int16), found[:count], found[count:]


def lesion_places(numbers: np.ndarray[Any, Any], count: int, analysis: ScanAnalysis) -> list[str]:
    """Place of each lesion and of each that looks missed, in the order of their numbers; none, where no anatomy is known."""
    if analysis.tissue is None:
        return []
    return places_of(numbers, count, analysis.tissue, analysis.transform)


def native_maps(mask_analysis: MaskAnalysis, analysis: ScanAnalysis, task: Task) -> dict[str, Volume]:
    """Maps back in the FLAIR's grid; a mask of several parts has their labels."""
    maps, transform = mask_analysis.maps, analysis.transform
    on_grid = {
        "entropy": maps.entropy,
        "variance": maps.variance,
        "mutual_information": maps.mutual_information,
        "reconstruction": mask_analysis.reconstruction,
        "reconstruction_error": maps.error,
    }
    native = {name: Volume(transform.to_native(voxels), transform.native) for name, voxels in on_grid.items()}
    native[task.probability] = Volume(analysis.probability, transform.native)
    native[task.own_mask] = Volume(label_map([part.own for part in analysis.each_part], task), transform.native)
    if task.whole_head:
        native["brain_mask"] = Volume(analysis.native_brain, transform.native)
    if mask_analysis.chance is not None:
        false, missed = error_maps(mask_analysis.mask, mask_analysis.chance)
        native |= {"false_positive": Volume(false, transform.native), "missed": Volume(missed, transform.native)}
    if mask_analysis.name != OWN:
        native["input_mask"] = Volume(label_map(mask_analysis.parts, task), transform.native)
    return native


def _require_grid(flair: Volume, other: Volume | None, name: str, mend: str) -> None:
    if other is not None and not other.geometry.same_grid(flair.geometry):
        raise GeometryError(
            f"the {name}'s grid is {other.geometry.describe()}, the FLAIR's is {flair.geometry.describe()}; {mend}"
        )
