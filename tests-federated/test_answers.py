"""What leaves a site is weights, counts and sorted scores; what spoils a round is refused; nobody's program is run."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.cli.build import build_fab_from_disk
from shared import FEDERATION

from veridice.errors import InputError
from veridice.federated import client_app, conductor, federation, own_programs
from veridice.federated import site as site_module
from veridice.federated.common_networks import arrays_of, build_network
from veridice.federated.common_state import CommonState
from veridice.federated.federation import Agreement, Federation, load_federation
from veridice.federated.messages import (
    ARRAYS,
    BUSY,
    CONFIG,
    EXAMPLES,
    FINGERPRINT,
    FINISH,
    LACKS,
    METRICS,
    NETWORK,
    ROUND,
    SAID,
    SCORES,
    TEXT,
    to_record,
)
from veridice.federated.strategy import Checked, averaging
from veridice.io.weight_cards import read_card
from veridice.quality.common_scores import SiteScores

PATIENT = "mueller-anna-1961"


@pytest.fixture
def member(study: Path, monkeypatch: pytest.MonkeyPatch) -> Federation:
    """A site whose patients and folders have names that must not leave."""
    rows = pd.read_csv(study / "manifest.csv")
    rows["patient"] = rows["id"] = [f"{PATIENT}-{split}" for split in rows["split"]]
    rows.to_csv(study / "manifest.csv", index=False)
    (study / "site.toml").write_text(FEDERATION)
    monkeypatch.setenv(CONFIG, str(study / "site.toml"))
    return load_federation(study / "site.toml", "site")


def asked(federation: Federation, kind: str, text: str = "", **more: object) -> Message:
    """A question of the server."""
    said = ConfigRecord({FINGERPRINT: federation.fingerprint(), NETWORK: "segmenter", ROUND: 1, TEXT: text, **more})
    arrays = to_record(arrays_of(build_network("segmenter", federation.training)))
    return Message(RecordDict({ARRAYS: arrays, SAID: said}), dst_node_id=1, message_type=kind)


def reply_to(message: Message) -> Message:
    """What the site answers, by the very program that Flower runs."""
    return client_app.app(message, Context(1, 1, {}, RecordDict(), {}))


def everything(message: Message) -> bytes:
    """All bytes of a message, those of its arrays too."""
    if message.has_error():
        return f"{message.error.code} {message.error.reason}".encode()
    found = [
        repr({name: dict(record) for name, record in message.content.items() if not isinstance(record, ArrayRecord)}).encode()
    ]
    for record in message.content.array_records.values():
        found += [name.encode() + array.data for name, array in record.items()]
    return b"".join(found)


def test_nothing_but_weights_and_a_count_leaves_a_round(member: Federation, study: Path) -> None:
    reply = reply_to(asked(member, "train"))
    assert not reply.has_error()
    assert {name: type(record) for name, record in reply.content.items()} == {ARRAYS: ArrayRecord, METRICS: MetricRecord}
    assert dict(reply.content[METRICS]) == {EXAMPLES: 1}
    network = arrays_of(build_network("segmenter", member.training))
    assert {name: array.shape for name, array in reply.content[ARRAYS].items()} == {
        name: value.shape for name, value in network.items()
    }
    for secret in (PATIENT, str(study), "manifest", os.environ.get("USER") or "no user"):
        assert secret.encode() not in everything(reply)


def test_evaluation_tells_numbers_alone(member: Federation) -> None:
    reply = reply_to(asked(member, "evaluate"))
    assert set(reply.content) == {METRICS}
    assert set(reply.content[METRICS]) == {"dice", "dice_median"}


def test_an_error_names_nobody_and_no_folder(member: Federation, study: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (study / "flair.nii.gz").write_bytes(b"broken")
    reply = reply_to(asked(member, "train"))
    assert reply.has_error()
    assert "InputError" in reply.error.reason
    for secret in (PATIENT, str(study), "flair"):
        assert secret.encode() not in everything(reply)
    # The people of the site can read why.
    assert "flair.nii.gz" in capfd.readouterr().err


def test_a_site_that_agreed_on_something_else_does_not_take_part(member: Federation) -> None:
    question = asked(member, "train")
    question.content[SAID][FINGERPRINT] = "other"
    assert "agreed on something else" in reply_to(question).error.reason


def test_a_private_site_sends_no_change_that_is_not_shortened(member: Federation, study: Path) -> None:
    private = FEDERATION.replace("[site]", "[federation.privacy]\nclip = 0.01\nnoise = 1.0\n[site]")
    (study / "site.toml").write_text(private)
    member = load_federation(study / "site.toml", "site")
    assert reply_to(asked(member, "train")).has_error()
    reply = reply_to(asked(member, "train", clipping_norm=0.01))
    common = arrays_of(build_network("segmenter", member.training))
    moved = [np.square(array.numpy() - common[name]).sum() for name, array in reply.content[ARRAYS].items()]
    assert np.sqrt(sum(moved)) <= 0.01 * (1 + 1e-3)
    assert dict(reply.content[METRICS]) == {EXAMPLES: 1}


def test_shared_scores_are_sorted_and_of_nobody(
    study: Path, member: Federation, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tiny judge in place of the one that ships, which is for another cube.
    for module in (federation, site_module):
        monkeypatch.setattr(module, "bundled_weights", lambda _task="": tiny_weights)
    rows = pd.read_csv(study / "manifest.csv")
    apart = rows.iloc[[0, 0]].assign(split="test", id=["t1", "t2"], patient=[f"{PATIENT}-1", f"{PATIENT}-2"])
    pd.concat([rows, apart]).to_csv(study / "manifest.csv", index=False)
    (study / "site.toml").write_text(FEDERATION.replace("min_dice = []", "min_dice = [0.5, 0.7]"))
    member = load_federation(study / "site.toml", "site")
    shutil.copytree(tiny_weights, study / "site" / "weights")
    stale = reply_to(asked(member, SCORES, json.dumps({"segmenter": "0" * 64})))
    assert stale.error.reason == LACKS
    final = json.dumps({"segmenter": read_card(study / "site" / "weights", "segmenter").sha256})
    reply = reply_to(asked(member, SCORES, final))
    assert not reply.has_error(), reply.error.reason
    assert PATIENT.encode() not in everything(reply)
    shared = [SiteScores.model_validate(one) for one in json.loads(str(reply.content[SAID][TEXT]))]
    assert [one.min_dice for one in shared] == [0.5, 0.7]
    assert all(list(scores.score) == sorted(scores.score) for one in shared for scores in (one.bad, one.good, one.gross))
    assert all(one.bad.people <= 2 for one in shared)
    report = {"bad_people": 1, "accepted_bad": 0.0, "max_missed": 0.05, "chance": 1.0, "differs": False}
    content = {"sites": 2, "scores": [one.model_dump() for one in shared], "report": {"0.5": report, "0.7": report}}
    assert not reply_to(asked(member, FINISH, json.dumps(content))).has_error()
    kept = json.loads((study / "site" / "calibration.json").read_text())
    assert [one["min_dice"] for one in kept["common"]] == [0.5, 0.7]


def test_a_site_ends_whatever_the_last_word_is(member: Federation, study: Path) -> None:
    assert not reply_to(asked(member, FINISH, json.dumps({"sites": 0, "scores": [], "report": {}}))).has_error()
    assert (study / "site" / "finished.txt").exists()
    (study / "site" / "finished.txt").unlink()
    assert reply_to(asked(member, FINISH, json.dumps({"sites": 2, "scores": [{"min_dice": 7}], "report": {}}))).has_error()
    assert (study / "site" / "finished.txt").exists()


COMMON = {"a": np.zeros((2, 3), np.float32), "b": np.ones(4, np.float32)}


def answer(site: int, arrays: dict[str, np.ndarray], examples: float = 2, **more: object) -> Message:
    """A site's answer to a round."""
    question = Message(RecordDict(), dst_node_id=site, message_type="train")
    content = {ARRAYS: ArrayRecord({name: Array(value) for name, value in arrays.items()})}
    reply = Message(RecordDict({**content, METRICS: MetricRecord({EXAMPLES: examples}), **more}), reply_to=question)
    reply.metadata.__dict__["_src_node_id"] = site
    return reply


