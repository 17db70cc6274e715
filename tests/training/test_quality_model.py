"""Judged masks with a known Dice, and the whole way from them to a judge, on tiny scans and networks."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from veridice import cli
from veridice.assessment.models import Models, load_models
from veridice.config import InferenceSettings
from veridice.errors import ConfigError, InputError
from veridice.imaging.scan import Scan
from veridice.imaging.volume import Volume
from veridice.inference.passes import Backend
from veridice.quality import predictor
from veridice.quality.predictor import FEATURES
from veridice.quality.single_lesions import Lesion, fit_lesion_model
from veridice.simulate.donors import choose_donors, donors_by_name
from veridice.simulate.ood_scans import CORRUPTIONS
from veridice.simulate.plan import PatientPlan
from veridice.training import ood_examples, quality_model
from veridice.training.assessed_masks import KnownScan, assessed_masks, masks_to_learn
from veridice.training.mask_errors import KINDS
from veridice.training.people import DAMAGED, GRADED, PEOPLE

FP32 = Backend("cpu", "fp32", 1)


def known_scan(tiny_scan: dict[str, Volume], name: str, seed: int = 0) -> KnownScan:
    flair = tiny_scan["flair"]
    rng = np.random.default_rng(seed)
    truth = flair.voxels > 750
    noisy = flair.with_voxels((flair.voxels + rng.normal(0, 5, flair.shape) * (flair.voxels > 0)).astype(np.float32))
    judged = np.ones_like(truth)
    judged[:5] = False
    scan = Scan(noisy, tiny_scan["t1"], brain=flair.with_voxels(flair.voxels > 100))
    facts = {"simulated": True, "severity": "easy", "load_ml": 1.0, "whole_head": False, "brain": "anatomy-mni152"}
    return KnownScan(name, name, 0, scan, (truth,), judged, facts)


def test_rows_say_what_is_true(tiny_scan: dict[str, Volume], tiny_weights: Path) -> None:
    models = load_models(tiny_weights, with_quality=False)
    known = known_scan(tiny_scan, "a")
    other_patient = (np.zeros((16, 16, 16), bool),)
    settings = InferenceSettings(passes=2)
    rng = np.random.default_rng(0)
    rows = assessed_masks(known, models, [models.segmenter], other_patient, len(KINDS), settings, FP32, rng)
    masks = pd.DataFrame(rows["masks"])
    assert set(masks["kind"]) == {"own", *KINDS} and masks["kind"].iloc[0] == "own"
    assert masks["dice"].between(0, 1).all()
    assert (masks.loc[masks["kind"].isin(["empty", "stranger"]), "dice"] == 0).all()
    assert set(FEATURES) <= set(masks.columns)
    lesions = pd.DataFrame(rows["lesions"])
    assert lesions["real"].any() and not lesions["real"].all()
    assert len(rows["scans"]) == 1 and len(rows["scans"][0]["features"]) == 8
    few = [assessed_masks(known, models, [], other_patient, 1, settings, FP32, np.random.default_rng(0)) for _ in range(2)]
    assert few[0] == few[1]


@pytest.mark.slow
def test_from_scans_to_a_judge(
    study: Path, tiny_scan: dict[str, Volume], tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated patients are replaced by tiny scans; everything else is what ``train predictor`` does."""

    def tiny(plan: PatientPlan, *_: object) -> KnownScan:
        return known_scan(tiny_scan, f"sim-{plan.seed}-{plan.index:05d}", plan.seed + plan.index)

    for module in (quality_model, ood_examples):
        monkeypatch.setattr(module, "simulated_scan", tiny)
    monkeypatch.setattr(predictor, "TREES", 3)
    monkeypatch.setitem(predictor.PERCEPTRON, "max_iter", 2)
    output = study / "run"
    shutil.copytree(tiny_weights, output / "weights")
    for name in ("predictor.json", "predictor.safetensors", "calibration.json"):
        (output / "weights" / name).unlink()
    text = (study / "tiny.toml").read_text()
    counts = "patients = 3\nmasks = 4\nvalidation_patients = 4\ncalibration_patients = 5\ngraded_masks = 1\npasses = 2"
    counts += "\nlooks = 4\npeople = 2"
    monkeypatch.setitem(PEOPLE, "training", replace(PEOPLE["training"], donors="validation"))  # no further donors here
    (study / "judge.toml").write_text(
        f"{text.replace('simulated_patients = 0', 'simulated_patients = 3')}\n[predictor]\n{counts}\n"
    )
    command = ["train", "predictor", f"--config={study / 'judge.toml'}", f"-o{output}"]
    command += [f"--manifest={study / 'manifest.csv'}", f"--data={study}"]
    assert cli.run(command) == 3  # nobody was left out by any segmenter yet
    for name in ("segmenter.json", "segmenter.safetensors"):
        (output / "fold-0" / "weights").mkdir(parents=True, exist_ok=True)
        shutil.copy(output / "weights" / name, output / "fold-0" / "weights" / name)
    assert cli.run(command) == 0
    models = load_models(output / "weights")
    assert models.quality is not None
    apart = pd.read_csv(output / "predictor" / "calibration-masks.csv.gz")
    assert len(apart) == 5 * (1 + DAMAGED + GRADED) and models.quality.calibration.n == (apart["lesion_count"] > 0).sum() > 0
    # The tiny weights have a critic, which is listened to.
    assert "critic_dice" in models.quality.predictor.features
    assert len(models.quality.lesions.weights) == 6
    assert 0 < models.quality.calibration.patients <= 5
    assert "simulated patients" in models.quality.calibration.source
    learnt = (pd.read_csv(output / "predictor" / "train-masks.csv.gz")["lesion_count"] > 0).sum()
    assert models.cards["predictor"].learnt_from["segmenter"] == models.cards["segmenter"].sha256
    # People whom no network saw were learnt from beside the others, and stand on the card.
    unseen = pd.read_csv(output / "predictor" / "people-training-masks.csv.gz")
    assert len(unseen) == 2 * (1 + DAMAGED + GRADED) and "mni152" in models.cards["predictor"].people["train"]
    assert models.cards["predictor"].data.startswith(f"{(unseen['lesion_count'] > 0).sum() + learnt} masks")
    seen = pd.concat(pd.read_json(path) for path in (output / "predictor" / "looks").glob("*.json"))
    assert set(seen["kind"]) == {"", *CORRUPTIONS} and len(seen) > 4 * 4
    stored = sorted((output / "predictor" / "train").glob("*.json"))
    assert {path.stem for path in stored} >= {"real-scan-train", "real-scan-train-stripped"}
    times = [path.stat().st_mtime_ns for path in stored]
    table = output / "predictor" / "train-masks.csv.gz"
    before, rows = table.read_bytes(), pd.read_csv(table)
    assert len(rows) == (3 + 2) * (1 + 4 + 1) and set(FEATURES) <= set(rows)
    assert cli.run(command) == 0
    assert [path.stat().st_mtime_ns for path in stored] == times
    assert table.read_bytes() == before


