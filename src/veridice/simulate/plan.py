"""What a simulated patient is to be: every random parameter, drawn apart from applying it, and stored with the patient."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from pydantic import Field

from veridice.config import Frozen
from veridice.simulate.donors import Donor
from veridice.simulate.scanners import ANY, AcquisitionPlan, draw_acquisitions
from veridice.simulate.severity import RANGES, Severity, SeverityRanges, uniform

Style = Literal["sclerosis", "ageing", "mixed"]
Triple = tuple[float, float, float]


class DeformationPlan(Frozen):
    """From the template box to this head."""

    rotation: Triple = Field(description="about x, y, z, radians")
    size: Triple = Field(description="millimetres of this head per millimetre of the template")
    mirrored: bool
    wave_mm: float = Field(description="standard deviation of the smooth displacement")
    ventricle_mm: float = Field(description="by how much the ventricles' walls move outwards")
    atrophy: float = Field(description="share of grey matter beside fluid that turns into fluid")
    seed: int


class LesionPlan(Frozen):
    """Where lesions come from and how much of them there is."""

    load_ml: float = Field(description="aimed at; the true volume is counted in the mask")
    style: Style
    donors: tuple[str, ...]
    mirrored: tuple[bool, ...] = Field(description="one for each donor")
    grown: int = Field(description="number of grown candidates beside the donors' lesions")
    border_mm: float = Field(description="half width of the soft border")
    seed: int


class ContrastPlan(Frozen):
    """Mean intensities of one image; white matter is 1."""

    csf: float
    grey: float
    deep_grey: float
    lesion: float
    lesion_spread: float = Field(description="relative standard deviation between and within lesions")
    texture: float = Field(description="relative standard deviation of fine structure inside a tissue")
    fat: float
    muscle: float
    seed: int


class MimicPlan(Frozen):
    """Bright places that are no lesions (FLAIR), each as a share of the lesions' contrast; 0 where there is none."""

    rim: float = Field(description="thin normal rim of the ventricles")
    rim_mm: float
    choroid: float = Field(description="choroid plexus inside the ventricles")
    septum: float
    flow: float = Field(description="inflow in ventricles and cisterns")
    cortex: float = Field(description="patches of bright cortex")
    penumbra: float = Field(description="dirty white matter around lesions, not in the truth")
    seed: int


class PatientPlan(Frozen):
    """All that makes one simulated patient."""

    index: int
    seed: int
    severity: Severity
    scanner: str
    anatomy: str
    whole_head: bool
    black_holes: float = Field(description="share of lesions that are dark on T1w")
    deformation: DeformationPlan
    lesions: LesionPlan
    flair: ContrastPlan
    t1: ContrastPlan
    mimics: MimicPlan
    flair_acquisition: AcquisitionPlan
    t1_acquisition: AcquisitionPlan

    @property
    def donors(self) -> tuple[str, ...]:
        """File names of everybody who gave something, brain first."""
        return (self.anatomy, *self.lesions.donors)


def draw_plan(index: int, seed: int, severity: Severity, scanner: str, donors: tuple[Donor, ...]) -> PatientPlan:
    """Draw patient ``index`` of the cohort ``seed``; the same arguments give the same plan everywhere.

    Args:
        index: number of the patient, from 0.
        seed: of the cohort.
        severity: how hard the scan is to be.
        scanner: name of one of the paper's Table 3, or ``any``.
        donors: whom to draw from.
    """
    rng = np.random.default_rng([seed, index])
    ranges = RANGES[severity]
    anatomies = [donor for donor in donors if donor.kind == "anatomy"]
    anatomy = anatomies[rng.integers(len(anatomies))]
    flair_acquisition, t1_acquisition = draw_acquisitions(scanner, ranges, rng)
    return PatientPlan(
        index=index,
        seed=seed,
        severity=severity,
        scanner=scanner,
        anatomy=anatomy.name,
        whole_head=bool(rng.random() < 0.5),
        black_holes=float(rng.choice([0.0, rng.uniform(0.1, 0.8)])),
        deformation=_draw_deformation(rng),
        lesions=_draw_lesions(ranges, donors, rng),
        flair=_draw_flair(ranges, rng),
        t1=_draw_t1(ranges, rng),
        mimics=_draw_mimics(ranges, rng),
        flair_acquisition=flair_acquisition,
        t1_acquisition=t1_acquisition,
    )


