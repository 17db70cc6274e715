"""The desk over real connections: who may ask what, what is kept, and what is refused."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import sqlite3
import subprocess
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from command import veridice
from desk_study import SHAPE, Desk, served, served_apart, without_judge, write_scan, write_study

from veridice.cohort.ratings import read_rating
from veridice.errors import OutputError
from veridice.review.store import kept_alone


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A desk for tests that change nothing."""
    output = write_study(tmp_path_factory.mktemp("data") / "study", 3)
    with served(output) as desk:
        yield desk


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path / "study", 4)


def review(*arguments: str) -> subprocess.CompletedProcess[str]:
    return veridice("review", *arguments)


def test_the_worst_mask_comes_first(shared: Desk) -> None:
    rows = shared["ANNA"].get("/api/scans")
    assert [row["scan"] for row in rows] == ["sub-002", "sub-001", "sub-000"]
    assert rows[0]["verdict"] == "review"
    assert shared["ANNA"].get("/api/next")["scan"] == "sub-002"


def test_two_raters_do_not_get_the_same_scan(study: Path) -> None:
    with served(study) as desk:
        first, second = (desk[rater].get("/api/next")["scan"] for rater in ("ANNA", "BEN"))
        assert first != second
        assert desk["ANNA"].get("/api/next")["scan"] == first


@pytest.mark.parametrize("path", ["/api/scans", "/api/me", "/api/scans/sub-000", "/api/progress", "/api"])
def test_nobody_is_told_anything_without_a_token(shared: Desk, path: str) -> None:
    assert shared["ANNA"].raw("GET", path, headers={"Authorization": ""})[0] == 401
    assert shared["ANNA"].raw("GET", path, headers={"Authorization": "Bearer x"})[0] == 401
    assert shared["ANNA"].raw("GET", f"{path}?token=%C3%A9", headers={"Authorization": ""})[0] == 401


def test_a_link_gives_a_cookie_that_other_sites_cannot_use(shared: Desk) -> None:
    anna = shared["ANNA"]
    status, headers, page = anna.raw("GET", f"/?token={anna.token}", headers={"Authorization": ""})
    assert status == 200
    cookie = headers["set-cookie"]
    assert {"httponly", "samesite=strict"} <= {part.strip().lower() for part in cookie.split(";")}
    assert anna.host.rpartition(":")[2] in cookie.split("=")[0]  # cookies know no ports
    assert anna.raw("GET", "/api/me", headers={"Authorization": "", "Cookie": cookie.split(";")[0]})[0] == 200
    assert b"sub-00" not in page


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_requests_of_other_sites_and_hosts_are_refused(shared: Desk, headers: dict[str, str]) -> None:
    assert shared["ANNA"].raw("GET", "/api/scans", headers=headers)[0] in (403, 421)
    assert shared["ANNA"].raw("POST", "/api/export", b"", headers={**headers, "Content-Length": "0"})[0] in (403, 421)


def test_a_proxy_is_answered_by_the_name_that_was_allowed(study: Path) -> None:
    with served(study, "--allow-host", "desk.example") as desk:
        for host, status in (("desk.example", 200), ("desk.example:443", 421), ("evil.example", 421)):
            assert desk["ANNA"].raw("GET", "/api/me", headers={"Host": host})[0] == status
        assert desk["ANNA"].raw("GET", "/api/me", headers={"Host": "desk.example", "Origin": "https://desk.example"})[0] == 200


def test_ctrl_c_is_the_ordinary_end(study: Path) -> None:
    with served_apart(study) as desk:
        assert desk["ANNA"].get("/api/me")["rater"] == "ANNA"
    assert desk.process.returncode == 0


def test_every_answer_is_strict(shared: Desk) -> None:
    for path in ("/", "/api/scans", "/static/desk.js", "/api/nowhere", "/api"):
        headers = shared["ANNA"].raw("GET", path)[1]
        policy = headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "path",
    [
        "/api/scans/..%2F..%2Fdataset_description.json",
        "/api/scans/sub-000/volumes/..%2F..%2Fsecret?version=x",
        "/api/scans/sub-000/volumes/%2Fetc%2Fpasswd?version=x",
        "/static/../store.py",
        "/static/%2e%2e/store.py",
        "/static/..%2fstore.py",
        "/api/scans/sub-000%00/thumbnail",
        "/api/scans/sub-000/drawings/1",
    ],
)
def test_no_path_leads_to_other_files(shared: Desk, path: str) -> None:
    status, _, content = shared["ANNA"].raw("GET", path)
    assert status in (404, 422)
    assert b"root:" not in content
    assert b"SQLite" not in content


