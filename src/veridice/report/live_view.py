"""A scan with its mask and maps in a notebook, to move through. Needs the extra ``review``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nibabel as nib
import numpy as np

from veridice.config import LESION, Task
from veridice.errors import InputError
from veridice.imaging.volume import Volume

SHOWN = {
    "entropy": ("inferno", 0.1),
    "missed": ("cool", 0.1),
    "false_positive": ("hot", 0.1),
}
"""Colour map and lowest shown value of maps."""
PROBABILITY = ("viridis", 0.05)


def live_view(flair: Volume, t1: Volume | None, volumes: Mapping[str, Volume], task: Task = LESION) -> Any:
    """A widget of ipyniivue with the layers of the desk; the judged mask is seen at first, the others have no opacity yet.

    Args:
        flair, t1: of the scan.
        volumes: maps in the FLAIR's grid, by name.
        task: what was judged.

    Raises:
        InputError: ipyniivue is not installed.
    """
    try:
        from ipyniivue import NiiVue
    except ModuleNotFoundError as error:
        raise InputError("view() needs ipyniivue: pip install 'veridice[review]'") from error
    judged = "input_mask" if "input_mask" in volumes else task.own_mask
    layers = [_layer(task.reference, flair, "gray", 1.0)]
    layers += [_layer("T1w", t1, "gray", 0.0)] if t1 is not None else []
    for name, (colours, low) in {task.probability: PROBABILITY, **SHOWN}.items():
        if name in volumes:
            layers.append(_layer(name, volumes[name], colours, 0.0, cal_min=low, cal_max=1.0))
    for name, colour in (("input_mask", "red"), (task.own_mask, "blue")):
        if name in volumes:
            layers.append(_layer(name, volumes[name], colour, 0.6 if name == judged else 0.0, cal_min=0.0, cal_max=1.0))
    widget = NiiVue()
    widget.load_volumes(layers)
    return widget


def _layer(name: str, volume: Volume, colours: str, opacity: float, **limits: float) -> dict[str, Any]:
    voxels = volume.voxels.astype(np.uint8) if volume.voxels.dtype == bool else volume.voxels.astype(np.float32)
    content = nib.Nifti1Image(voxels, volume.affine).to_bytes()
    return {"name": f"{name}.nii", "data": content, "colormap": colours, "opacity": opacity, **limits}
