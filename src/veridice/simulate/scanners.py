"""Scanners and protocols: the grids of the paper's Table 3, ordinary clinical ones, and their drawn imperfections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from veridice.config import Frozen
from veridice.simulate.severity import SeverityRanges, uniform

Axis = Literal["sagittal", "coronal", "axial"]
SLICE_AXES: tuple[Axis, ...] = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class Protocol:
    """Grid of one image: voxel size in mm and matrix, both along right-left, posterior-anterior, inferior-superior."""

    voxel_spacing: tuple[float, float, float]
    matrix: tuple[int, int, int]
    slices: Axis


@dataclass(frozen=True)
class Scanner:
    """One row of the paper's Table 3: protocols and number of patients."""

    t1: Protocol
    flair: Protocol
    patients: int


def _same(protocol: Protocol, patients: int) -> Scanner:
    return Scanner(protocol, protocol, patients)


SCANNERS = {
    "utrecht": _same(Protocol((0.96, 0.95, 3.0), (240, 240, 48), "axial"), 20),
    "singapore": _same(Protocol((1.0, 1.0, 3.0), (232, 256, 48), "axial"), 20),
    # The table's 132x256x83 at 0.98x0.98x1.20 mm: 132 voxels of 1.2 mm from ear to ear, 83 of 3 mm in the released
    # data; as printed, 83 slices of 1.2 mm would end half-way through the head, so the axes are those of the data.
    "amsterdam": _same(Protocol((1.2, 0.98, 3.0), (132, 256, 83), "axial"), 20),
    "isbi": _same(Protocol((1.0, 1.0, 1.0), (181, 217, 181), "axial"), 5),
    "msseg-ingenia": Scanner(
        Protocol((0.85, 0.74, 0.74), (261, 336, 336), "sagittal"), Protocol((0.70, 0.74, 0.74), (261, 336, 336), "sagittal"), 5
    ),
    "msseg-verio": Scanner(
        Protocol((1.0, 1.0, 1.0), (176, 256, 256), "sagittal"), Protocol((1.1, 0.5, 0.5), (144, 512, 512), "sagittal"), 5
    ),
    "lesjak-trio": Scanner(
        Protocol((0.42, 0.42, 3.3), (512, 512, 56), "axial"), Protocol((0.8, 0.47, 0.47), (192, 512, 512), "sagittal"), 30
    ),
}
ANY = "any"
"""A protocol that is drawn, not named."""
LARGEST_MATRIX = 300


class AcquisitionPlan(Frozen):
    """How one image is taken."""

    voxel_spacing: tuple[float, float, float] = Field(description="mm along x, y, z of the scanner")
    matrix: tuple[int, int, int]
    slice_axis: int = Field(ge=0, le=2)
    orientation: str = Field(description="nibabel axis codes of the stored array")
    tilt: tuple[float, float, float] = Field(description="rotation of the slices about x, y, z, radians")
    snr: float = Field(gt=0, description="of white matter")
    bias: float = Field(ge=0, description="half range of the logarithm of the receive field")
    gibbs: float = Field(ge=0, lt=1, description="outer part of k-space that is missing in the plane")
    motion: float = Field(ge=0, description="largest rotation in degrees and shift in mm during the scan; 0 is none")
    ghosting: float = Field(ge=0, description="intensity of ghosts relative to the image")
    spike: float = Field(ge=0, description="intensity of a k-space spike relative to the spectrum's maximum")
    scale: float = Field(gt=0, description="stored value of white matter")
    seed: int


def draw_acquisitions(
    scanner: str, ranges: SeverityRanges, rng: np.random.Generator
) -> tuple[AcquisitionPlan, AcquisitionPlan]:
    """FLAIR and T1w acquisition of one patient; they share tilt and orientation, as in one session."""
    if scanner == ANY:
        flair = _draw_protocol(ranges, rng)
        t1 = flair if rng.random() < 0.5 else _draw_protocol(ranges, rng)
    else:
        flair, t1 = SCANNERS[scanner].flair, SCANNERS[scanner].t1
    orientation = str(rng.choice(["RAS", "LAS", "LPS"]))
    tilt = tuple(float(angle) for angle in rng.normal(0, 0.05, 3)) if rng.random() < 0.5 else (0.0, 0.0, 0.0)
    plans = [
        AcquisitionPlan(
            voxel_spacing=protocol.voxel_spacing,
            matrix=protocol.matrix,
            slice_axis=SLICE_AXES.index(protocol.slices),
            orientation=orientation,
            tilt=(tilt[0], tilt[1], tilt[2]),
            snr=uniform(rng, ranges.snr) * (1.5 if protocol is t1 and flair is not t1 else 1.0),
            bias=uniform(rng, ranges.bias),
            gibbs=float(rng.choice([0.0, 0.0, rng.uniform(0.1, 0.4)])),
            motion=_sometimes(ranges, rng, 6.0),
            ghosting=_sometimes(ranges, rng, 0.8),
            spike=_sometimes(ranges, rng, 0.25),
            scale=float(rng.uniform(150, 1500)),
            seed=int(rng.integers(2**31)),
        )
        for protocol in (flair, t1)
    ]
    return plans[0], plans[1]


def _sometimes(ranges: SeverityRanges, rng: np.random.Generator, most: float) -> float:
    return most * ranges.artefact_strength * rng.uniform(0.3, 1.0) if rng.random() < ranges.artefact else 0.0


def _draw_protocol(ranges: SeverityRanges, rng: np.random.Generator) -> Protocol:
    """Thick axial slices, or a nearly isotropic 3D scan, with a field of view that holds a head."""
    if rng.random() < ranges.thick:
        plane, slices = rng.uniform(0.7, 1.1), uniform(rng, ranges.slices_mm)
        spacing, axis = (plane, plane, slices), "axial"
    else:
        edge = rng.uniform(0.8, 1.25)
        spacing, axis = (edge, edge, edge), str(rng.choice(["axial", "sagittal"]))
        if axis == "sagittal":
            spacing = (rng.uniform(0.8, 1.6), edge, edge)
    field = (rng.uniform(185, 215), rng.uniform(215, 240), rng.uniform(165, 195))
    matrix = [min(LARGEST_MATRIX, round(length / step)) for length, step in zip(field, spacing, strict=True)]
    return Protocol((spacing[0], spacing[1], spacing[2]), (matrix[0], matrix[1], matrix[2]), axis)  # type: ignore[arg-type]
