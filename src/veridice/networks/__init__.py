"""The networks and their losses: tensors in, tensors out.

May be imported by inference and the rooms above it; never by those that judge without torch.
"""

import lazy_loader as lazy

HANDED_ON = {
    "critic_unet": "CriticUnet",
    "image_generator": "ImageGenerator",
    "losses": "SegmentationLoss SsimLoss mean_difference similarity_at_hole ssim_map",
    "mc_unet": "McUnet",
    "probabilistic_unet": "ProbabilisticUnet drawn",
    "reconstruction_unet": "ReconstructionUnet",
    "regression_net": "RegressionNet",
    "widening": "ENTRY widened with_further_inputs",
}
__getattr__, __dir__, __all__ = lazy.attach(__name__, submod_attrs={name: names.split() for name, names in HANDED_ON.items()})
