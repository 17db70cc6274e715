"""What became of lesions between two visits, against hand-made cases and a slow oracle."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from veridice.quality.lesion_changes import match_lesions


def drawn(*boxes: tuple[slice, slice, slice]) -> np.ndarray:
    mask = np.zeros((24, 20, 12), bool)
    for box in boxes:
        mask[box] = True
    return mask


def box(x: int, y: int, z: int, edge: int) -> tuple[slice, slice, slice]:
    return slice(x, x + edge), slice(y, y + edge), slice(z, z + edge)


def test_each_kind_of_change() -> None:
    before = drawn(box(1, 1, 1, 3), box(10, 1, 1, 2), box(1, 10, 1, 3), box(18, 12, 6, 3))
    after = drawn(box(1, 1, 1, 3), box(10, 1, 1, 4), box(1, 10, 1, 2), box(12, 12, 6, 2))
    kinds = {change.kind: change for change in match_lesions(before, after, 0.01)}
    assert set(kinds) == {"unchanged", "grown", "shrunk", "gone", "new"}
    assert kinds["grown"].change_ml == 0.01 * (64 - 8)
    assert kinds["new"].before == ()
    assert kinds["gone"].centre == (19, 13, 7)


def test_merged_and_split() -> None:
    apart, joined = drawn(box(2, 2, 2, 3), box(7, 2, 2, 3)), drawn((slice(2, 10), slice(2, 5), slice(2, 5)))
    (merged,) = match_lesions(apart, joined, 1.0)
    assert (merged.merged, merged.split, merged.before, merged.after) == (True, False, (1, 2), (1,))
    (split,) = match_lesions(joined, apart, 1.0)
    assert (split.merged, split.split) == (False, True)


def test_a_bit_of_a_border_is_no_new_lesion() -> None:
    before = drawn(box(4, 4, 4, 3))
    after = drawn(box(7, 4, 4, 1))  # touches the lesion's border without overlapping it
    assert {change.kind for change in match_lesions(before, after, 1.0)} == {"fragment"}


def test_nothing_at_all() -> None:
    empty = drawn()
    assert match_lesions(empty, empty, 1.0) == []
    assert [change.kind for change in match_lesions(empty, drawn(box(1, 1, 1, 2)), 1.0)] == ["new"]


@given(st.integers(0, 10_000))
def test_groups_are_those_of_a_slow_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before, after = (ndimage.gaussian_filter(rng.normal(size=(14, 12, 8)), 1.2) > 0.22 for _ in range(2))
    changes = match_lesions(before, after, 1.0)
    old, new = (ndimage.label(mask, np.ones((3, 3, 3)))[0] for mask in (before, after))
    waiting = {("b", int(n)) for n in np.unique(old) if n} | {("a", int(n)) for n in np.unique(new) if n}
    slow = []
    while waiting:
        group, edge = set(), [waiting.pop()]
        while edge:
            visit, number = edge.pop()
            group.add((visit, number))
            mine, other, name = (old, new, "a") if visit == "b" else (new, old, "b")
            more = {(name, int(n)) for n in np.unique(other[mine == number]) if n} & waiting
            waiting -= more
            edge += more
        slow.append((frozenset(n for v, n in group if v == "b"), frozenset(n for v, n in group if v == "a")))
    assert Counter(slow) == Counter((frozenset(c.before), frozenset(c.after)) for c in changes)
    assert sum(change.volume_before_ml for change in changes) == before.sum()
    assert sum(change.volume_after_ml for change in changes) == after.sum()
