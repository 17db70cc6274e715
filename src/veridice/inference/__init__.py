"""Running the networks: stochastic passes, brain, uncertainty. Alone knows devices and precision.

May be imported by assessment and the rooms above it.
"""

import lazy_loader as lazy

HANDED_ON = {
    "brain": "brain_mask brain_probability is_whole_head",
    "passes": (
        "Backend REGRESSORS all_outputs bf16_pays choose_backend deepest_features deterministic_pass predict_all prepare "
        "reconstruct stochastic_passes"
    ),
    "tissue_map": "tissue_map",
    "uncertainty": "uncertainty_maps",
    "weights": "ARCHITECTURES load_network save_network",
}
__getattr__, __dir__, __all__ = lazy.attach(__name__, submod_attrs={name: names.split() for name, names in HANDED_ON.items()})
