"""How everything is learnt: networks, predictor, what scans look like.

May be imported by experiment, federated and cli.
"""

import lazy_loader as lazy

HANDED_ON = {
    "assessed_masks": "ScanToJudge assess_all other_patients real_scan",
    "critic": "critic_metrics fit_critic",
    "endless_tasks": "CriticTask",
    "examples": "validation_examples",
    "generative": "train_image_generator train_probabilistic_unet",
    "loop": "BEST CHECKPOINT evaluate",
    "people": "DAMAGED GRADED people_calibration scan_table with_unfamiliarity",
    "provenance": "by_split source_commit",
    "quality_model": "other_targets",
    "regressors": "fit_classifier fit_regressor new_regressor quality_checks quality_files regressor_metrics",
    "settings": "CHANNELS DataSettings RegressorInput TrainingSettings for_round load_training_settings on_whole_cubes "
    "with_steps without_group",
    "unets": "fit_reconstructor fit_segmenter reconstructor_metrics segmenter_metrics split_material",
}
__getattr__, __dir__, __all__ = lazy.attach(__name__, submod_attrs={name: names.split() for name, names in HANDED_ON.items()})
