"""What a federation is made of, without Flower: its file, a round of a site, answers that are refused, the server's folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from shared import FEDERATION, TINY_CONFIG
from torch import nn

from veridice.case import Case
from veridice.errors import ConfigError, InputError, WeightsError
from veridice.federated.common_card import card_of
from veridice.federated.common_networks import arrays_of, build_network, take
from veridice.federated.common_state import CommonState
from veridice.federated.federation import ORDER, Agreement, Federation, load_federation
from veridice.federated.local_training import pull_back, rate_of_round, score, train_round
from veridice.federated.site import NetworksLackError, Site, refuse_shipped_people
from veridice.federated.updates import far_from_others, what_is_wrong
from veridice.io.weight_cards import WeightCard, bundled_weights, read_card
from veridice.quality.calibration import CalibrationSet, read_calibration, write_calibration
from veridice.quality.common_scores import Scores, joined_scores, share_scores
from veridice.quality.decision import GROSS
from veridice.quality.site_reports import SiteReport
from veridice.training.loop import CHECKPOINT


@pytest.fixture
def site(study: Path) -> Site:
    (study / "site.toml").write_text(FEDERATION)
    federation = load_federation(study / "site.toml", "site")
    assert federation.site
    return Site.of(federation, federation.site)


def test_paths_are_relative_to_the_file_and_checked(study: Path) -> None:
    file = study / "site.toml"
    file.write_text(FEDERATION)
    federation = load_federation(file, "site")
    assert federation.site
    assert federation.site.manifest == (study / "manifest.csv").absolute()
    assert federation.training.name == "tiny"
    for wrong, said in {
        FEDERATION.replace('manifest = "manifest.csv"', 'manifest = "none.csv"'): "field 'site.manifest'",
        FEDERATION.replace("rounds = 3", "rounds = 0"): "field 'federation.rounds'",
        FEDERATION.replace("[site]", "[elsewhere]"): "elsewhere",
        FEDERATION.replace('["segmenter"]', '["reconstructor", "segmenter"]'): "in this order",
        FEDERATION.replace('"localhost:9092"', '"localhost"'): "field 'site.server'",
        FEDERATION.replace("min_dice = []", "min_dice = [0.7]"): "cube of 128, not 16",
        FEDERATION.split("[site]")[0]: "no section [site]",
    }.items():
        file.write_text(wrong)
        with pytest.raises(ConfigError, match=said.replace("[", r"\[").replace("]", r"\]")):
            load_federation(file, "site")


def test_members_agree_by_what_they_learn_not_by_where_it_lies(study: Path) -> None:
    file, prints = study / "site.toml", set()
    for text, config in (
        (FEDERATION, TINY_CONFIG),
        (FEDERATION.replace("site", "other", 1).replace("[other]", "[site]"), TINY_CONFIG.replace("CUBES", 'cubes = "x"')),
        (FEDERATION, TINY_CONFIG.replace("workers = 0", "workers = 1")),
    ):
        (study / "tiny.toml").write_text(config.replace("CUBES", ""))
        file.write_text(text)
        prints.add(load_federation(file, "site").fingerprint())
    assert len(prints) == 1
    (study / "tiny.toml").write_text(TINY_CONFIG.replace("CUBES", "").replace("crop = 8", "crop = 12"))
    assert load_federation(file, "site").fingerprint() not in prints


def test_privacy_with_all_scores_is_refused() -> None:
    with pytest.raises(ValueError, match="quantiles"):
        Agreement(name="x", privacy={"clip": 1.0, "noise": 1.0})


@pytest.mark.parametrize("network", ORDER)
def test_every_network_learns_for_a_round_and_is_scored(site: Site, network: str) -> None:
    needs = {"critic": ["segmenter"], "regressor": ["segmenter", "reconstructor"]}
    for needed in needs.get(network.split("-")[0], ()):
        keep_fresh(site, needed)
    before = arrays_of(build_network(network, site.training))
    local = site.train(network, 1, before)
    assert local.examples == 1
    assert set(local.arrays) == set(before)
    assert any((local.arrays[name] != before[name]).any() for name in before)
    metrics = site.score(network, 1, local.arrays)
    assert metrics
    assert all(np.isfinite(value) for value in metrics.values())
    assert not list(site.output.rglob(CHECKPOINT))
    assert "round 1 learnt" in (site.output / "events.txt").read_text()


def keep_fresh(site: Site, network: str) -> None:
    """Final weights that have learnt nothing, as the server hands them out."""
    numbers = {"steps": 0, "best_step": 0, "seed": 0, "grid": site.training.data.grid, "metrics": {}, "people": {}}
    words = dict.fromkeys(("sha256", "configuration", "data", "commit", "created", "version"), "")
    card = {**numbers, **words, "name": network, "kind": network, "arguments": site.training.arguments_of(network)}
    site.keep(json.dumps(card), arrays_of(build_network(network, site.training)))


@pytest.mark.parametrize("network", ["critic", "regressor-image"])
def test_what_lacks_is_said_so(site: Site, network: str) -> None:
    with pytest.raises(NetworksLackError):
        site.train(network, 1, {})
    with pytest.raises(NetworksLackError):
        site.scores({"segmenter": "0" * 64})


def test_people_whom_shipped_weights_know_are_not_judged(site: Site) -> None:
    known = read_card(bundled_weights(), "segmenter").people["train"][0]
    for split, refused in (("train", False), ("validation", True), ("test", True)):
        case = Case(id="x", patient=known, split=split)
        if refused:
            with pytest.raises(InputError, match="learnt from this person"):
                refuse_shipped_people([*site.cases, case], "lesion")
        else:
            refuse_shipped_people([*site.cases, case], "lesion")


def test_a_site_goes_by_its_own_masks_where_it_differs(site: Site) -> None:
    own = CalibrationSet(source="own", simulated=True, patients=2, predicted=(0.5, 0.8), spread=(0.1, 0.1), dice=(0.4, 0.9))
    site.output.mkdir()
    common = [joined_scores([share_scores(own, needed, GROSS)] * 3) for needed in (0.7, 0.75)]
    report = {"bad_people": 1, "accepted_bad": 0.2, "max_missed": 0.05, "chance": 0.5}
    reports = {"0.7": SiteReport(**report, differs=False), "0.75": SiteReport(**report, differs=True)}
    site.decide(common, reports, 3)
    assert not (site.output / "calibration.json").exists()
    write_calibration(site.output / "calibration.json", own)
    site.decide(common, reports, 3)
    assert [one.min_dice for one in read_calibration(site.output / "calibration.json").common] == [0.7]
    events = (site.output / "events.txt").read_text()
    assert "no common decision" in events and "this site differs: at a Dice of 0.75" in events
    with pytest.raises(InputError, match="fewer people"):
        site.decide([common[0].model_copy(update={"bad": Scores(score=(), share=(), people=0)})], reports, 3)


def test_the_card_of_a_federation_without_any_metrics_is_a_card(site: Site, tmp_path: Path) -> None:
    federation = Federation(federation=site.agreement)
    state = CommonState(tmp_path / "server")
    state.claim("x")
    card = WeightCard(**{**card_of(federation, state, "segmenter", None), "sha256": "x"})
    assert card.metrics == {} and card.people == {}
    state.note("segmenter", 2, {"a": {"dice": 0.5}, "b": {"dice": 0.7}})
    card = WeightCard(**{**card_of(federation, state, "segmenter", None), "sha256": "x"})
    assert card.metrics == {"dice": 0.6} and "2 sites" in card.data


def test_a_round_is_the_same_wherever_it_runs(site: Site, tmp_path: Path) -> None:
    common = arrays_of(build_network("segmenter", site.training))
    first, second = (
        train_round(site.agreement, site.training, site.cases, "segmenter", 2, common, tmp_path / name) for name in "ab"
    )
    assert all(np.array_equal(first.arrays[name], second.arrays[name]) for name in common)


def test_fedprox_adds_its_gradient() -> None:
    torch.manual_seed(0)
    network, inputs = nn.Linear(3, 2), torch.randn(5, 3)
    anchors = [parameter.detach().clone() for parameter in network.parameters()]
    pull_back(network, 0.7)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))
    network(inputs).square().mean().backward()
    found = [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]
    plain = nn.Linear(3, 2)
    plain.load_state_dict(network.state_dict())
    distance = sum((w - a).square().sum() for w, a in zip(plain.parameters(), anchors, strict=True))
    (plain(inputs).square().mean() + 0.35 * distance).backward()
    for mine, parameter in zip(found, plain.parameters(), strict=True):
        torch.testing.assert_close(mine, parameter.grad)


def test_the_rate_falls_from_round_to_round() -> None:
    rates = [rate_of_round(number, 5) for number in range(1, 6)]
    assert rates[0] == 1
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < 0.1
    assert rate_of_round(1, 1) == 1


def test_common_weights_of_another_network_are_refused(site: Site) -> None:
    network = build_network("segmenter", site.training)
    with pytest.raises(WeightsError, match="another network"):
        take(network, arrays_of(build_network("reconstructor", site.training)))


COMMON = {"a": np.zeros((2, 3), np.float32), "b": np.ones(4, np.float32)}


@pytest.mark.parametrize(
    ("answer", "examples", "said"),
    [
        (COMMON, 3, ""),
        ({"a": COMMON["a"]}, 3, "names"),
        ({**COMMON, "c": COMMON["a"]}, 3, "names"),
        ({**COMMON, "b": np.ones(5, np.float32)}, 3, "shape"),
        ({**COMMON, "b": np.ones(4, np.float64)}, 3, "type"),
        ({**COMMON, "b": np.array([1, np.nan, 1, 1], np.float32)}, 3, "finite"),
        ({**COMMON, "b": np.array([1, np.inf, 1, 1], np.float32)}, 3, "finite"),
        (COMMON, 0, "number of scans"),
        (COMMON, 10**9, "number of scans"),
        (COMMON, float("nan"), "number of scans"),
        (COMMON, None, "number of scans"),
        (COMMON, True, "number of scans"),
    ],
)
def test_answers_that_would_spoil_the_common_weights_are_refused(answer: dict, examples: object, said: str) -> None:
    assert said in what_is_wrong(COMMON, answer, examples)
    assert bool(what_is_wrong(COMMON, answer, examples)) == bool(said)


def test_an_answer_far_from_the_others_is_refused_where_there_are_enough() -> None:
    def moved(length: float) -> dict[str, np.ndarray]:
        return {**COMMON, "b": COMMON["b"] + np.float32(length)}

    assert far_from_others(COMMON, [moved(0.1), moved(0.2), moved(5.0)]) == [False, False, True]
    assert far_from_others(COMMON, [moved(0.1), moved(5.0)]) == [False, False]
    assert far_from_others(COMMON, [moved(0.0), moved(0.0), moved(0.0)]) == [False] * 3


def test_the_server_goes_on_from_the_last_whole_round(tmp_path: Path) -> None:
    state = CommonState(tmp_path / "server")
    state.claim("agreed")
    assert state.rounds_done("segmenter") == 0
    for number in range(4):
        state.keep("segmenter", number, {"a": np.full(3, number, np.float32)})
    assert state.rounds_done("segmenter") == 3
    assert (state.weights("segmenter")["a"] == 3).all()
    assert len(list((tmp_path / "server" / "segmenter").iterdir())) == 2
    state.note("segmenter", 2, {"a": {"dice": 0.1}})
    state.note("segmenter", 3, {"a": {"dice": 0.2}, "b": {"dice": 0.3}})
    # A server that was killed does a round again; its row is not doubled.
    state.note("segmenter", 3, {"a": {"dice": 0.4}})
    state.note("segmenter", 4, {})
    assert state.metrics("segmenter")["dice"].tolist() == [0.1, 0.4]
    assert state.metrics("critic").empty
    with pytest.raises(ConfigError, match="another federation"):
        state.claim("something else")
    state.name_sites({5: {"name": "utrecht", "key": "k"}, 6: {"name": "singapore", "key": "l"}})
    assert [state.site_name(number) for number in (5, 6, 7)] == ["utrecht", "singapore", "site 7"]


def test_score_is_of_the_validation_people_alone(site: Site) -> None:
    common = arrays_of(build_network("segmenter", site.training))
    assert score(site.training, site.cases, "segmenter", common, site.output) == score(
        site.training, [case for case in site.cases if case.split == "validation"], "segmenter", common, site.output
    )
