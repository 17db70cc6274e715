"""Scans that are unlike the known ones are told."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy import ndimage

from veridice.errors import InputError, WeightsError
from veridice.io.weight_cards import read_card
from veridice.quality.image_features import DESCRIPTORS, LATER, describe_scan
from veridice.quality.model import OF_0_1_0, load_quality_model
from veridice.quality.ood import KNOWN, PARTS, OodDetector, fit_ood_detector

EDGE = 40
SPACING = (4.0, 4.5, 4.0)
PLACE = np.stack(np.meshgrid(*[np.linspace(-1, 1, EDGE)] * 3, indexing="ij"))
BRAIN = (PLACE**2).sum(axis=0) < 0.6


def phantom(seed: int, white: float = 0.45, grey: float = 0.55) -> np.ndarray:
    """Grey on the outside, white inside (on a FLAIR a little darker), dark ventricles, some noise."""
    rng = np.random.default_rng(seed)
    radius = np.sqrt((PLACE**2).sum(axis=0))
    tissue = np.where(radius > 0.55, grey, white) * rng.uniform(0.95, 1.05)
    image = np.where(BRAIN, np.where(radius < 0.15 * rng.uniform(0.8, 1.2), 0.1, tissue), 0)
    return np.clip(ndimage.gaussian_filter(image, 0.7) + rng.normal(0, 0.02, image.shape) * BRAIN, 0, 1)


def described(image: np.ndarray) -> dict[str, float]:
    return describe_scan(image, BRAIN, SPACING)


def features(seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, 20)


def odd_scans(seed: int = 500) -> dict[str, np.ndarray]:
    usual = phantom(seed)
    blob = ((PLACE - np.array([0.35, 0.1, 0.1])[:, None, None, None]) ** 2).sum(axis=0) < 0.08
    return {
        "T1w": phantom(seed, white=0.6, grey=0.45),
        "inverted": np.where(BRAIN, 0.9 - usual, 0),
        "tumour": np.where(blob & BRAIN, 1.0, usual),
        "noise": np.clip(usual + np.random.default_rng(0).normal(0, 0.25, usual.shape), 0, 1),
        "ghosts": np.clip(usual + 0.4 * np.roll(usual, EDGE // 2, axis=1), 0, 1),
        "blurred": ndimage.gaussian_filter(usual, 3),
    }


@pytest.fixture(scope="module")
def known() -> OodDetector:
    """Shown known phantoms alone."""
    scans = [described(phantom(seed)) for seed in range(80)]
    return fit_ood_detector(scans, [features(seed) for seed in range(80)], [f"p{seed // 2}" for seed in range(80)])


@pytest.fixture(scope="module")
def exposed() -> OodDetector:
    """Shown odd ones too: T1w and tumours."""
    images = [(KNOWN, phantom(seed), seed) for seed in range(60)]
    images += [(kind, odd_scans(seed)[kind], seed) for seed in range(20) for kind in ("T1w", "tumour")]
    kinds, people = [kind for kind, _, _ in images], [f"p{seed // 2}" for _, _, seed in images]
    return fit_ood_detector([described(i) for _, i, _ in images], [features(s) for _, _, s in images], people, kinds)


def test_known_scans_are_familiar(known: OodDetector, exposed: OodDetector) -> None:
    scans = [(described(phantom(s)), features(s)) for s in range(200, 260)]
    for ood in (known, exposed):
        found = np.array([ood.unfamiliarity(*scan) for scan in scans])
        assert (found > 1).mean() < 0.15
        assert found.min() > 0


@pytest.mark.parametrize("name", odd_scans())
def test_odd_scans_are_not(known: OodDetector, name: str) -> None:
    found = described(odd_scans()[name])
    assert known.unfamiliarity(found, features(300)) > 1
    assert known.unusual(found)
    assert {words.rsplit(": too ", 1)[0] for words in known.unusual(found)} <= set(DESCRIPTORS.values())


def test_the_largest_part_counts_and_its_limit_is_one(known: OodDetector) -> None:
    found = described(phantom(502))
    parts = known.parts(found, features(502))
    assert tuple(parts) == PARTS
    assert known.unfamiliarity(found, features(502)) == max(parts.values())
    halved = replace(known, limits=known.limits / 2)
    assert halved.unfamiliarity(found, features(502)) == pytest.approx(2 * max(parts.values()))


def test_what_it_is_most_like_is_said(exposed: OodDetector) -> None:
    for name in ("T1w", "tumour"):
        assert exposed.most_like(described(odd_scans()[name]), features(303)) == name
    assert exposed.most_like(described(phantom(503)), features(303)) is None
    assert exposed.kinds == ("T1w", "tumour")


def test_words_say_in_which_way(known: OodDetector) -> None:
    odd = odd_scans()
    assert f"{DESCRIPTORS['depth']}: too high" in known.unusual(described(odd["T1w"]), most=30)
    assert f"{DESCRIPTORS['sharpness_x']}: too low" in known.unusual(described(odd["blurred"]), most=30)
    assert f"{DESCRIPTORS['noise']}: too high" in known.unusual(described(odd["noise"]), most=30)
    assert len(known.unusual(described(odd["noise"]))) == 3


def test_features_alone_can_tell(known: OodDetector) -> None:
    usual = described(phantom(501))
    assert known.unfamiliarity(usual, features(301)) < known.unfamiliarity(usual, features(301, shift=4.0))
    assert known.unfamiliarity(usual, features(301, shift=4.0)) > 1


def test_no_brain_is_unfamiliar(known: OodDetector) -> None:
    found = describe_scan(phantom(1), np.zeros_like(BRAIN), SPACING)
    assert known.unfamiliarity(found, features(1)) == np.inf
    assert known.unusual(found) == ["no brain was found"]
    assert known.most_like(found, features(1)) is None


def test_what_is_measured() -> None:
    """Each descriptor follows what it is named after."""
    usual, image = described(phantom(0)), phantom(0)
    assert set(usual) == set(DESCRIPTORS)
    assert usual["brain_volume"] == pytest.approx(np.log(BRAIN.sum() * np.prod(SPACING) / 1000))
    assert usual["length"] - usual["width"] == pytest.approx(np.log(4.5 / 4.0))
    assert abs(usual["lean_z"]) < 0.01 and usual["cut_off"] < 0.2
    half = BRAIN & (PLACE[2] < 0.2)
    assert describe_scan(image, half, SPACING)["height"] < usual["height"]
    cut = describe_scan(image[:, :, : EDGE // 2], BRAIN[:, :, : EDGE // 2], SPACING)
    assert cut["cut_off"] > 0.9 and cut["lean_z"] < -1
    wedge = BRAIN & (np.abs(PLACE[0]) < 0.5 - 0.4 * PLACE[1])
    assert describe_scan(image, wedge, SPACING)["lean_y"] > usual["lean_y"] + 0.1
    assert described(odd_scans()["blurred"])["sharpness_x"] < usual["sharpness_x"] - 0.3
    assert described(odd_scans()["noise"])["noise"] > usual["noise"] + 1
    assert described(odd_scans()["tumour"])["bulk_bright"] > usual["bulk_bright"] + 1
    assert described(odd_scans()["tumour"])["lopsided"] > usual["lopsided"] + 1
    assert described(odd_scans()["tumour"])["one_sided"] > 3 > 2.5 > usual["one_sided"]
    assert described(odd_scans()["inverted"])["dark"] != usual["dark"]
    assert described(np.clip(image * 3, 0, 1))["saturated"] > usual["saturated"] + 2
    hazy = image + 0.2 * (PLACE[1] > 0.5) * ~BRAIN
    assert described(hazy)["air"] > usual["air"] and described(hazy)["ghosts"] > usual["ghosts"]


def test_one_person_is_too_few_to_learn_from() -> None:
    looks = [described(phantom(seed)) for seed in range(3)]
    with pytest.raises(InputError, match="at least two people"):
        fit_ood_detector(looks, [features(seed) for seed in range(3)], ["one", "one", "two"], [KNOWN, KNOWN, "noise"])


def test_stored_and_back(exposed: OodDetector) -> None:
    again = OodDetector.from_arrays(exposed.arrays(), exposed.kinds, exposed.names)
    found = described(phantom(7))
    assert again.parts(found, features(7)) == pytest.approx(exposed.parts(found, features(7)), rel=1e-3)
    assert again.most_like(described(odd_scans()["T1w"]), features(7)) == "T1w"
    with pytest.raises(KeyError):
        OodDetector.from_arrays({}, (), tuple(DESCRIPTORS))
    with pytest.raises(ValueError, match="another way"):
        OodDetector.from_arrays(exposed.arrays(), ("T1w",), exposed.names)
    with pytest.raises(ValueError, match="another way"):
        OodDetector.from_arrays(exposed.arrays(), exposed.kinds, [*exposed.names[:-1], "never heard of"])


def test_weights_of_an_older_version_are_refused(tiny_weights: Path) -> None:
    """They had one limit, fewer descriptors and no kinds of odd scans."""
    path, card = tiny_weights / "predictor.safetensors", tiny_weights / "predictor.json"
    arrays = load_file(path)
    del arrays["familiarity.limits"]
    save_file(arrays, path)
    text = json.loads(card.read_text())
    text["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    card.write_text(json.dumps(text))
    with pytest.raises(WeightsError, match="not a predictor of this version; train or install again"):
        load_quality_model(tiny_weights)
    assert read_card(tiny_weights, "predictor").arguments["odd_kinds"] == []


def test_a_detector_asks_for_what_it_learnt_from_alone(exposed: OodDetector) -> None:
    """Later versions measure more; the weights of 0.1.0 go on as they were."""
    found = described(phantom(7))
    fewer = {name: value for name, value in found.items() if name not in LATER}
    rng = np.random.default_rng(0)
    learnt = [{**fewer, "median": fewer["median"] + rng.normal(0, 0.1)} for _ in range(8)]
    arrays = exposed.arrays()
    known = len(exposed.names)
    kept = [place for place, name in enumerate(exposed.names) if name not in LATER]
    for name in ("middle", "below", "above"):
        arrays[f"familiarity.{name}"] = arrays[f"familiarity.{name}"][kept]
    rest = [*kept, *range(known, len(arrays["familiarity.mean"]))]
    for name in ("mean", "scale"):
        arrays[f"familiarity.{name}"] = arrays[f"familiarity.{name}"][rest]
    reduced = [*kept, *range(known, len(arrays["familiarity.centre"]))]
    arrays["familiarity.centre"] = arrays["familiarity.centre"][reduced]
    arrays["familiarity.precision"] = arrays["familiarity.precision"][np.ix_(reduced, reduced)]
    size = len(exposed.centre)
    arrays["familiarity.weights"] = arrays["familiarity.weights"][:, [*reduced, *(size + place for place in reduced)]]
    older = OodDetector.from_arrays(arrays, exposed.kinds, OF_0_1_0)
    assert older.parts(fewer, features(7)) == older.parts(found, features(7))
    assert np.isfinite([older.unfamiliarity(each, features(7)) for each in learnt]).all()
    assert set(older.unusual(found)) <= {f"{text}: too {way}" for text in DESCRIPTORS.values() for way in ("high", "low")}