def test_layers_are_the_files_themselves(study: Path) -> None:
    with served(study) as desk:
        details = desk["ANNA"].get("/api/scans/sub-001")
        assert [layer["name"] for layer in details["layers"]] == [
            "flair",
            "t1",
            "judged_mask",
            "probability",
            "entropy",
            "numbers",
        ]
        flair = study.parents[1] / "sub-001" / "anat" / "sub-001_FLAIR.nii.gz"
        path = f"/api/scans/sub-001/volumes/flair?version={details['version']}"
        assert desk["ANNA"].raw("GET", path)[2] == flair.read_bytes()
        assert [place["number"] for place in details["places"]] == [2, 3, 1]
        assert "/home" not in json.dumps(details)
        assert str(study.parents[2]) not in json.dumps(details)
        assert details["commands"]["FSLeyes"].startswith("fsleyes ../../sub-001/anat/sub-001_T1w.nii.gz")


def test_a_volume_that_changes_under_the_desk_is_noticed(study: Path) -> None:
    with served(study) as desk:
        details = desk["ANNA"].get("/api/scans/sub-001")
        file = study / "sub-001" / "anat" / "sub-001_label-lesion_probseg.nii.gz"
        content = file.read_bytes()
        file.write_bytes(content)
        os.utime(file, ns=(1, 1))
        path = f"/api/scans/sub-001/volumes/probability?version={details['version']}"
        assert desk["ANNA"].ask("GET", path)[0] == 409
        assert desk["ANNA"].get("/api/scans/sub-001")["changed"] == ["Lesion probability"]
        (study.parents[1] / "sub-002" / "anat" / "sub-002_FLAIR.nii.gz").write_bytes(content)
        assert desk["ANNA"].get("/api/scans/sub-002")["changed"] == ["FLAIR"]


def test_a_rating_of_an_earlier_version_is_refused(study: Path) -> None:
    with served(study) as desk:
        version = desk["ANNA"].get("/api/scans/sub-001")["version"]
        mask = study / "sub-001" / "anat" / "sub-001_label-lesion_mask.nii.gz"
        mask.write_bytes((study / "sub-002" / "anat" / "sub-002_desc-lesions_dseg.nii.gz").read_bytes())
        said = {"key": "12345678", "version": version, "rating": "accept"}
        status, answer = desk["ANNA"].ask("POST", "/api/scans/sub-001/rating", said)
        assert status == 409
        assert "open it again" in answer["detail"]


def test_ratings_are_kept_once_taken_back_and_exported(study: Path) -> None:
    with served(study) as desk:
        anna = desk["ANNA"]
        for _ in range(2):  # the answer was lost, and the page sends it once more
            assert anna.rate("sub-003", "reject", key="samesame", reasons=["missed lesions"], comment="=1+1")[0] == 200
        assert anna.rate("sub-002", "accept")[0] == 200
        assert anna.rate("sub-002", "needs edit")[0] == 200
        assert anna.get("/api/progress")["done"] == 2
        assert anna.ask("DELETE", "/api/scans/sub-002/rating")[1] == {"taken_back": True}
        assert anna.get("/api/scans/sub-002")["mine"]["rating"] == "accept"
        assert anna.get("/api/next")["scan"] == "sub-001"
        assert anna.ask("POST", "/api/export", {})[1] == {"ratings": 2, "scans": 2, "edited": 0}
    rows = [line.split("\t") for line in (study / "ratings.tsv").read_text().splitlines()]
    said = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    assert [(row["scan"], row["rating"], row["comment"]) for row in said] == [
        ("sub-003", "reject", "'=1+1"),
        ("sub-002", "accept", "n/a"),
    ]
    assert set(json.loads((study / "ratings.json").read_text())) >= set(rows[0])
    beside = study / "sub-003" / "anat" / "sub-003_rating.json"
    assert read_rating(beside, "sub-003", "own") == ("reject", "")


