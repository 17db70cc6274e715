"""Whether two grids lie in one space, and in what they differ."""

from __future__ import annotations

import re

import numpy as np

from veridice.errors import GeometryError
from veridice.imaging.volume import Geometry

TEMPLATE_NAMES = re.compile(
    r"space-(MNI|ICBM|Tal|TLRC|TT_?N27|fsaverage|fsLR|OASIS|NKI|SRI24|UNC|Pediatric|template|colin)"
    r"|(?<![A-Za-z])(in|to|2)?MNI(152|305)?(?![A-Za-z])",
    re.IGNORECASE,
)
TEMPLATE_BOXES = {
    "MNI": (
        ((-91, -126, -72), (90, 91, 109)),
        ((-96, -132, -78), (96, 96, 114)),
        ((-98, -134, -72), (98, 98, 116)),
        ((-90, -126, -72), (90, 90, 108)),
        ((-78, -112, -70), (78, 76, 86)),
        ((-78, -112, -50), (78, 76, 85)),
        ((-84, -120, -72), (84, 84, 96)),
    ),
    "SRI24": (((-239, 0, 0), (0, 239, 154)),),
}
"""First and last voxel centres (mm, RAS+) of the grids that templates are given on: FSL's, ICBM 2009's, SPM's and CAT12's of
MNI152, and that of BraTS."""
BOX_MM = 2.0
ENOUGH = 0.5
"""Part of one field of view that has to lie in the other for both to show the same thing."""
SAMPLES = 16
"""Places along each axis by which a shared field of view is measured."""


def named_template(name: str) -> str:
    """The template that a file's name says it lies on, such as ``space-MNI152NLin6Asym``; else empty."""
    found = TEMPLATE_NAMES.search(name)
    if found is None:
        return ""
    return "MNI" if "mni" in found.group().lower() else found.group()


def template_of(geometry: Geometry) -> str:
    """The template on which a grid lies, as its file says or as its box is a template's; else empty."""
    turn = np.abs(geometry.affine[:3, :3])
    # A scanner hardly ever lies so straight, a template always does.
    if geometry.space or np.sort(turn, axis=0)[:2].max() > 1e-3 * turn.max():
        return geometry.space
    ends = np.sort(geometry.affine[:3] @ np.array([(0, 0, 0, 1), (*(n - 1 for n in geometry.shape), 1)]).T, axis=1).T
    for template, boxes in TEMPLATE_BOXES.items():
        if any(np.abs(ends - np.array(box)).max() <= BOX_MM for box in boxes):
            return template
    return ""


def require_no_template(what: str, other: Geometry, flair: Geometry) -> None:
    """Make sure that an image does not lie on a template unless the FLAIR does.

    Args:
        what: the image in messages, its path for example.
        other, flair: the grids.

    Raises:
        GeometryError: it does.
    """
    template = template_of(other)
    if template and not template_of(flair):
        raise GeometryError(
            f"{what}: lies in the space of a template ({template}), the FLAIR does not ({difference(other, flair)}); "
            "give it as it was before, or bring it back with the inverse of the transform (a mask with nearest neighbour)"
        )


def require_one_space(what: str, other: Geometry, flair: Geometry) -> None:
    """Make sure that an image on another grid than the FLAIR's can be resampled to it as their headers say.

    Args:
        what: the image in messages, its path for example.
        other, flair: the grids.

    Raises:
        GeometryError: one lies on a template and the FLAIR does not, they hardly overlap, or the header fits other voxels.
    """
    require_no_template(what, other, flair)
    if other.shape != flair.shape and sorted(other.shape) == sorted(flair.shape) and np.allclose(other.affine, flair.affine):
        raise GeometryError(
            f"{what}: its voxels are stored in another order than its header says ({difference(other, flair)}); "
            "resample it to the FLAIR again with nearest neighbour, or write it with its own header"
        )
    if max(_share_inside(other, flair), _share_inside(flair, other)) < ENOUGH:
        raise GeometryError(
            f"{what}: hardly overlaps the FLAIR ({difference(other, flair)}); "
            "check that both are of one scan, or resample it to the FLAIR with nearest neighbour"
        )


def difference(one: Geometry, other: Geometry) -> str:
    """In what two grids differ: shape, voxel size, orientation, offset in millimetres; those of ``other`` come second."""
    said = []
    if one.shape != other.shape:
        said.append(f"shape {_joined(one.shape)}, not {_joined(other.shape)}")
    if not np.allclose(one.voxel_spacing, other.voxel_spacing, rtol=1e-3):
        said.append(f"voxels of {_joined(one.voxel_spacing)} mm, not {_joined(other.voxel_spacing)}")
    if one.axis_codes != other.axis_codes:
        said.append(f"orientation {one.axis_codes}, not {other.axis_codes}")
    elif (degrees := _turned(one, other)) >= 0.05:
        said.append(f"turned by {degrees:.1f} degrees")
    middle = float(np.linalg.norm(one.middle - other.middle))
    if middle >= 0.005 or not said:
        said.append(f"its middle {middle:.2f} mm away")
    if one.shape == other.shape and one.axis_codes == other.axis_codes:
        said.append(f"corners up to {one.distance(other):.2f} mm apart")
    return ", ".join(said)


def share_inside(points: np.ndarray[tuple[int, ...], np.dtype[np.float64]], grid: Geometry) -> float:
    """Part of some points (mm, 3 by n) that lie within the voxels of a grid; 1 where there are none."""
    if not points.size:
        return 1.0
    index = np.linalg.inv(grid.affine) @ np.vstack([points, np.ones(points.shape[1])])
    lengths = np.array(grid.shape)[:, None]
    return float(((index[:3] >= -0.5) & (index[:3] <= lengths - 0.5)).all(axis=0).mean())


def _share_inside(one: Geometry, other: Geometry) -> float:
    """Part of the field of view of ``one`` that lies in that of ``other``."""
    steps = [(np.arange(SAMPLES) + 0.5) / SAMPLES * n - 0.5 for n in one.shape]
    places = np.array(np.meshgrid(*steps, [1.0], indexing="ij")).reshape(4, -1)
    return share_inside((one.affine @ places)[:3], other)


def _turned(one: Geometry, other: Geometry) -> float:
    """Largest angle (degrees) between axes of the same anatomical direction."""
    axes = [grid.affine[:3, :3] / grid.voxel_spacing for grid in (one, other)]
    return float(np.degrees(np.arccos(np.clip((axes[0] * axes[1]).sum(axis=0), -1, 1))).max())


def _joined(numbers: tuple[float, ...]) -> str:
    return "x".join(f"{number:.4g}" for number in numbers)
