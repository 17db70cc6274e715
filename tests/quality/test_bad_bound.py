"""The bound on bad masks holds for every limit that a reader may choose after looking."""

from __future__ import annotations

import numpy as np
import pytest

from veridice.quality.bad_bound import CONFIDENCE, Envelope, envelope, most_bad

LEVELS = np.arange(0.01, 0.21, 0.01)


def drawn_study(witnesses: int, bad: int, good: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """p-values of a study whose bad masks are like the known ones, and which masks are bad."""
    known = rng.normal(0, 1, witnesses)
    new = np.concatenate([rng.normal(0, 1, bad), rng.normal(2.5, 1, good)])
    p_values = (1 + (known[None] >= new[:, None]).sum(axis=1)) / (witnesses + 1)
    return p_values, np.arange(bad + good) < bad


@pytest.mark.parametrize(("bad", "good"), [(4, 56), (30, 30)])
def test_all_choices_hold_together(bad: int, good: int) -> None:
    rng = np.random.default_rng(0)
    broken = 0
    for _ in range(150):
        p_values, is_bad = drawn_study(100, bad, good, rng)
        # A reader who prefers some masks at some limits must not be able to break the bound either.
        liked = rng.random(len(p_values)) < 0.7
        choices = np.concatenate([p_values <= LEVELS[:, None], (p_values <= LEVELS[:, None]) & liked])
        broken += bool(((choices & is_bad).sum(axis=1) > most_bad(p_values, choices, 100)).any())
    # 7.5 are expected at most; 14 or more come of it once in seventy times.
    assert broken <= 13


def test_it_says_more_than_the_number_of_accepted_masks() -> None:
    p_values, is_bad = drawn_study(200, 10, 90, np.random.default_rng(1))
    accepted = (p_values <= 0.05)[None]
    assert (accepted & is_bad).sum() <= most_bad(p_values, accepted, 200)[0] < 0.15 * accepted.sum()


def test_a_bound_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(2)
    p_values, _ = drawn_study(50, 5, 7, rng)
    chosen = rng.random(12) < 0.6
    worst = 0
    for masks in range(1, 13):  # so few masks are all tried one by one
        ends = envelope(50, masks)
        room = [masks * float(ends.share(np.array([t]))[0]) for t in p_values]
        if any(masks - most > np.count_nonzero(p_values > t) for most, t in zip(room, p_values, strict=True)):
            continue
        found = min(
            int(most + 1e-9) + np.count_nonzero(chosen & (p_values > t)) for most, t in zip(room, p_values, strict=True)
        )
        worst = max(worst, min(found, masks))
    assert most_bad(p_values, chosen[None], 50)[0] == min(worst, chosen.sum())


@pytest.mark.parametrize(
    ("witnesses", "masks", "width"), [(150, 20, 0.846), (150, 100, 0.405), (60, 40, 0.655), (300, 500, 0.225)]
)
def test_the_envelope_is_that_of_its_authors(witnesses: int, masks: int, width: float) -> None:
    # Widths of nonconform 2.0.0 (fdp_bounds, method mc_thc, 20,000 draws); ours are of 1,000 draws.
    assert envelope(witnesses, masks, CONFIDENCE).width == pytest.approx(width, rel=0.1)


def test_the_envelope_s_values_are_those_of_its_authors() -> None:
    # Of nonconform 2.0.0 at a width of 0.4.
    shares = Envelope(0.4).share(np.array([0.0, 0.01, 0.05, 0.5, 0.995]))
    assert shares == pytest.approx([0.0498, 0.0498, 0.13718, 0.7, 1.0], abs=1e-4)


def test_without_witnesses_nothing_is_known() -> None:
    assert most_bad(np.array([0.01, 0.5]), np.array([[True, True], [True, False]]), 0).tolist() == [2, 1]
    assert most_bad(np.zeros(0), np.zeros((1, 0), bool), 5).tolist() == [0]
