"""Numbers of masks and maps: overlap, scores, how well failures are found, and the catalogue of what is stored. No torch.

May be imported by every room above: all but imaging, networks and io.
"""

import lazy_loader as lazy

HANDED_ON = {
    "catalogue": "CRITIC_COLUMN LESION_COLUMNS MEASURES Measure PAGE_SCORES PLACE_NAMES STUDY_COLUMNS label",
    "failure_detection": "FAILURE_DICE Flags fit_dice_map percentiles spearman",
    "maps": "GridMaps PackedMasks StochasticMaps packed_parts union unpacked",
    "overlap": "dice expected_dice",
    "parts": "label_map masks_from_probabilities mean_numbers together",
    "scores": "SCORES SUM_GRID all_scores error_map lesion_count lesion_volume_ml mean_pairwise_dice voxelwise_sum",
    "shadowed_sets": "shadow_labels",
}
__getattr__, __dir__, __all__ = lazy.attach(__name__, submod_attrs={name: names.split() for name, names in HANDED_ON.items()})
