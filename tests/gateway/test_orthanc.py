"""The gateway beside a real archive: everything arrives, once, and is what was made."""

from __future__ import annotations

import io
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import veridice
from dicom_cases import make_study
from hospital import HAS_ORTHANC, WHY, Hospital, hospital, wait_for
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from veridice.gateway.inbox import Inbox, Limits
from veridice.gateway.poll import Poller
from veridice.gateway.send import WebArchive
from veridice.imaging.volume import Volume

pytestmark = pytest.mark.skipif(not HAS_ORTHANC, reason=WHY)
KINDS = {"SEG": 1, "OT": 3, "SR": 1}
"""Modalities of what comes back: segmentation, two maps and a picture, report."""


@pytest.fixture(scope="module")
def place(tiny_weights_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """One hospital for many patients."""
    with hospital(tmp_path_factory.mktemp("hospital"), tiny_weights_once) as made:
        made.start_archive()
        made.start_gateway()
        yield made


@pytest.fixture
def study() -> str:
    return str(generate_uid())


def files_of(study: str, scan: dict[str, Volume], folder: Path, **patient: str) -> dict[str, list[Path]]:
    return make_study(
        folder, scan, study=study, **{"PatientID": f"SECRET-{study[-8:]}", "PatientName": "Secret Sally", **patient}
    )


def back(place: Hospital, study: str) -> list[Dataset]:
    """Our objects in the archive."""
    return [dcmread(io.BytesIO(place.fetch(one["ID"]))) for one in place.results(study)]


def test_a_study_goes_from_the_archive_through_the_gateway_and_back(
    place: Hospital, study: str, tiny_scan: dict[str, Volume], tmp_path: Path
) -> None:
    files = files_of(study, tiny_scan, tmp_path)
    place.put([path for paths in files.values() for path in paths])
    place.send_to_gateway(study)
    place.is_now(study, "sent")
    results = place.inbox / "studies" / place.key(study) / "results"
    made = {str(dcmread(path).SOPInstanceUID): dcmread(path) for path in results.glob("*.dcm")}
    found = back(place, study)
    assert Counter(read.Modality for read in found) == KINDS
    for read in found:
        assert read == made[str(read.SOPInstanceUID)], "the archive gives back what was sent"
    said = place.log() + veridice("gateway", "status", "--inbox", place.inbox).stdout
    assert "sent" in said
    for secret in ("Secret", "SECRET", study, "19771231"):
        assert secret not in said, "nothing that is written beside the images names anybody"
    place.send_to_gateway(study)
    assert place.states()[place.key(study)] == "sent", "sent once more, nothing is made anew"


def test_more_images_replace_what_was_said(place: Hospital, study: str, tiny_scan: dict[str, Volume], tmp_path: Path) -> None:
    files = files_of(study, tiny_scan, tmp_path)
    place.put(files["flair"])
    place.send_to_gateway(study)
    place.is_now(study, "sent")
    first = {str(read.SOPInstanceUID) for read in back(place, study)}
    place.put(files["t1"])
    place.send_to_gateway(study)
    wait_for(lambda: len(place.results(study)) == 11)
    place.is_now(study, "sent")
    (note,) = [read for read in back(place, study) if read.Modality == "KO"]
    taken_back = {
        str(image.ReferencedSOPInstanceUID)
        for series in note.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for image in series.ReferencedSOPSequence
    }
    assert taken_back == first
    assert note.ConceptNameCodeSequence[0].CodeMeaning == "Rejected for Quality Reasons"


@pytest.mark.slow
def test_an_archive_that_is_down_gets_its_results_when_it_is_back(
    place: Hospital, study: str, tiny_scan: dict[str, Volume], tmp_path: Path
) -> None:
    files = files_of(study, tiny_scan, tmp_path)
    place.put(files["flair"])
    place.send_to_gateway(study)
    place.kill("archive")
    key = place.key(study)
    wait_for(lambda: f"study {key}: the archive does not answer; again" in place.log())
    assert place.states()[key] == "judged"
    place.start_archive()
    place.is_now(study, "sent")
    assert Counter(read.Modality for read in back(place, study)) == KINDS


def test_a_study_that_cannot_be_judged_says_why_and_a_person_may_help(
    place: Hospital, study: str, tiny_scan: dict[str, Volume], tmp_path: Path
) -> None:
    files = files_of(study, tiny_scan, tmp_path / "study")
    again = files_of(study, tiny_scan, tmp_path / "again")["flair"]
    for number, path in enumerate(again):
        read = dcmread(path)
        read.SeriesInstanceUID, read.SeriesNumber, read.SOPInstanceUID = f"{study[:48]}.98", 9, f"{study[:48]}.99.{number + 1}"
        read.file_meta.MediaStorageSOPInstanceUID = read.SOPInstanceUID
        read.save_as(path)
    place.put([*files["flair"], *again])
    place.send_to_gateway(study)
    place.is_now(study, "failed")
    status = veridice("gateway", "status", "--inbox", place.inbox, "--json").stdout
    assert "are FLAIRs" in status and "dark-fluid" not in status
    done = veridice("gateway", "retry", place.key(study), "--inbox", place.inbox, "--flair-series", "9")
    assert done.returncode == 0
    place.is_now(study, "sent")
    done = veridice("gateway", "retry", "nothing", "--inbox", place.inbox)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)


