"""The paper's experiment on tiny scans and networks: who is in which fold, every method has its row, stages are not redone."""

from __future__ import annotations

import signal
import time
from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.ensemble import RandomForestRegressor

from veridice import cli
from veridice.assessment.check import check
from veridice.assessment.models import load_models
from veridice.case import Case
from veridice.config import InferenceSettings
from veridice.errors import ConfigError, InputError
from veridice.experiment import cases, fold, methods
from veridice.experiment.cases import stored_name
from veridice.experiment.claim import find_start
from veridice.experiment.figure1 import choose_loads
from veridice.experiment.methods import as_served, combination, forest_on_simple_features
from veridice.experiment.protocol import METHODS, ExperimentSettings, Source, assign_folds, inner_folds, load_experiment
from veridice.experiment.results import evaluation
from veridice.experiment.results.resampling import draw_weights
from veridice.experiment.results.tables import read_cases
from veridice.experiment.run import described
from veridice.imaging.volume import Volume
from veridice.inference.passes import Backend
from veridice.io.datasets import read_manifest
from veridice.io.nifti import write_image
from veridice.metrics import scores
from veridice.metrics.overlap import dice
from veridice.networks.mc_unet import McUnet
from veridice.quality import predictor
from veridice.quality.predictor import FEATURES
from veridice.training.settings import load_training_settings

FP32 = Backend("cpu", "fp32", 1)
SOURCES = (Source(layout="bids", folder="."),)
PAPER = {"Utrecht": 20, "Singapore": 20, "Amsterdam": 20, "ms15": 5, "ingenia": 5, "verio": 5, "ms17": 30}


def cases_of(groups: dict[str, int]) -> list[Case]:
    return [Case(f"{name}-{n}", patient=f"{name}-{n}", dataset=name) for name, count in groups.items() for n in range(count)]


# Who is in which split


