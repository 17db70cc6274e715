"""The paper's experiment: which method finds the segmentations that failed? Folds, methods, results.

May be imported by cli.
"""

import lazy_loader as lazy

HANDED_ON = {
    "protocol": "load_experiment",
    "reached": "how_far",
    "run": "run_experiment",
}
__getattr__, __dir__, __all__ = lazy.attach(__name__, submod_attrs={name: names.split() for name, names in HANDED_ON.items()})
