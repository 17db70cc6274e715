"""One scan from end to end: read, analysed, judged, written.

May be imported by training, cohort, experiment, review, gateway and cli.
"""

import lazy_loader as lazy

HANDED_ON = {
    "analysis": "MaskAnalysis analyse_mask analyse_scan analysis_of_passes find_brain native_probability scan_appearance "
    "task_grid",
    "assess": "assess_scan",
    "check": "Request judge_files load_prepared models_loader with_calibration",
    "compare": "COMPARISON_SUFFIX OWN OWN_TOOL SELECTED ComparedMask Comparing Comparison compare_files read_comparison",
    "models": "Models load_models",
    "result": "AssessmentResult",
}
__getattr__, __dir__, __all__ = lazy.attach(__name__, submod_attrs={name: names.split() for name, names in HANDED_ON.items()})
