"""Tools compared over a study: what is judged, what is stated, what is written; and what is made of all masks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from command import one_after_the_other, veridice
from scipy.stats import ttest_1samp

from veridice.assessment.compare import STAPLE, agreement_table, read_comparison, staple, weighted_vote
from veridice.cohort.schedule import name_tools
from veridice.errors import InputError
from veridice.imaging.volume import Volume
from veridice.io.atomic import write_json
from veridice.io.nifti import write_image
from veridice.quality.tool_order import compare_pairs, tool_means


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scans are judged in this process; that processes do it is shown by the tests of ``run``, as each takes seconds."""
    monkeypatch.setattr("veridice.parallel.in_processes", one_after_the_other)


@pytest.fixture
def study(tmp_path: Path, tiny_scan: dict[str, Volume]) -> Path:
    """Two people; tools ``a`` and ``b`` have masks of both, ``gaps`` of the first alone, ``odd`` one that cannot be read."""
    root = tmp_path / "study"
    root.mkdir()
    write_json(root / "dataset_description.json", {"Name": "tools <b>", "BIDSVersion": "1.10.0"})
    flair = tiny_scan["flair"]
    for name in ("sub-1", "sub-2"):
        (root / name / "anat").mkdir(parents=True)
        for kind, volume in (("FLAIR", flair), ("T1w", tiny_scan["t1"])):
            write_image(root / name / "anat" / f"{name}_{kind}.nii.gz", volume)
        lesion = flair.voxels > 750
        masks = {"a": lesion, "b": np.roll(lesion, 1, 0) | lesion, "gaps": lesion, "odd": lesion}
        for tool, mask in masks.items():
            if tool == "gaps" and name == "sub-2":
                continue
            place = tmp_path / tool / name / f"{name}_label-lesion_mask.nii.gz"
            place.parent.mkdir(parents=True, exist_ok=True)
            write_image(place, flair.with_voxels(mask))
            if tool == "odd" and name == "sub-2":
                place.write_bytes(b"no image")
    return root


def given(study: Path, *tools: str) -> list[object]:
    return [part for tool in tools for part in ("--masks", study.parent / tool)]


def test_every_mask_is_judged_once_and_a_missing_one_is_said(study: Path, tiny_weights: Path) -> None:
    out = study.parent / "out"
    arguments = ["compare", study, out, *given(study, "a", "b", "gaps", "odd"), "--weights", tiny_weights, "--passes", "2"]
    selected = ["--select", "best", "--select", "consensus", "--n-jobs", "1"]
    done = veridice(*arguments, *selected)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(out / "comparison.tsv", sep="\t", keep_default_na=False)
    assert len(table) == 2 * 5
    states = {(row.scan, row.tool): row.status for row in table.itertuples()}
    assert states["sub-2", "gaps"] == states["sub-2", "odd"] == "absent"
    assert states["sub-1", "veridice"] == states["sub-1", "odd"] == "done"
    reasons = {(row.scan, row.tool): row.reason for row in table.itertuples()}
    assert "no mask of sub-2" in reasons["sub-2", "gaps"]
    assert str(study.parent) not in "".join(reasons.values())
    places = table[table["scan"] == "sub-1"].set_index("tool")["place"].astype(float)
    assert places["a"] == places["gaps"] == places["odd"]  # equal masks share a place
    assert len(set(places)) == 3
    again = veridice(*arguments, *selected)
    assert "0 judged, 2 finished before" in again.stderr
    comparison = read_comparison(out / "sub-1" / "anat" / "sub-1_comparison.json")
    assert comparison.agreement["a"]["gaps"] == 1
    if (chosen := comparison.masks[0].tool) != "veridice":
        best = nib.load(out / "sub-1" / "anat" / comparison.maps["best_mask"])
        source = nib.load(study.parent / chosen / "sub-1" / "sub-1_label-lesion_mask.nii.gz")
        assert np.array_equal(np.asarray(best.dataobj), np.asarray(source.dataobj))
    about = json.loads((out / "sub-1" / "anat" / comparison.maps["best_mask"].replace(".nii.gz", ".json")).read_text())
    assert about["Selected"] == comparison.masks[0].tool
    assert len(about["SelectedFrom"]) == 5
    assert {mask.tool for mask in comparison.consensus} == {STAPLE, "consensus (weighted)"}
    page = (out / "comparison.html").read_text()
    assert "tools &lt;b&gt;" in page
    assert page.count("data:image/png") == 5 + 3
    assert "<script" not in page