def test_the_papers_folds_are_68_16_21_and_stratified() -> None:
    settings = ExperimentSettings(name="paper", sources=SOURCES)
    table = assign_folds(cases_of(PAPER), settings)
    for number in range(5):
        assert Counter(table[f"fold-{number}"]) == {"train": 68, "validation": 16, "test": 21}
        test = table[table[f"fold-{number}"] == "test"]
        assert dict(Counter(test["dataset"])) == {name: count // 5 for name, count in PAPER.items()}
    assert ((table[[f"fold-{n}" for n in range(5)]] == "test").sum(axis=1) == 1).all()
    assert assign_folds(cases_of(PAPER), settings).equals(table)
    assert not assign_folds(cases_of(PAPER), settings.model_copy(update={"seed": 1})).equals(table)


def test_patients_of_one_lesion_donor_are_tested_together_as_far_as_sizes_allow() -> None:
    cases = cases_of(PAPER)
    rng = np.random.default_rng(0)
    donors = {case.patient: ("", "", *(f"d{n}" for n in range(10)))[rng.integers(12)] for case in cases}
    settings = ExperimentSettings(name="paper", sources=SOURCES)

    def scattered(table: pd.DataFrame) -> int:
        """Patients that are tested elsewhere than most of their donor's patients."""
        tested = {row["patient"]: n for n in range(5) for row in table[table[f"fold-{n}"] == "test"].to_dict("records")}
        groups = [[tested[p] for p in donors if donors[p] == name] for name in {*donors.values()} - {""}]
        return sum(len(folds) - max(Counter(folds).values()) for folds in groups)

    plain, kept = assign_folds(cases, settings), assign_folds(cases, settings, donors)
    assert scattered(kept) < 0.4 * scattered(plain)
    for number in range(5):
        assert Counter(kept[f"fold-{number}"]) == {"train": 68, "validation": 16, "test": 21}
        test = kept[kept[f"fold-{number}"] == "test"]
        assert dict(Counter(test["dataset"])) == {name: count // 5 for name, count in PAPER.items()}
    assert ((kept[[f"fold-{n}" for n in range(5)]] == "test").sum(axis=1) == 1).all()


def test_a_fold_says_whose_lesions_it_knows(tmp_path: Path) -> None:
    people = {"s1": "brain-1", "s2": "brain-1 les-1", "s3": "brain-2 les-2 les-1", "s4": "brain-1 les-3"}
    lines = [f"{name}\thard\t{donors}" for name, donors in people.items()]
    (tmp_path / "participants.tsv").write_text("\n".join(["participant_id\tseverity\tdonors", *lines]) + "\n")
    table = pd.DataFrame([{"fold": fold, "case": name} for fold in (0, 1) for name in people])
    found = described(table, {0: ["s2"], 1: ["s1", "s4"]}, tmp_path)
    assert found["donor"].tolist() == ["none", "known", "known", "new", "none", "new", "new", "known"]
    assert (found["severity"] == "hard").all()


def test_a_real_patient_beside_simulated_ones_has_neither_severity_nor_donor(tmp_path: Path) -> None:
    (tmp_path / "participants.tsv").write_text("participant_id\tseverity\tdonors\ns1\thard\tbrain-1 les-1\n")
    table = pd.DataFrame([{"fold": 0, "case": "s1"}, {"fold": 0, "case": "real-7"}])
    found = described(table, {0: ["real-7"]}, tmp_path)
    assert found[["severity", "donor"]].to_numpy().tolist() == [["hard", "new"], ["", ""]]


@given(st.integers(10, 40), st.integers(2, 5), st.integers(0, 99))
def test_a_person_is_in_one_split(count: int, folds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cases = [Case(f"c{n}", patient=f"p{rng.integers(count)}", dataset=f"d{rng.integers(3)}") for n in range(3 * count)]
    settings = ExperimentSettings(name="x", sources=SOURCES, folds=folds, seed=seed)
    if len({case.patient for case in cases}) < 2 * folds:
        return
    table = assign_folds(cases, settings)
    for number in range(folds):
        assert (table.groupby("patient")[f"fold-{number}"].nunique() == 1).all()
        train = [case for case, split in zip(cases, table[f"fold-{number}"], strict=True) if split == "train"]
        parts = [{case.patient for case in part} for part in inner_folds(train, settings, number)]
        assert all(not (a & b) for a, b in combinations(parts, 2))
        assert set().union(*parts) == {case.patient for case in train}


def test_too_few_people_are_refused() -> None:
    with pytest.raises(InputError, match="too few"):
        assign_folds(cases_of({"a": 5}), ExperimentSettings(name="x", sources=SOURCES))


@pytest.mark.parametrize("name", ["laptop", "paper"])
def test_shipped_profiles_can_be_read(name: str) -> None:
    assert load_experiment(name).cohort == "paper-sim"


def test_folders_of_sources_are_relative_to_the_data(tmp_path: Path) -> None:
    sources = "[{layout = 'bids', folder = 'a'}, {layout = 'bids', folder = '/b'}]"
    (tmp_path / "e.toml").write_text(f"name = 'x'\nsources = {sources}")
    settings = load_experiment(str(tmp_path / "e.toml"), tmp_path)
    assert [source.folder for source in settings.sources] == [str(tmp_path / "a"), "/b"]


def test_results_name_no_folders_of_a_machine(tmp_path: Path) -> None:
    settings = load_experiment("real-10", tmp_path / "secret" / "scans").model_copy(update={"start": "../somebody/weights"})
    shown = settings.for_results()
    assert [source.folder for source in shown.sources] == ["scans"]
    assert (shown.start, shown.training, shown.calibration) == ("weights", settings.training, settings.calibration)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = 'x'", "name a simulated cohort, sources, or both"),
        ("name = 'x'\ncohort = 'adni'", "paper-sim"),
        ("name = 'x'\ncohort = 'paper-sim'\ntraining = 'huge'", "default.*, paper"),
        ("name = 'x'\nsources = [{layout = 'nii', folder = '.'}]", "lesjak2017"),
        ("name = ", "not TOML"),
    ],
)
def test_a_wrong_experiment_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "e.toml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_experiment(str(tmp_path / "e.toml"))


def test_loads_of_figure_1_are_three_people_with_lesions() -> None:
    loads = {f"c{n}": float(n) for n in range(11)}
    assert choose_loads(loads) == {"small": "c2", "medium": "c5", "large": "c9"}
    assert choose_loads({"a": 0.0, "b": 3.0}) == {"small": "b"}
    assert choose_loads({"a": 0.0}) == {}


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_stored_names_are_safe_and_differ(first: str, second: str) -> None:
    try:
        names = [stored_name(Case(name)) for name in (first, second)]
    except UnicodeEncodeError:  # half a surrogate pair, which no file of names can hold
        return
    assert (names[0] == names[1]) == (first == second)
    assert all("/" not in name and "\0" not in name and name.startswith("case-") for name in names)


# Methods that need more than one scan's maps


def test_an_augmented_pass_comes_back_to_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a network that returns what it sees, all masks are the image's own, up to interpolation at the border."""
    place = np.stack(np.meshgrid(*[np.linspace(-1, 1, 32)] * 3, indexing="ij"))
    blob = np.exp(-((place[0] - 0.3) ** 2 + place[1] ** 2 + (place[2] + 0.2) ** 2) / 0.1).astype(np.float32)
    monkeypatch.setattr(methods, "deterministic_pass", lambda _network, images, _backend: images[0])
    masks = methods.augmented_masks(McUnet(features=2, depth=3), np.stack([blob, blob]), FP32, 5, seed=0)
    found = np.unpackbits(masks, axis=1).reshape(5, 32, 32, 32).astype(bool)
    assert len({mask.tobytes() for mask in found}) == 5
    assert min(dice(mask, blob >= 0.5).dice for mask in found) > 0.9


def test_an_ensemble_that_agrees_with_itself() -> None:
    network = McUnet(features=2, depth=3).eval()
    with torch.no_grad():
        network.heads[-1].bias.zero_()
    images = np.random.default_rng(0).random((2, 16, 16, 16)).astype(np.float32)
    assert scores.mean_pairwise_dice(methods.ensemble_masks([network, network], images, FP32)) == 1.0


def test_reverse_classification_follows_the_quality_of_the_mask() -> None:
    """The reference is the same head, moved: a good mask reaches it, a wrong one does not."""
    rng = np.random.default_rng(1)
    head = ndimage.gaussian_filter(rng.random((40, 40, 40)), 2)
    place = np.stack(np.meshgrid(*[np.linspace(-1, 1, 40)] * 3, indexing="ij"))
    head = np.where((place**2).sum(axis=0) < 0.6, 0.4 + 4 * (head - head.mean()), 0)
    lesion = ((place - 0.2) ** 2).sum(axis=0) < 0.06
    flair = head + 0.5 * lesion
    moved = [ndimage.shift(image.astype(float), (2, -1, 1), order=1) for image in (flair, lesion)]
    reference = [(moved[0], moved[1] >= 0.5)]
    good = methods.reverse_classification(flair, lesion.astype(float), reference)
    wrong = methods.reverse_classification(flair, lesion[::-1].astype(float), reference)
    assert good > 0.7
    assert wrong < 0.3


def test_retrieved_references_are_the_nearest_in_deviations() -> None:
    rng = np.random.default_rng(3)
    known, asked = rng.normal(size=(20, 5)) * [1, 10, 100, 1, 0], rng.normal(size=5)
    scale = [max(float(np.std(column)), 1e-6) for column in known.T]
    away = [sum(((a - b) / s) ** 2 for a, b, s in zip(row, asked, scale, strict=True)) for row in known]
    assert methods.retrieved(asked, known, 4).tolist() == sorted(range(20), key=lambda n: away[n])[:4]


def test_feature_distance_grows_away_from_what_is_known() -> None:
    rng = np.random.default_rng(4)
    known = rng.normal(size=(200, 3)) * [1, 5, 0.2] + [0, 100, 3]
    steps = np.array([[0, 0, 0], [3, 15, 0.6], [0, 5, 0]])
    near_by, far_off, along = methods.feature_distances(known.mean(axis=0) + steps, known)
    assert near_by == pytest.approx(0, abs=0.05) and along == pytest.approx(1, abs=0.15)
    assert far_off == pytest.approx(np.sqrt(3) * 3, rel=0.1)


@pytest.fixture
def small_forests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor, "TREES", 40)
    monkeypatch.setattr(methods, "_forest", lambda seed: RandomForestRegressor(60, min_samples_leaf=3, random_state=seed))