def checked(minimum: int, told: list[tuple[int, str]], kept: dict[int, dict], said: dict[int, dict] | None = None) -> Checked:
    agreed = Agreement(name="x", minimum_sites=minimum, min_dice=())
    strategy = Checked(
        inner=averaging(agreed, 3, 0),
        network="segmenter",
        fingerprint="f",
        minimum=minimum,
        private=False,
        done=0,
        tell=lambda site, what: told.append((site, what)),
        on_weights=kept.__setitem__,
        on_metrics=lambda _, metrics: None if said is None else said.update(metrics),
    )
    strategy._sent, strategy._asked = COMMON, {1, 2, 3, 4}
    return strategy


def test_a_round_goes_on_without_poisoned_answers() -> None:
    told: list[tuple[int, str]] = []
    kept: dict[int, dict] = {}
    good = {name: value + np.float32(0.1) for name, value in COMMON.items()}
    better = {name: value + np.float32(0.4) for name, value in COMMON.items()}
    poisoned = {**COMMON, "b": np.array([1, np.nan, 1, 1], np.float32)}
    arrays, _ = checked(2, told, kept).aggregate_train(1, [answer(1, good, 1), answer(2, poisoned), answer(3, better, 3)])
    assert arrays is not None
    # The mean, each site counting by its scans.
    for name, array in arrays.items():
        np.testing.assert_allclose(array.numpy(), (good[name] + 3 * better[name]) / 4, rtol=1e-6)
    assert list(kept) == [1]
    assert ("refused: weights that are not finite" in dict(told)[2]) and dict(told)[4] == "no answer in time"


