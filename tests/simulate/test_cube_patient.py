"""Patients that are made on the cube: against the NumPy simulator, which is the reference, and for what they promise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from heads_of_tests import balls_bank, boxes_head
from scipy import ndimage

from veridice.errors import InputError
from veridice.imaging.grid import fit_grid
from veridice.imaging.tissue import Tissue
from veridice.simulate.acquisition import acquire
from veridice.simulate.anatomy import shape_head
from veridice.simulate.appearance import paint
from veridice.simulate.cohorts import COHORTS
from veridice.simulate.cube_fields import Noise
from veridice.simulate.cube_patient import CubePatient, cube_patient
from veridice.simulate.cube_scanner import acquire_on_cube, slice_counts
from veridice.simulate.donors import choose_donors, load_anatomy
from veridice.simulate.heads import LEVELS, head_of, labelled_head, read_heads
from veridice.simulate.lesion_bank import LesionBank
from veridice.simulate.lesions import make_lesions
from veridice.simulate.plan import PatientPlan

CPU = torch.device("cpu")
GRID = 48


def plan(index: int, **changes: object) -> PatientPlan:
    """Of the training cohort, with a load that a small head can have."""
    drawn = COHORTS["training"].plan(index)
    lesions = drawn.lesions.model_copy(update={"load_ml": 6.0})
    return drawn.model_copy(update={"lesions": lesions, **changes})


def patient(index: int, **changes: object) -> CubePatient:
    return cube_patient(plan(index, **changes), boxes_head(), balls_bank(), GRID, CPU)


@pytest.mark.parametrize("index", range(6))
def test_a_patient_is_what_it_promises(index: int) -> None:
    made, again = patient(index), patient(index)
    assert torch.equal(made.images, again.images) and torch.equal(made.lesion, again.lesion)
    assert made.images.shape == (2, GRID, GRID, GRID) and made.lesion.shape == (1, GRID, GRID, GRID)
    assert made.images.min() >= 0 and made.images.max() == pytest.approx(1) and torch.isfinite(made.images).all()
    assert made.lesion.min() >= 0 and made.lesion.max() <= 1
    assert set(made.tissue.unique().tolist()) == {
        0,
        *(int(t) for t in (Tissue.FLUID, Tissue.VENTRICLE, Tissue.CORTEX, Tissue.WHITE)),
    }
    assert not torch.equal(made.images, patient(index + 6).images)


def test_no_lesion_where_none_is_planned_and_none_in_a_ventricle() -> None:
    drawn = plan(1)
    healthy = drawn.model_copy(update={"lesions": drawn.lesions.model_copy(update={"load_ml": 0.0})})
    assert not cube_patient(healthy, boxes_head(), balls_bank(), GRID, CPU).lesion.any()
    for index in range(4):
        made = patient(index)
        inside = ndimage.binary_erosion(made.tissue[0].numpy() == Tissue.VENTRICLE, iterations=2)
        assert made.lesion[0].numpy()[inside].max(initial=0) < 0.5


def test_lesions_are_bright_on_an_easy_scan_and_brains_are_stripped() -> None:
    easy = next(index for index in range(40) if plan(index).severity == "easy")
    made = patient(easy, whole_head=False)
    flair, white = made.images[0], made.tissue[0] == Tissue.WHITE
    assert flair[made.lesion[0] > 0.9].median() > 1.15 * flair[white & (made.lesion[0] == 0)].median()
    outside = ndimage.distance_transform_edt(made.tissue[0].numpy() == 0) > 3
    assert (made.images[:, torch.from_numpy(outside)] == 0).all()
    head = patient(easy, whole_head=True)
    assert (head.images[0][head.tissue[0] == 0] > 0.1).float().mean() > 0.2


@pytest.mark.slow
def test_tissue_means_and_load_are_those_of_the_reference() -> None:
    """One brain and one plan, both ways; scanner and its noise left out by an ideal plan."""
    donor = next(d for d in choose_donors("training") if d.kind == "anatomy" and not d.flair)
    drawn = COHORTS["training"].plan(5)
    ideal = {"bias": 0.0, "snr": 1e6, "gibbs": 0.0, "motion": 0.0, "ghosting": 0.0, "spike": 0.0}
    scanner = drawn.flair_acquisition.model_copy(update=ideal)
    quiet = drawn.mimics.model_copy(update=dict.fromkeys(("rim", "choroid", "septum", "flow", "cortex", "penumbra"), 0.0))
    lesions = drawn.lesions.model_copy(update={"load_ml": 12.0})
    one = drawn.model_copy(
        update={
            "whole_head": False,
            "flair_acquisition": scanner,
            "mimics": quiet,
            "lesions": lesions,
            "anatomy": donor.name,
        }
    )
    head = shape_head(load_anatomy(donor), one.deformation)
    soft = make_lesions(head, one.lesions)
    flair, _ = paint(head, soft, one)
    made = cube_patient(one, head_of(donor.name, load_anatomy(donor)), None, 96, CPU)
    assert made.load_ml == pytest.approx(float((soft >= 0.5).sum()) / 1000, rel=0.35)
    ours, tissue = made.images[0].numpy(), made.tissue[0].numpy()
    free = made.lesion[0].numpy() == 0
    means = {t: np.median(ours[ndimage.binary_erosion(tissue == t) & free]) for t in (Tissue.FLUID, Tissue.WHITE)}
    reference = {
        t: np.median(flair[share > 0.95]) for t, share in ((Tissue.FLUID, head.fluid), (Tissue.WHITE, head.white * (soft == 0)))
    }
    assert means[Tissue.FLUID] / means[Tissue.WHITE] == pytest.approx(
        reference[Tissue.FLUID] / reference[Tissue.WHITE], abs=0.12
    )
    bright = np.median(ours[made.lesion[0].numpy() > 0.95]) / means[Tissue.WHITE]
    assert bright == pytest.approx(np.median(flair[soft > 0.95]) / reference[Tissue.WHITE], rel=0.1)


@pytest.mark.parametrize("index", [1, 2, 3])
def test_slices_have_the_spectrum_of_the_reference(index: int) -> None:
    """A noisy canvas through either scanner: as much power along each axis at the frequencies that the cube can show."""
    edge, grid = 96, 64
    fine = np.random.default_rng(0).random((edge,) * 3, dtype=np.float32)
    canvas = ndimage.gaussian_filter(fine, 1.0) + 0.5
    spacing, counts = (1.5, 1.5, 1.5 + index * 1.5), [edge / 1.5, edge / 1.5, edge / (1.5 + index * 1.5)]
    matrix = tuple(round(n) for n in counts)
    ideal = dict.fromkeys(("bias", "gibbs", "motion", "ghosting", "spike"), 0.0)
    changes = {"voxel_spacing": spacing, "matrix": matrix, "slice_axis": 2, "snr": 1e6, "tilt": (0.0, 0.0, 0.0)}
    scanner = COHORTS["training"].plan(0).flair_acquisition
    scanner = scanner.model_copy(update={**ideal, **changes, "orientation": "RAS"})
    volume = acquire(canvas, scanner, None)
    reference = fit_grid(volume, (grid,) * 3).to_grid(volume.voxels.astype(np.float32))
    box = torch.nn.functional.interpolate(torch.from_numpy(canvas)[None, None], size=(grid,) * 3, mode="area")[0]
    rng = np.random.default_rng(1)
    ours = acquire_on_cube(box, scanner, slice_counts(scanner, np.array([edge] * 3)), None, Noise(1, (grid,) * 3, CPU), rng)[
        0
    ].numpy()

    def power(image: np.ndarray, axis: int) -> float:
        spectrum = np.abs(np.fft.rfft(image - image.mean(), axis=axis)) ** 2
        rest = spectrum.mean(axis=tuple(a for a in range(3) if a != axis))
        return float(rest[grid // 8 :].sum() / rest.sum())

    assert power(ours, 2) == pytest.approx(power(reference, 2), abs=0.1)
    assert power(ours, 2) < power(ours, 0)


def test_what_is_no_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no heads there; make them with"):
        read_heads(tmp_path)
    with pytest.raises(InputError, match=r"no bank.npz there; make it with"):
        LesionBank.read(tmp_path)
    with pytest.raises(InputError, match="no ventricles"):
        labelled_head("sphere", np.full((20, 20, 20), Tissue.WHITE * LEVELS, np.uint8))


def test_a_pattern_keeps_to_its_load_and_its_brain() -> None:
    bank, head = balls_bank(), boxes_head()
    for seed in range(5):
        pattern = bank.pattern(head, 1500.0, np.random.default_rng(seed))
        assert 0 < pattern.sum() <= 1.2 * 1500
        places = np.argwhere(pattern)
        assert (places >= head.brain_box[0]).all() and (places < head.brain_box[1]).all()