@pytest.mark.usefixtures("small_forests")
def test_what_is_learnt_never_sees_the_truth_of_the_judged() -> None:
    rng = np.random.default_rng(2)
    names = ("volume", "lesion_count", "mask_contrast", "mean_foreground_entropy", "entropy_sum", "pairwise_dice")
    names = (*names, *FEATURES[:8])
    known = [{n: float(rng.random()) for n in names} for _ in range(40)]
    known = [{**numbers, "dice": numbers["pairwise_dice"], "load_ml": 1.0} for numbers in known]
    judged = {f"c{n}": {**{m: float(rng.random()) for m in names}, "dice": 0.0, "load_ml": 0.0} for n in range(10)}
    other = {name: {**numbers, "dice": 1.0, "load_ml": 9.0} for name, numbers in judged.items()}
    people = [f"p{n // 2}" for n in range(40)]

    def served(known: list[dict[str, float]], judged: dict[str, dict[str, float]], seed: int) -> dict[str, float]:
        return as_served(known, people, judged, seed)

    def together(known: list[dict[str, float]], judged: dict[str, dict[str, float]], seed: int) -> dict[str, float]:
        return combination(known, people, judged, seed)

    assert forest_on_simple_features(known, judged, 0) == forest_on_simple_features(known, other, 0)
    for method in (together, served):
        predicted = method(known, judged, 0)
        assert predicted == method(known, other, 0)
        assert np.corrcoef([predicted[n] for n in judged], [judged[n]["pairwise_dice"] for n in judged])[0, 1] > 0.9