@pytest.mark.parametrize(
    "bad",
    [
        answer(2, {"a": COMMON["a"]}),
        answer(2, {**COMMON, "b": np.ones(9, np.float32)}),
        answer(2, COMMON, 1e9),
        answer(2, COMMON, more=ConfigRecord({"scan": b"voxels"})),
        Message(Error(1, "broken"), reply_to=Message(RecordDict(), dst_node_id=2, message_type="train")),
    ],
)
def test_a_round_with_too_few_answers_does_not_count(bad: Message) -> None:
    kept: dict[int, dict] = {}
    strategy = checked(2, [], kept)
    assert strategy.aggregate_train(1, [answer(1, COMMON), bad]) == (None, None)
    assert strategy.done == 0
    assert not kept


def broken(array: bytes) -> ArrayRecord:
    """Weights whose bytes are no array."""
    record = ArrayRecord({name: Array(value) for name, value in COMMON.items()})
    next(iter(record.values())).data = array
    return record


@pytest.mark.parametrize(
    "content",
    [
        {ARRAYS: broken(b"no array"), METRICS: MetricRecord({EXAMPLES: 1})},
        {ARRAYS: ConfigRecord({"a": 1}), METRICS: MetricRecord({EXAMPLES: 1})},
        {METRICS: MetricRecord({EXAMPLES: 1})},
        {ARRAYS: ArrayRecord({name: Array(value) for name, value in COMMON.items()})},
        {},
    ],
)
def test_no_answer_of_a_site_ends_the_federation(content: dict) -> None:
    question = Message(RecordDict(), dst_node_id=2, message_type="train")
    reply = Message(RecordDict(content), reply_to=question)
    reply.metadata.__dict__["_src_node_id"] = 2
    told: list[tuple[int, str]] = []
    arrays, _ = checked(1, told, {}).aggregate_train(1, [answer(1, COMMON), reply])
    assert arrays is not None
    assert "refused" in dict(told)[2]


