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
from dicom_cases import STUDY, make_study
from hospital import HAS_ORTHANC, WHY, Hospital, hospital, wait_for
from pydicom import dcmread
from pydicom.uid import generate_uid

from veridice.imaging.volume import Volume

pytestmark = pytest.mark.skipif(not HAS_ORTHANC, reason=WHY)
KINDS = {"SEG": 1, "OT": 3, "SR": 1}
"""Modalities of what comes back: segmentation, two maps and a picture, report."""


@pytest.fixture
def place(tiny_weights: Path, tmp_path: Path) -> Iterator[Hospital]:
    with hospital(tmp_path, tiny_weights) as made:
        yield made


def modalities(place: Hospital) -> Counter[str]:
    return Counter(dcmread(io.BytesIO(place.fetch(one["ID"])), stop_before_pixels=True).Modality for one in place.results())


def test_a_study_goes_from_the_archive_through_the_gateway_and_back(
    place: Hospital, tiny_scan: dict[str, Volume], tmp_path: Path
) -> None:
    files = make_study(tmp_path / "study", tiny_scan)
    place.start_archive()
    place.start_gateway()
    place.put([path for paths in files.values() for path in paths])
    place.send_to_gateway(STUDY)
    wait_for(lambda: list(place.states().values()) == ["sent"], 60)
    made = {str(dcmread(path).SOPInstanceUID): dcmread(path) for path in place.inbox.glob("studies/*/results/*.dcm")}
    back = [dcmread(io.BytesIO(place.fetch(one["ID"]))) for one in place.results(STUDY)]
    assert len(back) == len(made) == 5
    for read in back:
        assert read == made[str(read.SOPInstanceUID)], "the archive gives back what was sent"
    # Nothing that the gateway writes beside the images names anybody.
    said = place.log() + veridice("gateway", "status", "--inbox", place.inbox).stdout
    assert "sent" in said
    for secret in ("Secret", "SECRET", STUDY, "19771231"):
        assert secret not in said
    # Sent once more, nothing is made anew.
    place.send_to_gateway(STUDY)
    time.sleep(3)
    assert list(place.states().values()) == ["sent"] and len(place.results(STUDY)) == 5


def test_more_images_replace_what_was_said(place: Hospital, tiny_scan: dict[str, Volume], tmp_path: Path) -> None:
    files = make_study(tmp_path / "study", tiny_scan)
    place.start_archive()
    place.start_gateway()
    place.put(files["flair"])
    place.send_to_gateway(STUDY)
    wait_for(lambda: list(place.states().values()) == ["sent"], 60)
    first = {one["MainDicomTags"]["SOPInstanceUID"] for one in place.results(STUDY)}
    place.put(files["t1"])
    place.send_to_gateway(STUDY)
    wait_for(lambda: len(place.results(STUDY)) == 11 and list(place.states().values()) == ["sent"], 60)
    notes = [dcmread(io.BytesIO(place.fetch(one["ID"]))) for one in place.results(STUDY)]
    (note,) = [read for read in notes if read.Modality == "KO"]
    taken_back = {
        str(image.ReferencedSOPInstanceUID)
        for series in note.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for image in series.ReferencedSOPSequence
    }
    assert taken_back == first
    assert note.ConceptNameCodeSequence[0].CodeMeaning == "Rejected for Quality Reasons"


def test_studies_are_fetched_from_an_archive_that_is_asked(
    place: Hospital, tiny_scan: dict[str, Volume], tmp_path: Path
) -> None:
    today = time.strftime("%Y%m%d")
    files = make_study(tmp_path / "study", tiny_scan, StudyDate=today)
    old = make_study(tmp_path / "old", tiny_scan, study="1.2.3.4", StudyDate="20010101", PatientID="OLD")
    place.start_archive()
    place.put([*files["flair"], *files["t1"], *old["flair"]])
    web = f"{place.url}/dicom-web"
    place.start_gateway("--poll", web, "--poll-seconds", "1", "--send", web)
    wait_for(lambda: list(place.states().values()) == ["sent"], 60)
    assert modalities(place) == KINDS
    time.sleep(4)  # what it sent itself is not fetched, judged and sent again
    assert list(place.states().values()) == ["sent"] and modalities(place) == KINDS


def test_an_archive_that_is_down_gets_its_results_when_it_is_back(
    place: Hospital, tiny_scan: dict[str, Volume], tmp_path: Path
) -> None:
    files = make_study(tmp_path / "study", tiny_scan)
    place.start_archive()
    place.start_gateway()
    place.put(files["flair"])
    place.send_to_gateway(STUDY)
    place.kill("archive")
    wait_for(lambda: "does not answer; again" in place.log(), 60)
    assert list(place.states().values()) == ["judged"]
    place.start_archive()
    wait_for(lambda: list(place.states().values()) == ["sent"], 60)
    assert modalities(place) == KINDS


def test_a_study_that_cannot_be_judged_says_why_and_a_person_may_help(
    place: Hospital, tiny_scan: dict[str, Volume], tmp_path: Path
) -> None:
    files = make_study(tmp_path / "study", tiny_scan)
    again = make_study(tmp_path / "again", tiny_scan)["flair"]
    for number, path in enumerate(again):
        read = dcmread(path)
        read.SeriesInstanceUID, read.SeriesNumber, read.SOPInstanceUID = "1.2.3.99", 9, f"1.2.3.99.{number + 1}"
        read.file_meta.MediaStorageSOPInstanceUID = read.SOPInstanceUID
        read.save_as(path)
    place.start_archive()
    place.start_gateway()
    place.put([*files["flair"], *again])
    place.send_to_gateway(STUDY)
    wait_for(lambda: list(place.states().values()) == ["failed"], 60)
    status = veridice("gateway", "status", "--inbox", place.inbox, "--json").stdout
    assert "are FLAIRs" in status and "dark-fluid" not in status
    (key,) = place.states()
    done = veridice("gateway", "retry", key, "--inbox", place.inbox, "--flair-series", "9")
    assert done.returncode == 0
    wait_for(lambda: list(place.states().values()) == ["sent"], 60)
    done = veridice("gateway", "retry", "nothing", "--inbox", place.inbox)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)


def test_two_gateways_do_not_share_an_inbox(place: Hospital) -> None:
    place.start_gateway()
    done = veridice("gateway", "--inbox", place.inbox, "--from", "X", "--port", "0")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1) and "another gateway" in done.stderr


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_comes_twice_whatever_is_killed(
    place: Hospital, tiny_scan: dict[str, Volume], tmp_path: Path
) -> None:
    """50 studies, 30 kills of gateway or archive at random moments; every study ends with one set of results."""
    dice = random.Random(0)  # noqa: S311
    studies = [generate_uid(entropy_srcs=["kill", str(number)]) for number in range(50)]
    files = {
        study: make_study(tmp_path / "studies" / str(number), tiny_scan, study=study, PatientID=f"P{number}")
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
