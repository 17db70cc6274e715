"""Tables, figures and pages from the stored cases of an experiment. No torch.

May be imported by the rest of the experiment.
"""

import lazy_loader as lazy

HANDED_ON = {
    "evaluation": "UNSEEN with_validation_of",
    "figures": "saved",
    "summary": "write_summary",
    "tables": "REFITS read_cases write_cases write_csv",
    "write": "CASES CLASSES write_results",
}
__getattr__, __dir__, __all__ = lazy.attach(__name__, submod_attrs={name: names.split() for name, names in HANDED_ON.items()})
