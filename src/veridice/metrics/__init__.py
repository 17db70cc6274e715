"""Numbers of masks and maps: overlap, scores, how well failures are found, and the catalogue of what is stored. No torch.

May be imported by every room above: all but imaging, networks and io.
"""

import lazy_loader as lazy

HANDED_ON = {
    "catalogue": "LESION_COLUMNS MEASURES Measure PAGE_SCORES PLACE_NAMES STUDY_COLUMNS label",
    "failure_detection": "Flags failing_below failure_dice fit_dice_map percentiles spearman",
    "maps": "GridMaps PackedMasks StochasticMaps union unpacked",
    "overlap": "dice expected_dice",
    "scores": "SCORES SUM_GRID all_scores error_map lesion_count lesion_volume_ml mean_pairwise_dice voxelwise_sum",
}
__getattr__, __dir__, __all__ = lazy.attach(__name__, submod_attrs={name: names.split() for name, names in HANDED_ON.items()})