def test_a_case_is_analysed_as_check_does_it(experiment: Path, tiny_weights: Path) -> None:
    """The same networks, passes and seed: the same evidence, from which the method ``veridice`` predicts."""
    models = load_models(tiny_weights)
    case = read_manifest(experiment.parent / "people.csv", experiment.parent)[0]
    data = load_training_settings("default").data.model_copy(update={"grid": models.grid_shape[0]})
    panel = cases.Panel(models.segmenter, (), models.reconstructor, models.brain_finder, FP32, None, {}, 2, 0, 0.5, 0)
    numbers, _ = cases.analyse_case(cases.KnownCase.read(case, data), panel, 8)
    served = check(case.flair, case.t1, models=models, settings=InferenceSettings(passes=2, precision="fp32", engine="torch"))
    scores_ = served.assessment.scores
    for name in {*FEATURES, *scores.SCORES} - {f"predicted_dice_{pair}" for pair in models.regressors}:
        assert numbers[name] == pytest.approx(scores_[name], abs=1e-4), name


# The whole, tiny

TO_GO_ON_ELSEWHERE = (
    "begun.json",
    "inputs.json",
    "fold-*/stages/*.json",
    "fold-*/scores.csv",
    "fold-*/classes.csv",
    "fold-0/figure1.npz",
    "fold-1/refits.csv",
)
"""As docs/experiment.md says."""


@pytest.fixture
def experiment(study: Path, tiny_scan: dict[str, Volume]) -> Path:
    """Eight people in a manifest, and an experiment of two folds on them."""
    rng = np.random.default_rng(5)
    rows = []
    for number in range(8):
        flair = tiny_scan["flair"].voxels.copy()
        lesion = np.zeros(flair.shape, bool)
        corner = rng.integers((8, 8, 5), (16, 20, 9))
        lesion[tuple(slice(c, c + 4) for c in corner)] = True
        flair[lesion] = 900
        for name, voxels in {"flair": flair, "mask": lesion}.items():
            write_image(study / f"{name}-{number}.nii.gz", tiny_scan["flair"].with_voxels(voxels))
        files = {"flair": f"flair-{number}.nii.gz", "t1": "t1.nii.gz", "mask": f"mask-{number}.nii.gz"}
        rows.append({"id": f"=c/{number}", "patient": f"p{number}", "split": "test", "dataset": "ab"[number % 2], **files})
    pd.DataFrame(rows).to_csv(study / "people.csv", index=False)
    (study / "e.toml").write_text(
        f"""
name = "tiny"
training = "{study / "tiny.toml"}"
folds = 2
inner_folds = 2
passes = 2
test_time_augmentations = 2
atlas_references = 1
segmenter_steps = 2
inner_steps = 2
reconstructor_steps = 2
generator_steps = 2
regressor_steps = 1
refit_steps = 1
[[sources]]
layout = "manifest"
folder = "{study}"
manifest = "{study / "people.csv"}"
"""
    )
    return study / "e.toml"


