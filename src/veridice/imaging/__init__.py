"""Voxels and where they lie: volumes, grids, intensities, registration, connected parts. No files, no torch.

May be imported by every room but networks, its neighbour.
"""

import lazy_loader as lazy

HANDED_ON = {
    "components": "Labels bounding_box dilate fill_holes label_components largest_component",
    "foreground": "box_around even_image evened foreground_mask measured_box",
    "grid": "GridTransform fit_grid grid_images intensity_range interpolate_axis pooled_map resample_to stretch whole_grid",
    "intensity": "IntensityRange",
    "missing": "LARGEST_HOLES MOST_SCATTERED fill_missing",
    "registration": "Alignment align resample_aligned tolerance",
    "scan": "GivenMask Scan",
    "space": "difference named_template require_no_template require_one_space share_inside",
    "tissue": "Tissue TissueMap",
    "tissue_classes": "CLASSES labels_with_mask",
    "volume": "Geometry Volume",
}
__getattr__, __dir__, __all__ = lazy.attach(__name__, submod_attrs={name: names.split() for name, names in HANDED_ON.items()})
