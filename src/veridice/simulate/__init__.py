"""Patients that never were, with their true lesions; and scans that nobody should judge.

May be imported by training, cohort, experiment and cli.
"""

import lazy_loader as lazy

HANDED_ON = {
    "cohorts": "COHORTS Cohort MIX custom_cohort write_cohort",
    "donors": "choose_donors donor_names donors_by_name load_lesions people_of",
    "ood_scans": "make_odd possible",
    "patient": "simulate_patient",
    "plan": "PatientPlan",
}
__getattr__, __dir__, __all__ = lazy.attach(__name__, submod_attrs={name: names.split() for name, names in HANDED_ON.items()})