@pytest.fixture
def quick_experiment(experiment: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same in seconds."""
    monkeypatch.setattr(scores, "SUM_GRID", (16, 16, 16))
    monkeypatch.setattr(evaluation, "draw_weights", lambda patients, _count: draw_weights(patients, 50))
    monkeypatch.setattr(fold, "bundled_weights", lambda: tiny_weights)
    return experiment


@pytest.mark.slow
@pytest.mark.usefixtures("small_forests", "quick_pictures")
def test_an_experiment_goes_on_elsewhere_without_its_weights(quick_experiment: Path) -> None:
    experiment, output = quick_experiment, quick_experiment.parent / "out"
    assert cli.run(["experiment", str(experiment), "-o", str(output)]) == 0
    made = list((output / "results").iterdir())
    before = [path.read_bytes() for path in made]
    elsewhere = experiment.parent / "elsewhere"
    for path in [file for pattern in TO_GO_ON_ELSEWHERE for file in output.glob(pattern)]:
        (elsewhere / path.relative_to(output)).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / path.relative_to(output)).write_bytes(path.read_bytes())
    assert cli.run(["experiment", str(experiment), "-o", str(elsewhere)]) == 0
    assert [(elsewhere / path.relative_to(output)).read_bytes() for path in made] == before
    assert not list(elsewhere.rglob("*.safetensors"))


@pytest.mark.usefixtures("small_forests", "quick_pictures")
def test_an_experiment_goes_on_where_it_was_interrupted(
    quick_experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment, output = quick_experiment, quick_experiment.parent / "out"

    def interrupted(*_: object) -> float:
        signal.raise_signal(signal.SIGALRM)  # as when the minutes are over
        time.sleep(60)
        return 0.0

    with monkeypatch.context() as patch:
        patch.setattr(fold, "reverse_classification", interrupted)
        assert cli.run(["experiment", str(experiment), "-o", str(output), "--minutes", "60"]) == 130
    assert "0 of 2 folds are finished; stages of fold 0: segmenter, " in capsys.readouterr().err
    assert not (output / "results" / "cases.csv").exists()
    kept = {path: path.stat().st_mtime_ns for path in output.rglob("*.safetensors")}
    assert kept
    assert cli.run(["experiment", str(experiment), "-o", str(output)]) == 0, capsys.readouterr().err
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    table = read_cases(output / "results" / "cases.csv")
    tested = table[table["split"] == "test"]
    assert set(tested.groupby("case")["fold"].nunique()) == {1} and tested["case"].nunique() == 8
    per_case = tested.groupby("case")["method"].apply(set)
    assert all(methods_ == per_case.iloc[0] for methods_ in per_case)
    assert per_case.iloc[0] == {*METHODS, *(f"{name}_unseen_scanner" for name in fold.LEARNT)}
    few = tested["method"].str.endswith("_unseen_scanner")
    assert tested.loc[(tested["kind"] == "dice") & ~few, "score"].notna().all()
    made = list((output / "results").iterdir())
    assert {"ladder.csv", "table1.md", "summary.html", "figure1.png", "figure2.png", "figure3.svg", "risk-coverage.png"} <= {
        path.name for path in made
    }
    experiment.write_text(experiment.read_text().replace("passes = 2", "passes = 3"))
    assert cli.run(["experiment", str(experiment), "-o", str(output)]) == 3
    assert "another 'passes'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("methods_", "code", "said"), [("astrology", 3, "method 'astrology' is unknown"), (",", 2, "at least one method")]
)
def test_methods_that_are_none(methods_: str, code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["experiment", "laptop", "-o", str(tmp_path / "out"), "--methods", methods_]) == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_methods_are_a_set_with_the_baselines() -> None:
    asked = ExperimentSettings(name="some", sources=SOURCES, methods=("pairwise_dice", "volume", "pairwise_dice"))
    assert asked.methods == ("volume", "training_mean", "pairwise_dice")
    assert asked.wants("training_mean") and not asked.wants("ensemble")
    assert ExperimentSettings(name="all", sources=SOURCES).wants("ensemble")


@pytest.mark.slow
def test_some_methods_alone(experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    output = experiment.parent / "some"
    monkeypatch.setattr(scores, "SUM_GRID", (16, 16, 16))
    monkeypatch.setattr(evaluation, "draw_weights", lambda patients, _count: draw_weights(patients, 50))
    monkeypatch.setattr(fold, "_regress", None)
    monkeypatch.setattr(fold, "reverse_classification", None)
    monkeypatch.setattr(cases, "augmented_masks", None)
    monkeypatch.setattr(cases, "ensemble_masks", None)
    asked = ["experiment", str(experiment), "-o", str(output)]
    assert cli.run([*asked, "--methods", "pairwise_dice, random_forest"]) == 0, capsys.readouterr().err
    assert not list(output.glob("fold-*/stages/regressor-*")) and not list(output.glob("fold-*/stages/atlas*"))
    made = {"volume", "training_mean", "pairwise_dice", "random_forest", "random_forest_unseen_scanner"}
    assert set(read_cases(output / "results" / "cases.csv")["method"]) == made
    assert (output / "results" / "summary.html").exists()
    assert cli.run(asked) == 3
    assert "another 'methods'" in capsys.readouterr().err
    assert cli.run([*asked, "--methods", "random_forest,volume,pairwise_dice"]) == 0


def test_inner_segmenters_never_saw_the_cases_they_are_asked_about(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: dict[str, set[str]] = {}
    real = fold.unets.train_segmenter

    def watched(settings, cases, run, weights, start=None):  # type: ignore[no-untyped-def]
        trained[str(run.parent.relative_to(experiment.parent / "out"))] = {case.id for case in cases if case.split == "train"}
        return real(settings, cases, run, weights, start)

    monkeypatch.setattr(fold.unets, "train_segmenter", watched)
    monkeypatch.setattr(fold, "_analyse", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert cli.run(["experiment", str(experiment), "-o", str(experiment.parent / "out")]) == 130
    assert trained["fold-0/inner-0"] | trained["fold-0/inner-1"] == trained["fold-0"]
    assert not trained["fold-0/inner-0"] & trained["fold-0/inner-1"]


def test_case_names_that_differ_in_signs_alone_stay_apart() -> None:
    assert stored_name(Case("a-1")) != stored_name(Case("a1"))
    assert stored_name(replace(Case("x"), id="../x")) == "case-..%2Fx"


# What is fixed when an experiment begins


@pytest.fixture
def begun(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[str]]:
    """An experiment that was interrupted before its first stage, and the command that goes on with it."""
    monkeypatch.setattr("veridice.experiment.run.run_fold", lambda _fold: (_ for _ in ()).throw(KeyboardInterrupt))
    command = ["experiment", str(experiment), "-o", str(experiment.parent / "out")]
    assert cli.run(command) == 130
    return experiment, command


@pytest.mark.parametrize("change", ["less", "other"])
def test_cases_cannot_change_under_an_experiment(
    begun: tuple[Path, list[str]], change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else somebody would be tested by networks that trained on them."""
    people = begun[0].parent / "people.csv"
    if change == "less":
        people.write_text("".join(people.read_text().splitlines(keepends=True)[:-1]))
    else:
        (people.parent / "mask-0.nii.gz").write_bytes((people.parent / "mask-1.nii.gz").read_bytes())
    assert cli.run(begun[1]) == 3
    assert "changed, came or went" in capsys.readouterr().err


def test_the_training_configuration_cannot_change_either(
    begun: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = begun[0].parent / "tiny.toml"
    tiny.write_text(tiny.read_text().replace("features = 2", "features = 3", 1))
    assert cli.run(begun[1]) == 3
    assert "another 'training.segmenter.features'" in capsys.readouterr().err


def test_a_wrong_folder_can_be_put_right_and_data_may_move(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("veridice.experiment.run.run_fold", lambda _fold: (_ for _ in ()).throw(KeyboardInterrupt))
    folder, text = experiment.parent, experiment.read_text()
    command = ["experiment", str(experiment), "-o", str(folder / "out")]
    experiment.write_text(text.replace(f'folder = "{folder}"', 'folder = "/nowhere"'))
    assert cli.run(command) == 3
    experiment.write_text('calibration = "nothing.csv"\n' + text)
    assert cli.run(command) == 3
    experiment.write_text(text)
    assert cli.run(command) == 130
    moved = folder / "moved"
    moved.mkdir()
    for file in [folder / "people.csv", *folder.glob("*.nii.gz")]:
        file.rename(moved / file.name)
    here = text.replace(f'folder = "{folder}"', f'folder = "{moved}"')
    experiment.write_text(here.replace(str(folder / "people.csv"), str(moved / "people.csv")))
    assert cli.run(command) == 130
    assert "was begun with another" not in capsys.readouterr().err


def test_a_case_that_cannot_be_read_is_named_and_left_out(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = experiment.parent
    (folder / "mask-3.nii.gz").write_bytes(b"no mask")
    monkeypatch.setattr("veridice.experiment.run.run_fold", lambda _fold: (_ for _ in ()).throw(KeyboardInterrupt))
    assert cli.run(["experiment", str(experiment), "-o", str(folder / "out")]) == 130
    left_out = (folder / "out" / "left-out.txt").read_text()
    assert left_out.startswith("=c/3: mask-3.nii.gz") and str(folder) not in left_out
    assert "=c/3" not in (folder / "out" / "splits.csv").read_text()


def test_nobody_is_tested_whom_the_start_learnt_from(
    experiment: Path, tiny_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment.write_text(f'start = "{tiny_weights}"\n' + experiment.read_text())
    for name in ("segmenter", "reconstructor"):
        card = tiny_weights / f"{name}.json"
        card.write_text(card.read_text().replace('"people": {}', '"people": {"train": ["p4"]}'))
    assert cli.run(["experiment", str(experiment), "-o", str(experiment.parent / "out")]) == 3
    assert "trained on p4" in capsys.readouterr().err


def test_a_network_that_the_start_lacks_begins_anew(experiment: Path, tiny_weights: Path) -> None:
    (tiny_weights / "reconstructor.json").unlink()
    settings = load_experiment(str(experiment)).model_copy(update={"start": str(tiny_weights)})
    training = load_training_settings(settings.training)
    start = find_start(settings, training)
    assert (start.of("segmenter"), start.of("reconstructor")) == (tiny_weights, None)
    placed = fold.for_folds(training, settings, experiment.parent, start)
    assert (placed.segmenter.crop, placed.reconstructor.crop) == (0, training.reconstructor.crop)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("name =", 'start = "nowhere"\nname ='), "nowhere"),
        (("inner_folds = 2", "inner_folds = 4"), "too few for 4 inner folds"),
        (("folds = 2", "folds = 5"), "too few for 5 folds"),
        (("passes = 2", "passes = 2\nseed = 5000000000"), "seed"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_trained(
    experiment: Path, change: tuple[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment.write_text(experiment.read_text().replace(*change, 1))
    assert cli.run(["experiment", str(experiment), "-o", str(experiment.parent / "out")]) == 3
    assert said in capsys.readouterr().err
    assert not list(experiment.parent.glob("out/fold-*"))


@pytest.mark.parametrize("place", ["file", "file/below", "full"])
def test_an_output_folder_that_cannot_be_one(experiment: Path, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    (experiment.parent / "file").write_text("")
    (experiment.parent / "full").mkdir()
    (experiment.parent / "full" / "mine").write_text("")
    assert cli.run(["experiment", str(experiment), "-o", str(experiment.parent / place)]) == 3
    assert "-o folder" in capsys.readouterr().err
