"""How hard a simulated scan is: the ranges from which the parameters of each severity are drawn.

They are fixed before the networks that ship are trained; docs/simulator.md says how "ordinary" was chosen.
`benchmarks/simulated_cohort.py` says what a threshold on the FLAIR and what the shipped network reach on each of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Severity = Literal["easy", "ordinary", "hard", "broken"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
MIX = (0.15, 0.45, 0.3, 0.1)
"""How often each of them comes where nothing else is said."""
Range = tuple[float, float]


@dataclass(frozen=True)
class SeverityRanges:
    """Ranges and chances of one severity; pairs are the ends of uniform distributions.

    Args:
        load_median_ml, load_sigma: log-normal lesion load; ``load_least_ml`` is its lower end.
        no_lesions: chance of a patient without any.
        lesion_to_grey: lesion intensity over grey matter (FLAIR); about 1 hides lesions beside the cortex.
        lesion_spread: relative standard deviation between and within lesions.
        border_mm: half width of the lesions' soft border.
        penumbra: contrast of dirty white matter around them, as a share of the lesions'.
        texture: relative standard deviation inside a tissue.
        snr: of white matter. bias: half range of the logarithm of the receive field.
        mimic: chance of each bright place that is no lesion, up to ``mimic_strength`` of a lesion's contrast.
        far_contrast: chance of contrasts far away from physical ones.
        artefact: chance of each of motion, ghosting and spikes, with strengths drawn up to ``artefact_strength``.
        slices_mm: slice thickness where the scanner leaves it open; ``thick`` is the chance of more than 2 mm.
    """

    load_median_ml: float
    load_sigma: float
    load_least_ml: float
    no_lesions: float
    lesion_to_grey: Range
    lesion_spread: Range
    border_mm: Range
    penumbra: Range
    texture: Range
    snr: Range
    bias: Range
    mimic: float
    mimic_strength: float
    far_contrast: float
    artefact: float
    artefact_strength: float
    thick: float
    slices_mm: Range


TABLE: dict[str, tuple[float | Range, ...]] = {
    "load_median_ml": (12.0, 10.0, 2.5, 4.0),
    "load_sigma": (0.9, 1.0, 1.4, 1.5),
    "load_least_ml": (3.0, 2.0, 0.1, 0.1),
    "no_lesions": (0.0, 0.0, 0.05, 0.05),
    "lesion_to_grey": ((1.3, 1.7), (1.2, 1.6), (0.95, 1.25), (0.8, 1.2)),
    "lesion_spread": ((0.03, 0.08), (0.04, 0.1), (0.08, 0.2), (0.1, 0.3)),
    "border_mm": ((0.4, 0.8), (0.4, 0.8), (0.7, 1.8), (0.8, 2.5)),
    "penumbra": ((0.0, 0.1), (0.0, 0.15), (0.15, 0.45), (0.2, 0.6)),
    "texture": ((0.01, 0.04), (0.02, 0.05), (0.04, 0.12), (0.05, 0.2)),
    "snr": ((25.0, 60.0), (18.0, 45.0), (7.0, 20.0), (3.0, 9.0)),
    "bias": ((0.0, 0.15), (0.05, 0.25), (0.2, 0.5), (0.3, 0.8)),
    "mimic": (0.1, 0.25, 0.5, 0.6),
    "mimic_strength": (0.4, 0.45, 1.0, 1.2),
    "far_contrast": (0.0, 0.0, 0.1, 0.4),
    "artefact": (0.0, 0.03, 0.2, 0.5),
    "artefact_strength": (0.0, 0.2, 0.6, 1.0),
    "thick": (0.2, 0.35, 0.6, 0.6),
    "slices_mm": ((2.0, 4.0), (2.5, 5.0), (3.0, 8.0), (4.0, 8.0)),
}
"""By parameter, of each severity in the order of :data:`SEVERITIES`."""
RANGES: dict[Severity, SeverityRanges] = {
    severity: SeverityRanges(**{name: values[number] for name, values in TABLE.items()})  # type: ignore[arg-type]
    for number, severity in enumerate(SEVERITIES)
}


def uniform(rng: np.random.Generator, ends: Range) -> float:
    """A uniform draw between two ends."""
    return float(rng.uniform(*ends))
