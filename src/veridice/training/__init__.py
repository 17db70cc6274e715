"""How everything is learnt: networks, predictor, what scans look like.

May be imported by experiment and cli.
"""

import lazy_loader as lazy

HANDED_ON = {
    "generative": "train_image_generator train_probabilistic_unet",
    "regressors": "fit_classifier fit_regressor",
    "settings": "CHANNELS DataSettings RegressorInput TrainingSettings load_training_settings on_whole_cubes with_steps "
    "without_group",
}
__getattr__, __dir__, __all__ = lazy.attach(__name__, submod_attrs={name: names.split() for name, names in HANDED_ON.items()})
