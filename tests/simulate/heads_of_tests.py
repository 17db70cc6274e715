"""A small head of boxes in boxes, and lesions for it."""

from __future__ import annotations

import numpy as np

from veridice.imaging.tissue import Tissue
from veridice.simulate.heads import AROUND, LEVELS, LabelledHead, labelled_head
from veridice.simulate.lesion_bank import LesionBank

EDGE = 96


def boxes_head() -> LabelledHead:
    """Fat, then fluid, cortex, white matter and, in the middle, two ventricles; its half sides are 44, 36, 33, 29 and 6 mm."""
    away = np.stack(np.meshgrid(*[np.abs(np.arange(EDGE) - EDGE / 2 + 0.5)] * 3, indexing="ij")).max(axis=0)
    labels = np.zeros(away.shape, np.uint8)
    labels[away < 44] = AROUND + 5
    for half, tissue in ((36, Tissue.FLUID), (33, Tissue.CORTEX), (29, Tissue.WHITE), (6, Tissue.VENTRICLE)):
        labels[away < half] = tissue * LEVELS + 1
    return labelled_head("boxes", labels)


def balls_bank() -> LesionBank:
    """Forty balls of 2 to 5 mm all over the MNI152's white matter."""
    rng = np.random.default_rng(0)
    masks, corners = [], []
    for _ in range(40):
        radius = int(rng.integers(2, 6))
        offsets = np.stack(np.meshgrid(*[np.arange(-radius, radius + 1)] * 3, indexing="ij"))
        masks.append((offsets**2).sum(axis=0) <= radius**2)
        corners.append(rng.integers([50, 60, 40], [130, 160, 120]))
    return LesionBank(tuple(masks), np.array(corners), np.array([mask.sum() for mask in masks]))