@pytest.mark.parametrize(
    "said",
    [
        {"rating": "perhaps"},
        {"rating": None},
        {"score": 3},
        {"rating": "accept", "reasons": ["bad weather"]},
        {"rating": "accept", "comment": "x" * 5000},
        {"rating": "accept", "version": "another"},
        {"rating": "accept", "seconds": -1},
        {"rating": "accept", "rater": "BEN"},
        {"rating": "accept", "key": "short"},
    ],
)
def test_what_is_no_rating_is_refused(shared: Desk, said: dict[str, Any]) -> None:
    version = shared["ANNA"].get("/api/scans/sub-000")["version"]
    status, answer = shared["ANNA"].ask("POST", "/api/scans/sub-000/rating", {"key": "12345678", "version": version, **said})
    assert status in (409, 422)
    assert answer["detail"]
    assert shared["ANNA"].get("/api/progress")["done"] == 0


def test_requests_that_are_too_large_are_refused_unread(shared: Desk) -> None:
    path = "/api/scans/sub-000/rating"
    assert shared["ANNA"].raw("POST", path, b"{" + b" " * 100_000 + b"}")[0] == 413
    assert shared["ANNA"].raw("PUT", "/api/scans/sub-000/drawing?version=x", headers={"Content-Length": str(10**9)})[0] == 413
    assert shared["ANNA"].raw("POST", path, headers={"Transfer-Encoding": "chunked"})[0] == 411


def test_drawings_lie_on_the_flair_beside_the_original_and_can_be_taken_back(study: Path) -> None:
    place = study / "sub-001" / "anat"
    original = (place / "sub-001_label-lesion_mask.nii.gz").read_bytes()
    drawn = np.zeros(SHAPE, bool)
    drawn[3:6, 4:7, 3] = True
    edited = place / "sub-001_label-lesion_desc-edited_mask.nii.gz"
    with served(study) as desk:
        anna = desk["ANNA"]
        assert anna.draw("sub-001", drawn, draft=True)[1]["state"] == "draft"
        assert not edited.exists()
        assert desk["BEN"].get("/api/scans/sub-001")["drawing"] is None
        status, kept = anna.draw("sub-001", drawn)
        assert status == 200
        assert kept["dice"] == pytest.approx(2 * 9 / (9 + 19))
        assert kept["volume_ml"] == pytest.approx(9 * 0.06)
        image = nib.load(edited)
        assert np.array_equal(np.asarray(image.dataobj) > 0, drawn)
        assert np.allclose(image.affine, nib.load(study.parents[1] / "sub-001" / "anat" / "sub-001_FLAIR.nii.gz").affine)
        about = json.loads(edited.with_name(edited.name.replace(".nii.gz", ".json")).read_text())
        assert about["Editor"] == "ANNA"
        assert about["Sources"] == ["sub-001_FLAIR.nii.gz", "sub-001_label-lesion_mask.nii.gz"]
        anna.draw("sub-001", np.zeros(SHAPE))
        assert not np.asarray(nib.load(edited).dataobj).any()
        assert anna.ask("DELETE", "/api/scans/sub-001/drawing")[1]["id"] == kept["id"]
        assert np.array_equal(np.asarray(nib.load(edited).dataobj) > 0, drawn)
        assert anna.ask("DELETE", "/api/scans/sub-001/drawing")[1] is None
        assert not edited.exists()
    assert (place / "sub-001_label-lesion_mask.nii.gz").read_bytes() == original


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no gzip", "no gzip"),
        (gzip.compress(bytes(5), mtime=0), "another number of voxels"),
        (gzip.compress(bytes(10**7), mtime=0), "another number of voxels"),
        (gzip.compress(b"\x02" * int(np.prod(SHAPE)), mtime=0), "other than 0 and 1"),
        (gzip.compress(bytes(int(np.prod(SHAPE))), mtime=0)[:-9], "another number of voxels"),
    ],
    ids=["no gzip", "too few", "too many", "other values", "cut off"],
)
def test_what_is_no_drawing_is_refused(shared: Desk, content: bytes, words: str) -> None:
    version = shared["ANNA"].get("/api/scans/sub-000")["version"]
    status, answer = shared["ANNA"].ask("PUT", f"/api/scans/sub-000/drawing?version={version}", content)
    assert status == 422
    assert words in answer["detail"]


