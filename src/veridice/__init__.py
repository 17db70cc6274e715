"""Can this lesion mask be trusted? Predicted Dice, maps of doubt and a verdict for lesion segmentations.

>>> import veridice
>>> result = veridice.check("FLAIR.nii.gz", t1="T1w.nii.gz", mask="lesions.nii.gz")  # doctest: +SKIP
>>> result.verdict, result.predicted_dice, result.interval  # doctest: +SKIP
('review', 0.78, (0.65, 0.87))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from veridice._version import __version__

if TYPE_CHECKING:
    from veridice.assessment.assess import assess_scan
    from veridice.assessment.check import check
    from veridice.assessment.models import load_models
    from veridice.assessment.result import AssessmentResult
    from veridice.case import Assessment
    from veridice.config import InferenceSettings
    from veridice.errors import VeridiceError
    from veridice.imaging.volume import Geometry, Volume
    from veridice.io.nifti import read_image, read_mask, write_image
    from veridice.io.weight_cards import bundled_weights
    from veridice.metrics.overlap import dice

# Imported on first use: the command line answers at once, and stored results can be read on a machine without torch.
_WHERE = {
    "Assessment": "veridice.case",
    "AssessmentResult": "veridice.assessment.result",
    "Geometry": "veridice.imaging.volume",
    "InferenceSettings": "veridice.config",
    "VeridiceError": "veridice.errors",
    "Volume": "veridice.imaging.volume",
    "assess_scan": "veridice.assessment.assess",
    "bundled_weights": "veridice.io.weight_cards",
    "check": "veridice.assessment.check",
    "dice": "veridice.metrics.overlap",
    "load_models": "veridice.assessment.models",
    "read_image": "veridice.io.nifti",
    "read_mask": "veridice.io.nifti",
    "write_image": "veridice.io.nifti",
}

__all__ = [
    "Assessment",
    "AssessmentResult",
    "Geometry",
    "InferenceSettings",
    "VeridiceError",
    "Volume",
    "__version__",
    "assess_scan",
    "bundled_weights",
    "check",
    "dice",
    "load_models",
    "read_image",
    "read_mask",
    "write_image",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'veridice' has no attribute '{name}'")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__
