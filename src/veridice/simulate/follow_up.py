"""A simulated patient's next visit: the same head and lesions, or more or fewer of them, scanned anew in another tilt."""

from __future__ import annotations

import numpy as np

from veridice.simulate.plan import PatientPlan

TURN = 0.05
"""Standard deviation of how the slices are turned between visits, radians about each axis."""


def follow_up(plan: PatientPlan, load_factor: float, seed: int) -> PatientPlan:
    """The plan of the next visit on the same scanner.

    Noise, receive field, motion and the tilt of the slices are drawn anew. Lesions come in the same order as before, so with
    another load some are added or left out.

    Args:
        plan: of the visit before.
        load_factor: lesion load over that of the visit before; 1: nothing changed.
        seed: of what is drawn anew.
    """
    rng = np.random.default_rng(seed)
    turn = rng.normal(0, TURN, 3)
    flair, t1 = (
        acquisition.model_copy(
            update={
                "seed": int(rng.integers(2**31)),
                "snr": acquisition.snr * rng.uniform(0.9, 1.1),
                "tilt": tuple(float(angle) for angle in np.add(acquisition.tilt, turn)),
            }
        )
        for acquisition in (plan.flair_acquisition, plan.t1_acquisition)
    )
    return plan.model_copy(
        update={
            "lesions": plan.lesions.model_copy(update={"load_ml": plan.lesions.load_ml * load_factor}),
            "flair_acquisition": flair,
            "t1_acquisition": t1,
        }
    )