def test_blind_raters_see_neither_verdicts_nor_others(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # One in 24 draws gives both raters the same order of four scans; this one does not.
    numbers = iter(range(7, 99))
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=next(numbers) << 100))
    with served(study, "--blind", "--double", "1", "--adjudicator", "EVA") as desk:
        anna, ben = desk["ANNA"], desk["BEN"]
        orders = [[row["scan"] for row in desk[rater].get("/api/scans")] for rater in ("ANNA", "BEN")]
        assert orders[0] != orders[1]
        for scan in orders[0]:
            anna.rate(scan, "accept", comment="secret words")
            ben.rate(scan, "reject" if scan == "sub-002" else "accept")
        anna.draw("sub-001", np.ones(SHAPE))
        told = json.dumps([ben.get(f"/api/scans/{scan}") for scan in orders[0]]) + json.dumps(ben.get("/api/scans"))
        for hidden in ("verdict", "predicted_dice", "chance", "secret words", "ANNA", "standing"):
            assert hidden not in told + json.dumps(ben.get("/api/progress"))
        assert ben.ask("GET", "/api/agreement")[0] == 404
        eva = desk["EVA"]
        assert eva.get("/api/next")["scan"] == "sub-002"
        assert {said["rater"] for said in eva.get("/api/scans/sub-002")["others"]} == {"ANNA", "BEN"}
        assert eva.get("/api/agreement")["differ"] == ["sub-002"]
        eva.rate("sub-002", "needs edit")
        assert eva.get("/api/next")["scan"] is None
    assert review("export", str(study)).returncode == 0
    assert read_rating(study / "sub-002" / "anat" / "sub-002_rating.json").value == "needs edit"


def test_a_scale_stays_for_the_study(study: Path) -> None:
    with served(study, "--scale", "1-5") as desk:
        version = desk["ANNA"].get("/api/scans/sub-001")["version"]
        said = {"key": "12345678", "version": version, "score": 3}
        assert desk["ANNA"].ask("POST", "/api/scans/sub-001/rating", said)[1]["rating"] == "needs edit"
        assert desk["ANNA"].rate("sub-002", "accept")[0] == 422
    done = review(str(study), "--port", "0")
    assert done.returncode == 3
    assert "give --scale 1-5" in done.stderr


def test_links_stay_until_new_ones_are_asked_for(study: Path) -> None:
    with served(study) as desk:
        first = desk["ANNA"].token
    with served(study) as desk:
        assert desk["ANNA"].token == first
    with served(study, "--new-links") as desk:
        assert desk["ANNA"].token != first
        assert desk["ANNA"].raw("GET", "/api/me", headers={"Authorization": f"Bearer {first}"})[0] == 401


def test_two_desks_on_one_study_are_refused(study: Path) -> None:
    with served(study):
        done = review(str(study), "--port", "0")
    assert done.returncode == 3
    assert "another veridice review" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_said(study: Path, shared: Desk) -> None:
    port = shared["ANNA"].host.rpartition(":")[2]
    done = review(str(study), "--port", port)
    assert done.returncode == 3
    assert f"port {port}" in done.stderr


def test_a_read_only_study_is_said() -> None:
    with pytest.raises(OutputError, match="read-only"), kept_alone(Path("/proc/self")):
        pass


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "holds no judged study"),
        (["STUDY", "--raters", "A,a"], "each once"),
        (["STUDY", "--raters", "../x"], "no code of a rater"),
        (["STUDY", "--double", "0.5"], "2 raters are to read"),
        (["STUDY", "--adjudicator", "R1"], "is one of --raters"),
        (["STUDY", "--webhook", "file:///etc/passwd"], "no http"),
        (["STUDY", "--bids-dir", "nowhere"], "holds none of the FLAIRs"),
        (["import", "STUDY", "nowhere"], "no rating is there"),
    ],
)
def test_wrong_usage_is_one_line(study: Path, arguments: list[str], words: str) -> None:
    done = review(*[str(study) if text == "STUDY" else text for text in arguments])
    assert done.returncode == 3, done.stderr
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_log_says_who_did_what_and_nothing_of_the_patient(study: Path) -> None:
    with served(study) as desk:
        desk["ANNA"].rate("sub-001", "accept", comment="private words")
    with sqlite3.connect(study / "review" / "ratings.sqlite") as connection:
        rows = connection.execute("SELECT rater, what, scan, detail FROM audit").fetchall()
    assert rows == [("ANNA", "rating", "sub-001", "accept")]
    assert (study / "review" / "ratings.sqlite").stat().st_mode & 0o077 == 0


