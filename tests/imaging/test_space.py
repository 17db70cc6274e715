"""Which grids lie in one space, and what is said of two that do not."""

from __future__ import annotations

import numpy as np
import pytest

from veridice.errors import GeometryError
from veridice.imaging.space import difference, named_template, require_one_space, template_of
from veridice.imaging.volume import Geometry

TURNED = np.array([[0.89, -0.07, -0.53, -100.5], [0.07, 0.9, -0.15, -124.5], [0.07, 0.01, 7.18, -82.6], [0, 0, 0, 1]])
FLAIR = Geometry((256, 256, 18), TURNED)


def straight(size: float, *origin: float, side: int = 1) -> np.ndarray:
    affine = np.diag([side * size, size, size, 1.0])
    affine[:3, 3] = origin
    return affine


TEMPLATES = {
    "FSL 1 mm": Geometry((182, 218, 182), straight(1, 90, -126, -72, side=-1)),
    "FSL 2 mm": Geometry((91, 109, 91), straight(2, 90, -126, -72, side=-1)),
    "fMRIPrep": Geometry((193, 229, 193), straight(1, -96, -132, -78)),
    "ICBM": Geometry((197, 233, 189), straight(1, -98, -134, -72)),
    "SPM 1.5 mm": Geometry((121, 145, 121), straight(1.5, 90, -126, -72, side=-1)),
    "BraTS": Geometry((240, 240, 155), np.diag([-1.0, -1, 1, 1]) + np.array([[0] * 4, [0, 0, 0, 239], [0] * 4, [0] * 4])),
    "by its code": Geometry((100, 100, 80), TURNED, "Talairach"),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_are_refused_by_that_word(name: str) -> None:
    with pytest.raises(GeometryError, match=r"^m: lies in the space of a template \("):
        require_one_space("m", TEMPLATES[name], FLAIR)


def test_a_scan_on_a_template_may_have_masks_there() -> None:
    require_one_space("m", TEMPLATES["FSL 2 mm"], TEMPLATES["FSL 1 mm"])
    assert template_of(FLAIR) == ""


@pytest.mark.parametrize(
    ("name", "template"),
    [
        ("sub-1_space-MNI152NLin6Asym_label-lesion_mask.nii.gz", "MNI"),
        ("lesions_MNI.nii.gz", "MNI"),
        ("lesions2mni152.nii.gz", "MNI"),
        ("sub-1_space-fsaverage_mask.nii.gz", "space-fsaverage"),
        ("sub-1_space-T1w_mask.nii.gz", ""),
        ("minimum.nii.gz", ""),
        ("omnivore.nii.gz", ""),
    ],
)
def test_names_that_say_a_template(name: str, template: str) -> None:
    assert named_template(name) == template


def test_grids_that_hardly_overlap_are_refused() -> None:
    away = TURNED.copy()
    away[0, 3] += 200
    with pytest.raises(GeometryError, match=r"hardly overlaps .* 200\.00 mm away"):
        require_one_space("m", Geometry(FLAIR.shape, away), FLAIR)
    require_one_space("m", Geometry((30, 30, 9), TURNED @ straight(1, 90, 90, 5)), FLAIR)


def test_voxels_in_another_order_than_their_header_says_are_refused() -> None:
    with pytest.raises(GeometryError, match="another order than its header says"):
        require_one_space(
            "m", Geometry((18, 256, 256), np.diag([4.0, 4, 4, 1])), Geometry((256, 256, 18), np.diag([4.0, 4, 4, 1]))
        )


def test_a_difference_names_what_differs_alone() -> None:
    moved = TURNED.copy()
    moved[:3, 3] += 0.02
    assert difference(Geometry(FLAIR.shape, moved), FLAIR) == "its middle 0.03 mm away, corners up to 0.02 mm apart"
    said = difference(TEMPLATES["FSL 1 mm"], FLAIR)
    for part in ("shape 182x218x182, not 256x256x18", "voxels of 1x1x1 mm, not", "orientation LAS, not RAS", "mm away"):
        assert part in said
    assert "turned by 90.0" not in said
