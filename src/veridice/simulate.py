"""Labelled scans from label maps: random contrast in the manner of SynthSeg (Billot et al. 2023), lesions put in.

Everything works on the cube, in [0, 1], and draws from the generator that is handed in and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from veridice.types import Mask, Voxels

CSF, GREY, WHITE, LESION = 1, 2, 3, 4
"""Values of the tissue label maps."""


@dataclass(frozen=True)
class Contrast:
    """Mean intensity by tissue in one image: cerebrospinal fluid, grey matter, white matter, lesion."""

    csf: float
    grey: float
    white: float
    lesion: float


def draw_contrasts(rng: np.random.Generator) -> tuple[Contrast, Contrast]:
    """Draw FLAIR and T1w tissue means around their physical order; lesions may be as faint as grey matter."""
    white = rng.uniform(0.35, 0.6)
    grey = white * rng.uniform(1.02, 1.4)
    flair = Contrast(rng.uniform(0.03, 0.25), grey, white, grey * rng.uniform(1.1, 1.8))
    t1_grey = rng.uniform(0.3, 0.55)
    t1_white = t1_grey * rng.uniform(1.2, 1.7)
    t1 = Contrast(t1_grey * rng.uniform(0.2, 0.6), t1_grey, t1_white, rng.uniform(0.6, 0.95) * t1_white)
    return flair, t1


def texture(shape: tuple[int, ...], rng: np.random.Generator, smoothness: float, strength: float) -> Voxels:
    """Smooth random field around 1; its standard deviation is about half of ``strength``, that of the coarse lattice."""
    # Drawn on a coarse lattice and enlarged: what a Gaussian filter would give, at a fraction of its time.
    lattice = rng.standard_normal([int(np.ceil(n / smoothness)) + 1 for n in shape]).astype(np.float32)
    zoom = np.array([(s - 1) / (n - 1) for s, n in zip(lattice.shape, shape, strict=True)])
    field = ndimage.affine_transform(lattice, zoom, output_shape=shape, order=1)
    return 1.0 + strength * field


def paint_scan(tissues: Voxels, lesion: Voxels, rng: np.random.Generator) -> tuple[Voxels, Voxels]:
    """Paint a FLAIR and a T1w from soft tissue maps and a soft lesion map.

    Args:
        tissues: (3, x, y, z) shares of CSF, grey and white matter in each voxel.
        lesion: (x, y, z) share of lesion in each voxel; it takes the place of the tissue there.
        rng: source of contrast and texture.

    Returns:
        FLAIR and T1w (x, y, z), background 0.
    """
    images = []
    shape = lesion.shape
    variation = texture(shape, rng, smoothness=6.0, strength=rng.uniform(0.02, 0.15))
    for contrast in draw_contrasts(rng):
        healthy = sum(
            mean * share * texture(shape, rng, smoothness=2.0, strength=rng.uniform(0.01, 0.08))
            for mean, share in zip((contrast.csf, contrast.grey, contrast.white), tissues, strict=True)
        )
        images.append(healthy * (1.0 - lesion) + contrast.lesion * variation * lesion)
    return images[0], images[1]


def insert_lesions(
    flair: Voxels, t1: Voxels, lesion: Voxels, white_matter: Mask, rng: np.random.Generator
) -> tuple[Voxels, Voxels, Voxels]:
    """Put another person's lesions into a real scan: brighter on FLAIR, darker on T1w, only in its white matter.

    Args:
        flair, t1: (x, y, z) scan in [0, 1].
        lesion: (x, y, z) soft lesion map of the donor on the same cube.
        white_matter: (x, y, z) where lesions may stand.

    Returns:
        FLAIR, T1w and the soft map of what was put in.
    """
    share = lesion * ndimage.gaussian_filter(white_matter.astype(np.float32), 0.7)
    level = float(np.percentile(flair[white_matter], 60)) if white_matter.any() else 0.5
    bright = level * rng.uniform(1.25, 1.9) * texture(flair.shape, rng, 6.0, rng.uniform(0.02, 0.1))
    dark = rng.uniform(0.65, 0.95)
    return flair * (1 - share) + bright * share, t1 * (1 - share) + t1 * dark * share, share