def test_ratings_of_reports_come_in_once(study: Path, tmp_path: Path) -> None:
    rating = {
        "Format": 1,
        "Scan": "sub-001",
        "JudgedMask": "own",
        "Rating": "needs edit",
        "Rater": "R2",
        "Reasons": ["wrong borders"],
    }
    folder = tmp_path / "downloads"
    folder.mkdir()
    (folder / "sub-001_rating.json").write_text(json.dumps({**rating, "Rated": "2026-11-25T18:00:00.000Z"}))
    (folder / "sub-999_rating.json").write_text(json.dumps({**rating, "Scan": "sub-999"}))
    (folder / "sub-002_rating.json").write_text("no JSON")
    first, second = review("import", str(study), str(folder)), review("import", str(study), str(folder))
    assert first.returncode == 0
    assert "1 ratings taken over, 0 known before, 2 left out" in first.stderr
    assert "0 ratings taken over, 1 known before, 2 left out" in second.stderr
    assert review("export", str(study)).returncode == 0
    assert "R2\tneeds edit" in (study / "ratings.tsv").read_text()


def test_an_export_never_loses_a_rating_that_somebody_put_there(study: Path) -> None:
    beside = study / "sub-001" / "anat" / "sub-001_rating.json"
    beside.write_text(json.dumps({"Scan": "sub-001", "JudgedMask": "own", "Rating": "reject", "Rater": "X", "Rated": "then"}))
    with served(study) as desk:
        desk["ANNA"].rate("sub-001", "accept")
    assert review("export", str(study)).returncode == 0
    assert "X\treject" in (study / "ratings.tsv").read_text()
    beside.write_text("{damaged")
    done = review("export", str(study))
    assert done.returncode == 3
    assert beside.read_text() == "{damaged"


def test_a_corrected_mask_is_judged_again_beside_the_desk(study: Path, tiny_weights: Path) -> None:
    drawn = np.zeros(SHAPE)
    drawn[3:6, 4:7, 3:5] = 1
    with served(study, weights=tiny_weights) as desk:
        desk["ANNA"].draw("sub-001", drawn)
        for _ in range(600):
            drawing = desk["ANNA"].get("/api/scans/sub-001/drawing")
            if drawing["state"] != "waiting":
                break
            time.sleep(0.1)
    assert drawing["state"] == "done", drawing
    assert drawing["result"]["verdict"] in ("accept", "review", "reject")
    assert 0 <= drawing["result"]["predicted_dice"] <= 1


def test_the_interface_documents_itself(shared: Desk) -> None:
    status, _, page = shared["ANNA"].raw("GET", "/api")
    described = shared["ANNA"].get("/api/openapi.json")["paths"]
    assert status == 200
    assert re.findall(r"<code>(?:GET|POST|PUT|DELETE) (\S+)</code>", page.decode())
    for path in described:
        assert path in page.decode()


def judged_again(study: Path, name: str, number: int = 5) -> None:
    """What ``veridice run`` leaves when a scan is judged once more, with another result."""
    write_scan(study.parents[1], name, number)


def test_what_was_said_of_earlier_results_no_longer_counts(study: Path) -> None:
    drawn = np.ones(SHAPE)
    with served(study, raters="ANNA", weights=without_judge(study.parents[2] / "weights")) as desk:
        anna = desk["ANNA"]
        version = anna.get("/api/scans/sub-003")["version"]
        anna.rate("sub-003", "reject")
        anna.draw("sub-003", drawn, draft=True)
        assert anna.get("/api/progress")["standing"]["seen"] == 1
        anna.ask("POST", "/api/export", {})
        judged_again(study, "sub-003")
        said = {"key": "12345678", "version": version, "rating": "accept"}
        assert anna.ask("POST", "/api/scans/sub-003/rating", said)[0] == 409
        details = anna.get("/api/scans/sub-003")
        assert details["mine"] is None
        assert details["drawing"] is None
        assert anna.get("/api/progress")["standing"]["seen"] == 0
        assert anna.get("/api/next")["scan"] == "sub-003"
        assert anna.ask("POST", "/api/export", {})[1]["scans"] == 0
        assert anna.ask("POST", "/api/export", {})[0] == 200
    assert not (study / "sub-003" / "anat" / "sub-003_rating.json").exists()
    assert "no" in (study / "ratings.tsv").read_text().splitlines()[1].split("\t")


def test_a_flair_of_another_size_than_the_judged_one_is_shown_with_a_word(study: Path) -> None:
    flair = study.parents[1] / "sub-002" / "anat" / "sub-002_FLAIR.nii.gz"
    flair.write_bytes(gzip.compress(gzip.decompress(flair.read_bytes()), 1) + b"")
    content = flair.read_bytes()
    with served(study) as desk:
        details = desk["ANNA"].get("/api/scans/sub-002")
        assert details["changed"] == ["FLAIR"]
        path = f"/api/scans/sub-002/volumes/flair?version={details['version']}"
        assert desk["ANNA"].raw("GET", path)[2] == content


