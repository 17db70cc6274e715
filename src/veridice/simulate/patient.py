"""One simulated patient, from plan to volumes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from veridice.imaging.volume import Volume
from veridice.simulate.acquisition import acquire, sample, stored
from veridice.simulate.anatomy import shape_head
from veridice.simulate.appearance import paint
from veridice.simulate.donors import donors_by_name, load_anatomy
from veridice.simulate.lesions import make_lesions
from veridice.simulate.plan import PatientPlan


@dataclass(frozen=True)
class SimulatedPatient:
    """A pair of scans with its truth.

    Args:
        plan: the parameters it was made of.
        flair, t1: int16, each in its own grid.
        lesions: true mask (uint8) in the FLAIR's grid.
        brain: brain mask (uint8) in the FLAIR's grid.
    """

    plan: PatientPlan
    flair: Volume
    t1: Volume
    lesions: Volume
    brain: Volume

    @property
    def lesion_load_ml(self) -> float:
        """True lesion volume, millilitres."""
        return float(self.lesions.voxels.sum() * self.lesions.geometry.voxel_volume_ml)


def simulate_patient(plan: PatientPlan) -> SimulatedPatient:
    """Make the patient that ``plan`` describes."""
    head = shape_head(load_anatomy(donors_by_name()[plan.anatomy]), plan.deformation)
    lesion = make_lesions(head, plan.lesions)
    flair, t1 = paint(head, lesion, plan)
    brain = head.brain.astype(np.float32)
    keep = None if plan.whole_head else brain
    scanner = plan.flair_acquisition
    return SimulatedPatient(
        plan,
        flair=acquire(flair, scanner, keep),
        t1=acquire(t1, plan.t1_acquisition, keep),
        lesions=stored((sample(lesion, scanner) >= 0.5).astype(np.uint8), scanner),
        brain=stored((sample(brain, scanner) >= 0.5).astype(np.uint8), scanner),
    )