def test_people_whom_a_network_saw_are_not_learnt_from(tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEOPLE, "training", replace(PEOPLE["training"], donors="training"))  # no further donors here
    models, cohort = load_models(tiny_weights, with_quality=False), PEOPLE["training"]
    brains = [donors_by_name()[cohort.plan(number).anatomy].person for number in range(20)]
    assert len(quality_model._unseen(3, models)) == 3

    def knowing(*people: str) -> Models:
        cards = {name: card.model_copy(update={"people": {"train": list(people)}}) for name, card in models.cards.items()}
        return replace(models, cards=cards)

    left = [f"sim-{cohort.seed}-{number:05d}" for number, brain in enumerate(brains) if brain != brains[0]]
    assert [scan.name for scan in quality_model._unseen(3, knowing(brains[0]))] == left[:3]
    with pytest.raises(ConfigError, match="the networks know the brains"):
        quality_model._unseen(3, knowing(*(donor.person for donor in choose_donors("training"))))


def test_what_is_learnt_from_has_the_same_evidence(tmp_path: Path) -> None:
    rows = pd.DataFrame({"scan": ["a", "b"], "kind": "own", "dice": [0.5, 0.6], "lesion_count": 1, "edge": [0.1, 0.2]})
    rows.to_csv(tmp_path / "train-masks.csv.gz", index=False)
    assert list(masks_to_learn(tmp_path)["scan"]) == ["a", "b"]
    rows.assign(scan=["c", "d"]).to_csv(tmp_path / "people-training-masks.csv.gz", index=False)
    assert list(masks_to_learn(tmp_path)["scan"]) == ["a", "b", "c", "d"]
    rows.drop(columns="edge").to_csv(tmp_path / "people-training-masks.csv.gz", index=False)
    with pytest.raises(InputError, match="judged by different versions"):
        masks_to_learn(tmp_path)


def test_confidence_in_lesions_follows_what_is_known() -> None:
    rng = np.random.default_rng(0)
    count = 200
    mean = rng.random(count)
    table = pd.DataFrame(
        {
            "number": range(count),
            "volume_ml": rng.uniform(0.01, 2, count),
            **dict.fromkeys("xyz", 0.0),
            "mean_probability": mean,
            "highest_probability": np.minimum(1, mean + 0.2),
            "share_of_passes": ndimage.gaussian_filter1d(mean, 0.1),
            "brightness": rng.normal(size=count),
            "real": mean + rng.normal(0, 0.1, count) > 0.5,
        }
    )
    model = fit_lesion_model(table)
    lesions = [Lesion(**row) for row in table.drop(columns="real").to_dict("records")]
    confidence = np.array(model.confidence(lesions))
    assert confidence[mean > 0.7].min() > 0.5 > confidence[mean < 0.3].max()
    # With a critic that knows, it is the critic that is followed.
    judged = table.assign(real=rng.random(count) > 0.5)
    judged["critic_chance"] = np.where(judged["real"], 0.8, 0.2) + rng.normal(0, 0.05, count)
    model = fit_lesion_model(judged)
    confidence = np.array(model.confidence([Lesion(**row) for row in judged.drop(columns="real").to_dict("records")]))
    assert len(model.weights) == 6
    assert ((confidence > 0.5) == judged["real"]).all()
    # Tables of masks without a critic have an empty column.
    assert len(fit_lesion_model(judged.assign(critic_chance=np.nan)).weights) == 5
