"""Every odd scan is what its name says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from veridice.imaging.grid import fit_grid
from veridice.imaging.scan import Scan
from veridice.imaging.volume import Geometry, Volume
from veridice.simulate.ood_objects import head_mask
from veridice.simulate.ood_scans import CORRUPTIONS, make_odd, possible

SHAPE, SPACING = (40, 48, 30), (4.5, 4.5, 6.0)
PLACE = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij"))
RADIUS = np.sqrt((PLACE**2).sum(axis=0))
HEAD = RADIUS < 0.8


@pytest.fixture(scope="module")
def scan() -> Scan:
    """A whole head: grey on the outside, white inside, dark ventricles; on the T1w white is brighter."""
    rng = np.random.default_rng(0)

    def image(white: float, grey: float) -> Volume:
        tissue = np.where(RADIUS < 0.15, 0.15, np.where(RADIUS < 0.55, white, grey))
        smooth = ndimage.gaussian_filter(np.where(HEAD, tissue, 0.0), 0.7)
        noise = rng.normal(0, 0.01, (2, *SHAPE))
        voxels = (1000 * np.hypot(smooth + noise[0], noise[1])).astype(np.float32)
        return Volume(voxels, Geometry(SHAPE, np.diag([*SPACING, 1.0])))

    return Scan(image(0.5, 0.6), image(0.8, 0.5))


def odd(kind: str, scan: Scan, seed: int = 1) -> Scan:
    return make_odd(kind, scan, np.random.default_rng(seed))


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_every_kind_is_another_whole_image(scan: Scan, kind: str) -> None:
    made, again, other = odd(kind, scan), odd(kind, scan), odd(kind, scan, 2)
    assert made.flair.voxels.dtype == np.float32 and np.isfinite(made.flair.voxels).all()
    np.testing.assert_array_equal(made.flair.voxels, again.flair.voxels)
    assert made.brain is None
    assert made.t1 is None or made.t1.geometry.same_grid(made.flair.geometry)
    turned = not made.flair.geometry.same_grid(scan.flair.geometry)
    assert turned or not np.array_equal(made.flair.voxels, scan.flair.voxels)
    if CORRUPTIONS[kind].draw(np.random.default_rng(1)) and kind != "wrong axes":
        assert made.flair.shape != other.flair.shape or not np.array_equal(made.flair.voxels, other.flair.voxels)


def test_without_a_t1w_the_exchanged_are_left_out(scan: Scan) -> None:
    assert set(possible(scan)) == set(CORRUPTIONS)
    assert set(CORRUPTIONS) - set(possible(Scan(scan.flair))) == {"T1w given as FLAIR", "FLAIR and T1w exchanged"}


def test_wrong_contrasts(scan: Scan) -> None:
    assert odd("T1w given as FLAIR", scan).flair is scan.t1 and odd("T1w given as FLAIR", scan).t1 is None
    np.testing.assert_array_equal(odd("FLAIR and T1w exchanged", scan).t1.voxels, scan.flair.voxels)
    inverted = odd("inverted contrast", scan).flair.voxels
    assert np.corrcoef(inverted[HEAD], scan.flair.voxels[HEAD])[0, 1] < -0.8
    assert inverted[~ndimage.binary_dilation(HEAD, iterations=2)].max() < inverted[HEAD].max() / 4
    saturated = odd("saturated", scan).flair.voxels
    assert saturated.min() == 0 and (saturated[HEAD] == 255).mean() > 0.4
    np.testing.assert_array_equal(saturated, np.round(saturated))
    ct = make_odd("CT", scan, FixedRng(window=0)).flair.voxels
    assert ct.max() > 500 and np.median(ct[~ndimage.binary_dilation(HEAD)]) < -900 and 0 < np.median(ct[RADIUS < 0.5]) < 60


class FixedRng:
    """A generator that draws the middle of every range, and ``window`` for whole numbers."""

    def __init__(self, window: int) -> None:
        self.window = window

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2

    def integers(self, *_ends: int) -> int:
        return self.window


def test_artefacts(scan: Scan) -> None:
    usual = scan.flair.voxels
    noisy = odd("heavy noise", scan).flair.voxels
    assert noisy[HEAD].std() > 1.5 * usual[HEAD].std()
    air = ~ndimage.binary_dilation(HEAD, iterations=2)
    for kind in ("heavy ghosting", "spikes", "heavy motion"):
        assert odd(kind, scan).flair.voxels[air].mean() > 1.5 * usual[air].mean(), kind
    blurred = odd("strong blur", scan).flair.voxels
    assert np.abs(np.diff(blurred, axis=0)).max() < 0.6 * np.abs(np.diff(usual, axis=0)).max()
    noise = odd("only noise", scan).flair.voxels
    assert abs(np.corrcoef(noise.ravel(), usual.ravel())[0, 1]) < 0.2


def test_noise_does_not_reach_what_was_stripped_away(scan: Scan) -> None:
    stripped = scan.flair.with_voxels(np.where(HEAD, scan.flair.voxels, 0))
    assert (odd("heavy noise", Scan(stripped)).flair.voxels[~HEAD] == 0).all()


def test_half_the_head_keeps_its_place(scan: Scan) -> None:
    for seed in range(6):
        part = odd("half the head", scan, seed)
        share = part.flair.voxels.size / scan.flair.voxels.size
        assert 0.3 < share < 0.7
        corner = np.linalg.inv(scan.flair.affine) @ part.flair.affine @ [0, 0, 0, 1]
        start = np.round(corner[:3]).astype(int)
        box = tuple(slice(a, a + n) for a, n in zip(start, part.flair.shape, strict=True))
        np.testing.assert_array_equal(part.flair.voxels, scan.flair.voxels[box])
        assert part.t1.shape == part.flair.shape


def test_wrong_axes_change_the_header_alone(scan: Scan) -> None:
    seen = set()
    for seed in range(30):
        turned = odd("wrong axes", scan, seed)
        np.testing.assert_array_equal(turned.flair.voxels, scan.flair.voxels)
        seen.add(turned.flair.geometry.axis_codes)
    assert "RAS" not in seen and len(seen) > 4


def test_masses_and_cavities_are_large_and_within_the_head(scan: Scan) -> None:
    for kind, sign in (("large mass", 1), ("large cavity", -1)):
        for seed in range(4):
            changed = odd(kind, scan, seed).flair.voxels - scan.flair.voxels
            assert np.abs(changed[~ndimage.binary_dilation(head_mask(scan.flair.voxels))]).max() == 0
            millilitres = (sign * changed > 50).sum() * scan.flair.geometry.voxel_volume_ml
            assert 10 < millilitres < 400, kind


def test_bright_diseases_are_large_bright_and_lie_where_they_should(scan: Scan) -> None:
    stripped = Scan(scan.flair.with_voxels(np.where(HEAD, scan.flair.voxels, 0)))
    usual, voxel_ml = stripped.flair.voxels, scan.flair.geometry.voxel_volume_ml
    cortex, fluid = HEAD & (RADIUS > 0.74), RADIUS < 0.1
    for seed in range(8):
        bright = {
            kind: odd(kind, stripped, seed).flair.voxels - usual > 60
            for kind in ("infarct", "infarct of a territory", "oedema", "ring-shaped masses")
        }
        for kind, where in bright.items():
            assert 0.2 < where.sum() * voxel_ml < 500, kind
            assert not where[~HEAD].any(), kind
        # A wedge reaches the cortex; oedema spares it. Neither brightens fluid.
        assert (bright["infarct"] & cortex).any() and (bright["infarct of a territory"] & cortex).any()
        assert (bright["oedema"] & cortex).sum() < 0.06 * bright["oedema"].sum()
        assert not any((bright[kind] & fluid).any() for kind in ("infarct", "infarct of a territory", "oedema"))


@pytest.mark.parametrize("kind", ["knee", "abdomen", "phantom"])
def test_other_objects_can_be_brought_to_the_cube(scan: Scan, kind: str) -> None:
    made = odd(kind, scan)
    assert made.t1 is None and made.flair.geometry.same_grid(scan.flair.geometry)
    fit_grid(made.flair, (32, 32, 32))
