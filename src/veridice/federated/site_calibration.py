"""A site's own masks of every quality, judged by the common networks, of people from whom no network learnt. No Flower."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from veridice.assessment.models import load_models
from veridice.case import Case
from veridice.config import LESION, InferenceSettings
from veridice.errors import InputError
from veridice.progress import counted
from veridice.quality.calibration import CalibrationSet
from veridice.training.assessed_masks import ScanToJudge, assess_all, other_patients, real_scan
from veridice.training.people import DAMAGED, GRADED, people_calibration, scan_table, with_unfamiliarity
from veridice.training.quality_model import other_targets
from veridice.training.settings import TrainingSettings


def site_calibration(settings: TrainingSettings, cases: Sequence[Case], weights: Path, folder: Path) -> CalibrationSet:
    """Judge masks of the people of the split ``test``: our own, damaged and graded ones; what these weights judged is kept.

    Args:
        settings: of the training.
        cases: of the site.
        weights: complete ones.
        folder: of the site; masks go to a folder of these weights in it, one file a scan.

    Raises:
        InputError: there are no such people, or none of their masks can be judged.
        WeightsError: the networks are for another cube than the judge.
    """
    apart = [case for case in cases if case.split == "test"]
    if not apart:
        raise InputError("the manifest has nobody of split 'test', from whose masks the common decision is made")
    task = settings.data.task
    models = load_models(weights, task=task)
    assert models.quality is not None  # noqa: S101 (asked for)
    shapes = other_patients(models.grid_shape[0]) if task.name == LESION.name else other_targets(settings, cases)
    tasks = [ScanToJudge(case.id, partial(real_scan, case, settings.data, -1), models, ()) for case in apart]
    checksums = {name: card.sha256 for name, card in models.cards.items()}
    place = folder / f"masks-{hashlib.sha256(repr(sorted(checksums.items())).encode()).hexdigest()[:12]}"
    inference = InferenceSettings(passes=settings.predictor.passes)
    with counted("masks", len(tasks)) as on_step:
        judged = assess_all(tasks, shapes, DAMAGED, settings.seed, inference, place, 1, on_step, graded=GRADED)
    told = with_unfamiliarity(judged.masks, scan_table(judged.scans.to_dict("records")), models.quality.ood)
    made = people_calibration(models.quality.predictor, told, inference.passes, simulated=False)
    return made.model_copy(update={"weights": checksums})
