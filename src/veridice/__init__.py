"""Can this lesion mask be trusted? Predicted Dice, maps of doubt and a verdict for lesion segmentations.

>>> flair, t1 = read_image(Path("FLAIR.nii.gz")), read_image(Path("T1w.nii.gz"))
>>> result = assess_scan("sub-01", flair, t1, None, load_networks(bundled_weights()), InferenceSettings())
>>> result.assessment.predicted_dice
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from veridice._version import __version__
from veridice.case import Assessment
from veridice.config import InferenceSettings
from veridice.errors import VeridiceError
from veridice.imaging.volume import Geometry, Volume
from veridice.io.nifti import read_image, read_mask, write_image
from veridice.metrics.overlap import dice

if TYPE_CHECKING:
    from veridice.assessment.assess import AssessmentResult, assess_scan
    from veridice.assessment.models import load_networks
    from veridice.io.weight_cards import bundled_weights

# What needs torch is imported on first use, so that stored results can be read on a machine without it.
_NEEDS_TORCH = {
    "AssessmentResult": "veridice.assessment.assess",
    "assess_scan": "veridice.assessment.assess",
    "load_networks": "veridice.assessment.models",
    "bundled_weights": "veridice.io.weight_cards",
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
    "dice",
    "load_networks",
    "read_image",
    "read_mask",
    "write_image",
]


def __getattr__(name: str) -> Any:
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module 'veridice' has no attribute '{name}'")
    return getattr(importlib.import_module(_NEEDS_TORCH[name]), name)