def test_evaluations_are_read_for_what_they_are_asked_for() -> None:
    def evaluation(site: int, metrics: dict) -> Message:
        reply = Message(RecordDict({METRICS: MetricRecord(metrics)} if metrics else {}), reply_to=question)
        reply.metadata.__dict__["_src_node_id"] = site
        return reply

    question = Message(RecordDict(), dst_node_id=1, message_type="evaluate")
    said: dict[int, dict] = {}
    replies = [
        evaluation(1, {EXAMPLES: 1, "dice": 0.5, "=cmd()": 1.0}),
        evaluation(2, {}),
        evaluation(3, {EXAMPLES: 0, "dice": [0.1, 0.2]}),
        evaluation(4, {EXAMPLES: 1, "dice": float("nan"), "dice_median": 0.4}),
    ]
    assert checked(1, [], {}, said).aggregate_evaluate(1, replies) is None
    assert said == {1: {"dice": 0.5}, 4: {"dice_median": 0.4}}


class FakeGrid:
    """Sites that answer as they are told to, one list of answers each."""

    def __init__(self, answers: dict[int, list[Message | str]]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, int]] = []

    def get_node_ids(self) -> list[int]:
        return list(self.answers)

    def send_and_receive(self, messages: list[Message], timeout: float) -> list[Message]:  # noqa: ARG002
        replies = []
        for message in messages:
            site = message.metadata.dst_node_id
            self.asked.append((message.metadata.message_type, site))
            said = self.answers[site].pop(0) if self.answers[site] else RecordDict()
            content = {"reply_to": message}
            reply = Message(Error(1, said), **content) if isinstance(said, str) else Message(said, **content)
            reply.metadata.__dict__["_src_node_id"] = site
            replies.append(reply)
        return replies


def test_a_busy_site_is_asked_again_and_a_broken_one_is_told(
    member: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conductor, "PAUSE_S", 0.0)
    state = CommonState(tmp_path / "server")
    state.claim("x")
    state.name_sites({number: {"name": name, "key": ""} for number, name in ((1, "a"), (2, "b"), (3, "c"))})
    grid = FakeGrid({1: [], 2: [BUSY, BUSY], 3: ["this site failed"]})
    found = conductor.Conductor(grid, member, state, 3).ask("query.keep", "text")  # type: ignore[arg-type]
    assert set(found) == {1, 2}
    assert grid.asked.count(("query.keep", 2)) == 3
    assert (tmp_path / "server" / "events.txt").read_text() == "query.keep: c: this site failed\n"


