"""One simulated patient, from plan to volumes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from veridice.config import Task
from veridice.errors import ConfigError
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
        brain, ventricles: masks (uint8) in the FLAIR's grid.
    """

    plan: PatientPlan
    flair: Volume
    t1: Volume
    lesions: Volume
    brain: Volume
    ventricles: Volume

    def truth_of(self, task: Task) -> Volume:
        """The true mask (uint8) of what a task segments.

        Raises:
            ConfigError: the simulator knows nothing of it.
        """
        known = {"lesion": self.lesions, "brain": self.brain, "ventricles": self.ventricles}
        if task.target not in known or task.parts:
            raise ConfigError(f"task '{task.name}': the simulator has no such mask; set simulated_patients = 0 under [data]")
        return known[task.target]

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
    lesions, brains, ventricles = (
        stored((sample(map_, scanner) >= 0.5).astype(np.uint8), scanner) for map_ in (lesion, brain, head.ventricles)
    )
    flair, t1 = acquire(flair, scanner, keep), acquire(t1, plan.t1_acquisition, keep)
    return SimulatedPatient(plan, flair, t1, lesions, brains, ventricles)