def test_blind_raters_get_no_map_of_doubt(study: Path) -> None:
    with served(study, "--blind") as desk:
        details = desk["ANNA"].get("/api/scans/sub-001")
        assert [layer["name"] for layer in details["layers"]] == ["flair", "t1", "judged_mask"]
        assert [(place["number"], place["place"], place["confidence"]) for place in details["places"]] == [
            (1, "mask", None),
            (2, "mask", None),
        ]
        path = f"/api/scans/sub-001/volumes/probability?version={details['version']}"
        assert desk["ANNA"].raw("GET", path)[0] == 404


def test_a_scan_for_two_readers_goes_to_two(study: Path) -> None:
    with served(study, "--double", "1", raters="A,B,C,D") as desk:
        given = [desk[rater].get("/api/next")["scan"] for rater in "ABCD"]
        assert sorted(given) == ["sub-002", "sub-002", "sub-003", "sub-003"]
    with served(study, raters="A,B") as desk:
        desk["A"].get("/api/scans/sub-003")  # opened from the list
        assert desk["B"].get("/api/next")["scan"] == "sub-002"


def test_an_older_rating_of_a_page_does_not_overrule_a_newer_one(study: Path) -> None:
    beside = study / "sub-001" / "anat" / "sub-001_rating.json"
    old = {"Scan": "sub-001", "JudgedMask": "own", "Rating": "accept", "Rater": "ANNA", "Rated": "2020-01-01T00:00:00.000Z"}
    with served(study) as desk:
        desk["ANNA"].rate("sub-001", "reject")
        beside.write_text(json.dumps({**old, "PredictedDice": 1e999}))
        assert desk["ANNA"].ask("POST", "/api/export", {})[0] == 200
        assert read_rating(beside).value == "reject"


def test_a_drawing_sent_twice_is_kept_once_and_many_at_once_are_kept(study: Path) -> None:
    with served(study, raters="ANNA", weights=without_judge(study.parents[2] / "weights")) as desk:
        anna = desk["ANNA"]
        version = anna.get("/api/scans/sub-001")["version"]
        content = gzip.compress(bytes(int(np.prod(SHAPE))))
        path = f"/api/scans/sub-001/drawing?version={version}&key=thesamekey"
        assert anna.ask("PUT", path, content)[1]["id"] == anna.ask("PUT", path, content)[1]["id"]
        with ThreadPoolExecutor(6) as pool:
            path = f"/api/scans/sub-002/drawing?version={anna.get('/api/scans/sub-002')['version']}&draft=true"
            statuses = list(pool.map(lambda _: anna.ask("PUT", path, content)[0], range(18)))
        assert set(statuses) == {200}


@pytest.mark.slow
def test_a_missing_drawing_does_not_keep_the_desk_from_starting(study: Path) -> None:
    weights = without_judge(study.parents[2] / "weights")
    with served(study, raters="ANNA", weights=weights) as desk:
        desk["ANNA"].draw("sub-001", np.ones(SHAPE))
    for file in (study / "review" / "drawings").rglob("*.nii.gz"):
        file.unlink()
    (study / "sub-002" / "anat" / "sub-002_label-lesion_mask.nii.gz").unlink()
    with served(study, raters="ANNA", weights=weights) as desk:
        assert desk["ANNA"].ask("GET", "/api/scans/sub-002")[0] == 404
        assert desk["ANNA"].get("/api/scans/sub-001")["scan"] == "sub-001"


def test_no_folder_of_this_machine_is_told(study: Path) -> None:
    elsewhere = study.parents[2] / "elsewhere" / "out"
    shutil.copytree(study, elsewhere)
    with served(elsewhere, "--bids-dir", str(study.parents[1])) as desk:
        details = desk["ANNA"].get("/api/scans/sub-001")
        assert "BIDS_DIR/sub-001/anat/sub-001_FLAIR.nii.gz" in details["commands"]["freeview"]
        (study.parents[1] / "sub-002" / "anat" / "sub-002_FLAIR.nii.gz").write_bytes(b"no image")
        _, answer = desk["ANNA"].draw("sub-002", np.zeros(SHAPE))
        assert str(study.parents[2]) not in json.dumps([details, answer])
