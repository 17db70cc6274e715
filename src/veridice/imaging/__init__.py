"""Voxels and where they lie: volumes, grids, intensities, registration, connected parts. No files, no torch.

May be imported by every room but networks, its neighbour.
"""

import lazy_loader as lazy

HANDED_ON = {
    "components": "bounding_box label_components largest_component",
    "grid": "GridTransform fit_grid foreground_mask grid_images intensity_range interpolate_axis pooled_map resample_to",
    "registration": "align resample_aligned tolerance",
    "scan": "GivenMask Scan",
    "volume": "Geometry Volume",
}
__getattr__, __dir__, __all__ = lazy.attach(__name__, submod_attrs={name: names.split() for name, names in HANDED_ON.items()})