def test_other_tools_or_settings_are_judged_anew(study: Path, tiny_weights: Path) -> None:
    out = study.parent / "out"
    common = ["--weights", tiny_weights, "--passes", "2", "--no-own", "--n-jobs", "1", "--participant-label", "1"]
    assert "1 judged" in veridice("compare", study, out, *given(study, "a"), *common).stderr
    assert "1 judged" in veridice("compare", study, out, *given(study, "a", "b"), *common).stderr
    assert "1 finished" in veridice("compare", study, out, *given(study, "a", "b"), *common).stderr


def test_a_scan_without_any_mask_fails_alone(study: Path, tiny_weights: Path) -> None:
    out = study.parent / "out"
    common = ["--weights", tiny_weights, "--passes", "2", "--no-own", "--n-jobs", "1"]
    done = veridice("compare", study, out, *given(study, "gaps"), *common)
    assert done.returncode == 1
    assert "1 judged, 0 finished before, 1 failed" in done.stderr
    table = pd.read_csv(out / "comparison.tsv", sep="\t")
    assert table.set_index("scan")["status"].to_dict() == {"sub-1": "done", "sub-2": "failed"}


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["x/a", "y/a"], "second tool"),
        (["veridice=x"], "no name"),
        (["=x"], "no name"),
        (["a;b=x"], "no name"),
        (["own=x"], "no name"),
    ],
)
def test_tools_need_names_of_their_own(texts: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        name_tools(texts)


def test_names_follow_the_folder_and_its_description() -> None:
    told = name_tools(["LST=derivatives/lst-ai", "derivatives/nnunet", "derivatives/sam:v2"])
    assert told == {"LST": "derivatives/lst-ai", "nnunet": "derivatives/nnunet", "sam-v2": "derivatives/sam:v2"}


def masks_of(count: int, seed: int = 0) -> list[Any]:
    rng = np.random.default_rng(seed)
    truth = np.zeros((12, 12, 6), bool)
    truth[3:8, 4:9, 1:4] = True
    return [truth ^ (rng.random(truth.shape) < 0.05) for _ in range(count)]


def test_a_vote_counts_by_weight() -> None:
    masks = masks_of(3)
    slow = np.zeros(masks[0].shape, bool)
    for place in np.ndindex(slow.shape):
        slow[place] = sum(w for w, mask in zip((0.6, 0.2, 0.3), masks, strict=True) if mask[place]) >= 0.55
    assert np.array_equal(weighted_vote(masks, np.array([0.6, 0.2, 0.3])), slow)
    assert np.array_equal(weighted_vote(masks, np.array([5.0, 1, 1])), masks[0])


def test_staple_finds_what_noisy_masks_share() -> None:
    truth = np.zeros((12, 12, 6), bool)
    truth[3:8, 4:9, 1:4] = True
    found = staple(masks_of(7))
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.97
    assert not staple([np.zeros((3, 3, 3), bool)] * 2).any()
    assert np.array_equal(staple([truth, truth]), truth)
    everything = np.ones((3, 3, 3), bool)
    assert np.array_equal(staple([everything, everything]), everything)


def test_the_table_of_agreement_is_symmetric() -> None:
    first, second, third = masks_of(3)
    table = agreement_table({"a": first, "b": second, "c": third})
    assert table["a"]["b"] == table["b"]["a"] == pytest.approx(2 * (first & second).sum() / (first.sum() + second.sum()))
    assert "a" not in table["a"]


def rated(people: int, draw: Callable[[np.random.Generator], dict[str, float]]) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [(f"p{n}", f"s{n}", tool, value) for n in range(people) for tool, value in draw(rng).items()]
    return pd.DataFrame(rows, columns=["person", "scan", "tool", "predicted"])


def test_without_the_error_of_kinds_it_is_students_test_with_holms_correction() -> None:
    table = rated(30, lambda rng: {"a": rng.normal(0.7, 0.1), "b": rng.normal(0.65, 0.1), "c": rng.normal(0.5, 0.1)})
    wide = table.pivot(index="person", columns="tool", values="predicted")
    plain = {pair: ttest_1samp(wide[pair[0]] - wide[pair[1]], 0).pvalue for pair in (("a", "b"), ("a", "c"), ("b", "c"))}
    corrected, highest = {}, 0.0
    for place, pair in enumerate(sorted(plain, key=plain.get)):  # type: ignore[arg-type]
        highest = max(highest, min(1.0, plain[pair] * (3 - place)))
        corrected[pair] = highest
    for pair in compare_pairs(table, kind_error=0.0):
        assert pair.p_value == pytest.approx(corrected[pair.first, pair.second])
        assert (pair.statement == "undecided") == (pair.p_value > 0.05)


def test_endless_people_do_not_make_a_small_difference_certain() -> None:
    table = rated(2000, lambda rng: {"a": rng.normal(0.80, 0.05), "b": rng.normal(0.65, 0.05), "c": rng.normal(0.2, 0.05)})
    stated = {(pair.first, pair.second): pair.statement for pair in compare_pairs(table)}
    assert stated == {("a", "b"): "undecided", ("a", "c"): "better", ("b", "c"): "better"}


def test_few_common_people_state_nothing_and_several_scans_are_one_person() -> None:
    table = rated(4, lambda _: {"a": 0.9, "b": 0.1})
    assert [pair.statement for pair in compare_pairs(table)] == ["undecided"]
    assert np.isnan(tool_means(table)[0].low)
    once = rated(6, lambda _: {"a": 0.9, "b": 0.1})
    twice = pd.concat([once, once.assign(scan=once["scan"] + "-later")])
    assert compare_pairs(twice)[0].people == 6
    means = tool_means(twice)
    assert [(row.tool, row.people) for row in means] == [("a", 6), ("b", 6)]
    assert (means[0].low, means[0].mean, means[0].high) == pytest.approx((0.9, 0.9, 0.9))


def test_a_tool_gains_nothing_by_lacking_the_hard_scans() -> None:
    easy = rated(20, lambda rng: {"a": 0.8 + rng.normal(0, 0.01), "b": 0.8 + rng.normal(0, 0.01)})
    hard = easy[easy["tool"] == "a"].assign(scan=lambda rows: rows["scan"] + "-hard", predicted=0.1)
    (pair,) = compare_pairs(pd.concat([easy, hard]), kind_error=0.0)
    assert abs(pair.difference) < 0.01


def test_results_of_run_in_the_same_folder_stay(study: Path, tiny_weights: Path) -> None:
    out = study.parent / "out"
    common = ["--weights", tiny_weights, "--passes", "2", "--n-jobs", "1"]
    assert veridice("run", study, out, "participant", "--skip-bids-validation", *common).returncode == 0
    kept = sorted(file.name for file in (out / "sub-1").rglob("*") if file.is_file())
    assert veridice("compare", study, out, *given(study, "a"), *common).returncode == 0
    assert set(kept) <= {file.name for file in (out / "sub-1").rglob("*")}
    assert "2 finished before" in veridice("run", study, out, "participant", "--skip-bids-validation", *common).stderr


def test_a_mask_that_is_elsewhere_keeps_no_other_tool_from_going_on(study: Path, tiny_weights: Path) -> None:
    mask = study.parent / "b" / "sub-1" / "sub-1_label-lesion_mask.nii.gz"
    mask.unlink()
    mask.symlink_to("../.git/annex/objects/xx/SHA256E-s1--0.nii.gz/SHA256E-s1--0.nii.gz")
    out = study.parent / "out"
    common = ["--weights", tiny_weights, "--passes", "2", "--n-jobs", "1", "--no-own", "--participant-label", "1"]
    assert veridice("compare", study, out, *given(study, "a", "b"), *common).returncode == 0
    table = pd.read_csv(out / "comparison.tsv", sep="\t").set_index("tool")
    assert table["status"].to_dict() == {"a": "done", "b": "absent"}


def test_where_no_scan_can_be_judged_it_is_one_line(study: Path, tiny_weights: Path) -> None:
    for file in study.rglob("*_FLAIR.nii.gz"):
        file.write_bytes(b"no image")
    done = veridice("compare", study, study.parent / "out", *given(study, "a"), "--weights", tiny_weights, "--n-jobs", "1")
    assert done.returncode == 3
    assert "no mask could be judged" in done.stderr