def test_two_gateways_do_not_share_an_inbox(place: Hospital) -> None:
    done = veridice("gateway", "--inbox", place.inbox, "--from", "X", "--port", "0")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1) and "another gateway" in done.stderr


def test_studies_are_fetched_from_an_archive_that_is_asked_and_results_stored_there(
    place: Hospital, study: str, tiny_scan: dict[str, Volume], tmp_path: Path
) -> None:
    files = files_of(study, tiny_scan, tmp_path / "study", StudyDate=time.strftime("%Y%m%d"))
    old = str(generate_uid())
    place.put([*files["flair"], *files_of(old, tiny_scan, tmp_path / "old", StudyDate="20010101")["flair"]])
    web = f"{place.url}/dicom-web"
    inbox = Inbox(tmp_path / "inbox", Limits(free_bytes=0))
    poller = Poller(web, inbox, days=2)
    assert poller.turn() == len(files["flair"])
    assert [row.key for row in inbox.queue.studies()] == [inbox.queue.hashed(study)], "what is older is left alone"
    result = dcmread(files["t1"][0])
    result.ManufacturerModelName, result.Manufacturer, result.SeriesInstanceUID = "veridice", "veridice", f"{study[:50]}.1"
    result.SOPInstanceUID = result.file_meta.MediaStorageSOPInstanceUID = f"{study[:50]}.2"
    result.save_as(tmp_path / "result.dcm")
    WebArchive(web).send([tmp_path / "result.dcm"], lambda *_: None)
    (stored,) = back(place, study)
    assert stored == result, "stored with what it needs to be given back"
    assert poller.turn() == 0, "what was fetched, and what is ours, is not fetched again"
    place.put(files["t1"])
    assert poller.turn() == len(files["t1"])


@pytest.mark.slow
def test_a_gateway_that_asks_and_stores_over_the_web_alone(
    study: str, tiny_scan: dict[str, Volume], tiny_weights: Path, tmp_path: Path
) -> None:
    with hospital(tmp_path, tiny_weights) as place:
        files = files_of(study, tiny_scan, tmp_path / "study", StudyDate=time.strftime("%Y%m%d"))
        place.start_archive()
        place.put([*files["flair"], *files["t1"]])
        web = f"{place.url}/dicom-web"
        place.start_gateway("--poll", web, "--poll-seconds", "1", "--send", web)
        wait_for(lambda: list(place.states().values()) == ["sent"])
        assert Counter(read.Modality for read in back(place, study)) == KINDS
        time.sleep(2.5)  # what it sent itself is not fetched, judged and sent again
        assert list(place.states().values()) == ["sent"] and len(place.results()) == 5


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_comes_twice_whatever_is_killed(
    tiny_scan: dict[str, Volume], tiny_weights: Path, tmp_path: Path
) -> None:
    """50 studies, 30 kills of gateway or archive at random moments; every study ends with one set of results."""
    with hospital(tmp_path, tiny_weights) as place:
        lose_nothing(place, tiny_scan, tmp_path / "studies")


def lose_nothing(place: Hospital, tiny_scan: dict[str, Volume], folder: Path) -> None:
    dice = random.Random(0)  # noqa: S311
    studies = [generate_uid(entropy_srcs=["kill", str(number)]) for number in range(50)]
    files = {
        study: make_study(folder / str(number), tiny_scan, study=study, PatientID=f"P{number}")
        for number, study in enumerate(studies)
    }
    place.start_archive()
    place.start_gateway()
    for parts in files.values():
        place.put([*parts["flair"], *parts["t1"]])
    waiting, kills = list(studies), 0
    while waiting or kills < 30:
        if waiting:
            try:
                place.send_to_gateway(waiting[0])
                waiting.pop(0)
            except Exception:
                time.sleep(0.5)
        if kills < 30 and dice.random() < 0.6:
            time.sleep(dice.uniform(0, 3))
            name = dice.choice(("gateway", "gateway", "archive"))
            place.kill(name)
            kills += 1
            time.sleep(dice.uniform(0, 0.5))
            place.start_archive() if name == "archive" else place.start_gateway()
    wait_for(lambda: set(place.states().values()) == {"sent"} and len(place.states()) == 50, 900, 1)
    for study in studies:
        found = Counter(one["MainDicomTags"]["SOPInstanceUID"] for one in place.results(study))
        assert len(found) == 5 and set(found.values()) == {1}, study
    assert not re.search("Traceback", place.log())