def test_what_is_no_list_of_scores_is_refused(member: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agreed = member.federation.model_copy(update={"min_dice": (0.7,)})
    federation = member.model_copy(update={"federation": agreed})
    monkeypatch.setattr(conductor, "read_card", lambda *_: type("Card", (), {"sha256": "0"}))
    state = CommonState(tmp_path / "server")
    state.claim("x")
    one = {"score": [0.5], "share": [1.0], "people": 1}
    good = json.dumps([{"min_dice": 0.7, "bad": one, "gross": one, "good": one}])
    said = ["null", "[" * 100_000, "{}", good.replace("0.7", "0.8"), good.replace('"people": 1', '"people": 9'), "x", good]
    grid = FakeGrid({number: [RecordDict({SAID: ConfigRecord({TEXT: text})})] for number, text in enumerate(said, 1)})
    grid.answers[99] = [RecordDict()]
    found = conductor.Conductor(grid, federation, state, 3).collect_scores()  # type: ignore[arg-type]
    assert list(found) == [len(said)]
    assert (tmp_path / "server" / "events.txt").read_text().count("refused") == len(said)


def test_privacy_is_counted_over_all_rounds_those_before_an_interruption_too() -> None:
    private = Agreement(name="x", privacy={"clip": 1.0, "noise": 1.0}, quantiles=10, minimum_sites=3)
    spent = [averaging(private, 3, done).privacy_spent() for done in (0, 1, 10)]
    assert spent[0].epsilon == 0
    assert 0 < spent[1].epsilon < spent[2].epsilon
    # Ten times the Gaussian mechanism with noise 1: Mironov 2017 gives 10 a / 2 + log(1 / delta) / (a - 1) at its best order a.
    orders = np.linspace(1.1, 60, 2000)
    upper = (10 * orders / 2 + np.log(1e5) / (orders - 1)).min()
    assert 0.8 * upper < spent[2].epsilon <= upper * 1.01


def test_private_rounds_are_noisy_and_need_everybody() -> None:
    private = Agreement(name="x", privacy={"clip": 1.0, "noise": 1.0}, quantiles=10)

    def round_of(answers: list[Message]) -> tuple[Checked, ArrayRecord | None]:
        kept: dict[int, dict] = {}
        strategy = checked(3, [], kept)
        strategy.inner, strategy.private = averaging(private, 3, 0), True
        grid = FakeGrid({1: [], 2: [], 3: []})
        common = ArrayRecord({name: Array(value) for name, value in COMMON.items()})
        asked_for = list(strategy.configure_train(1, common, ConfigRecord(), grid))  # type: ignore[arg-type]
        assert {message.content[SAID]["clipping_norm"] for message in asked_for} == {1.0}
        return strategy, strategy.aggregate_train(1, answers)[0]

    strategy, arrays = round_of([answer(site, COMMON, 1) for site in (1, 2, 3)])
    assert arrays is not None
    noise = np.concatenate([(array.numpy() - COMMON[name]).ravel() for name, array in arrays.items()])
    # A third of the noise that was asked for, since three sites share it.
    assert 0.1 < noise.std() < 1.0
    assert strategy.epsilon() is not None and strategy.epsilon() > 0
    for few in (
        [answer(site, COMMON, 1) for site in (1, 2)],
        [answer(1, COMMON, 1), answer(2, COMMON, 1), answer(3, COMMON, 5)],
    ):
        strategy, arrays = round_of(few)
        assert arrays is None and strategy.done == 0 and strategy.epsilon() == 0


def test_a_program_from_elsewhere_is_not_installed(tmp_path: Path) -> None:
    installed: list[bytes] = []
    install = own_programs.own_program_alone(lambda content, **_: installed.append(content))
    install(build_fab_from_disk(own_programs.app_folder()), skip_prompt=True)
    assert len(installed) == 1
    other = tmp_path / "app"
    shutil.copytree(own_programs.app_folder(), other)
    (other / "evil.py").write_text("print('here')\n")
    with pytest.raises(InputError, match="another program"):
        install(build_fab_from_disk(other), skip_prompt=True)
    assert len(installed) == 1


@pytest.mark.parametrize(
    ("client", "path", "expected"),
    [
        ("127.0.0.1", "/v1/control/start-run", 200),
        ("10.0.0.5", "/v1/control/start-run", 200),
        ("192.0.2.1", "/v1/control/start-run", 403),
        ("192.0.2.1", "/v1/runtime/acquire-task", 403),
        ("192.0.2.1", "/docs", 403),
        ("192.0.2.1", "/v1/fleet/pull-messages", 200),
        ("not an address", "/v1/control/start-run", 403),
    ],
)
def test_other_computers_reach_the_door_for_sites_alone(client: str, path: str, expected: int) -> None:
    statuses: list[int] = []

    async def inner(_scope: object, _receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(event: dict) -> None:
        if "status" in event:
            statuses.append(event["status"])

    scope = {"type": "http", "client": (client, 1), "server": ("10.0.0.5", 9092), "path": path}
    asyncio.run(own_programs.ControlFromHere(inner)(scope, None, send))
    assert statuses == [expected]