def on_another_scanner(plan: PatientPlan, seed: int) -> PatientPlan:
    """The plan of the same patient, seen by any other scanner: grids, contrasts and artefacts are drawn anew."""
    rng, ranges = np.random.default_rng(seed), RANGES[plan.severity]
    flair_acquisition, t1_acquisition = draw_acquisitions(ANY, ranges, rng)
    return plan.model_copy(
        update={
            "scanner": ANY,
            "flair": _draw_flair(ranges, rng),
            "t1": _draw_t1(ranges, rng),
            "flair_acquisition": flair_acquisition,
            "t1_acquisition": t1_acquisition,
        }
    )


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def _draw_deformation(rng: np.random.Generator) -> DeformationPlan:
    head = rng.uniform(1.0, 1.2)
    turn, stretch = rng.normal(0, 0.06, 3), head * rng.uniform(0.95, 1.05, 3)
    return DeformationPlan(
        rotation=(float(turn[0]), float(turn[1]), float(turn[2])),
        size=(float(stretch[0]), float(stretch[1]), float(stretch[2])),
        mirrored=bool(rng.random() < 0.5),
        wave_mm=rng.uniform(1.0, 3.0),
        ventricle_mm=float(rng.choice([rng.uniform(-1.0, 1.0), rng.uniform(0.0, 5.0)])),
        atrophy=float(rng.choice([0.0, rng.uniform(0.0, 0.6)])),
        seed=_seed(rng),
    )


def _draw_lesions(ranges: SeverityRanges, donors: tuple[Donor, ...], rng: np.random.Generator) -> LesionPlan:
    pool = [donor.name for donor in donors if donor.kind == "lesions"]
    style: Style = ("sclerosis", "ageing", "mixed")[rng.integers(3)]
    counts: dict[Style, int] = {"sclerosis": int(rng.integers(1, 4)), "mixed": int(rng.integers(1, 3)), "ageing": 0}
    chosen = [int(n) for n in rng.choice(len(pool), size=min(counts[style], len(pool)), replace=False)]
    load = math.exp(rng.normal(math.log(ranges.load_median_ml), ranges.load_sigma))
    load = 0.0 if rng.random() < ranges.no_lesions else min(max(load, ranges.load_least_ml), 130.0)
    return LesionPlan(
        load_ml=load,
        style=style,
        donors=tuple(pool[number] for number in chosen),
        mirrored=tuple(bool(rng.random() < 0.5) for _ in chosen),
        grown=int(rng.integers(5, 80)) if style != "sclerosis" else int(rng.integers(0, 25)),
        border_mm=uniform(rng, ranges.border_mm),
        seed=_seed(rng),
    )


def _draw_flair(ranges: SeverityRanges, rng: np.random.Generator) -> ContrastPlan:
    if rng.random() < ranges.far_contrast:
        grey, csf = rng.uniform(0.8, 1.6), rng.uniform(0.02, 0.9)
    else:
        grey, csf = rng.uniform(1.08, 1.35), rng.uniform(0.08, 0.4)
    return ContrastPlan(
        csf=csf,
        grey=grey,
        deep_grey=grey * rng.uniform(0.85, 1.0),
        lesion=max(grey * uniform(rng, ranges.lesion_to_grey), 1.08),
        lesion_spread=uniform(rng, ranges.lesion_spread),
        texture=uniform(rng, ranges.texture),
        fat=rng.uniform(0.8, 2.6),
        muscle=rng.uniform(0.5, 1.1),
        seed=_seed(rng),
    )


def _draw_t1(ranges: SeverityRanges, rng: np.random.Generator) -> ContrastPlan:
    far = rng.random() < ranges.far_contrast
    grey = rng.uniform(0.6, 1.2) if far else rng.uniform(0.6, 0.85)
    csf = rng.uniform(0.15, 0.6) * grey
    return ContrastPlan(
        csf=csf,
        grey=grey,
        deep_grey=min(1.0, grey * rng.uniform(1.0, 1.2)),
        lesion=rng.uniform(0.6, 1.0),
        lesion_spread=0.1,
        texture=uniform(rng, ranges.texture),
        fat=rng.uniform(1.0, 2.4),
        muscle=rng.uniform(0.4, 0.8),
        seed=_seed(rng),
    )


def _draw_mimics(ranges: SeverityRanges, rng: np.random.Generator) -> MimicPlan:
    def sometimes() -> float:
        return uniform(rng, (0.2, 1.0)) * ranges.mimic_strength if rng.random() < ranges.mimic else 0.0

    return MimicPlan(
        rim=sometimes(),
        rim_mm=rng.uniform(0.7, 1.8),
        choroid=sometimes(),
        septum=sometimes(),
        flow=sometimes(),
        cortex=sometimes(),
        penumbra=uniform(rng, ranges.penumbra),
        seed=_seed(rng),
    )
