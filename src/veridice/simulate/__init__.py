"""Patients that never were, with their true lesions; and scans that nobody should judge.

May be imported by training, cohort, experiment and cli.
"""

import lazy_loader as lazy

HANDED_ON = {
    "anatomy": "turn",
    "cohorts": "COHORTS TRUTH Cohort custom_cohort write_cohort",
    "cube_fields": "Noise affine_places dilated from_slices sample soften to_slices",
    "cube_patient": "cube_patient",
    "donors": "Donor choose_donors donor_names donors_by_name load_lesions people_of",
    "heads": "LabelledHead read_heads",
    "lesion_bank": "BANK_FILE LesionBank",
    "ood_scans": "make_odd possible",
    "patient": "SimulatedPatient simulate_patient",
    "plan": "PatientPlan draw_plan",
    "scanners": "ANY",
    "severity": "MIX SEVERITIES",
}
__getattr__, __dir__, __all__ = lazy.attach(__name__, submod_attrs={name: names.split() for name, names in HANDED_ON.items()})
