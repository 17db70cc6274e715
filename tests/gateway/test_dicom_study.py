"""A DICOM study in, objects for the archive out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import veridice
from dicom_cases import STUDY, as_enhanced, errors_of, in_file_order, make_study, other_segmentation, values_of
from pydicom import config, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from veridice.config import InferenceSettings
from veridice.errors import InputError, OutputError
from veridice.gateway.queue import Sent
from veridice.gateway.study import JudgedStudy, StudyOptions, judge_study, make_objects
from veridice.imaging.volume import Volume
from veridice.io.dicom_deidentify import images_to_share
from veridice.io.dicom_frames import read_sources
from veridice.io.dicom_headers import files_below, read_study
from veridice.io.dicom_seg import read_segmentation
from veridice.io.nifti import read_map, write_image

KINDS = {
    "segmentation": "1.2.840.10008.5.1.4.1.1.66.4",
    "lesion-probability": "1.2.840.10008.5.1.4.1.1.30",
    "entropy": "1.2.840.10008.5.1.4.1.1.30",
    "picture": "1.2.840.10008.5.1.4.1.1.7",
    "report": "1.2.840.10008.5.1.4.1.1.88.34",
}


def judged(folder: Path, output: Path, weights: Path, **options: object) -> JudgedStudy:
    return judge_study(files_below(folder), output, models=weights, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def plain(tiny_scan_once: dict[str, Volume], tiny_weights_once: Path, tmp_path_factory: pytest.TempPathFactory) -> JudgedStudy:
    """A study that was judged; tests only look at it."""
    folder = tmp_path_factory.mktemp("plain")
    make_study(folder / "study", tiny_scan_once)
    return judged(folder / "study", folder / "out", tiny_weights_once)


@pytest.fixture
def lesions(tiny_scan: dict[str, Volume]) -> Volume:
    return tiny_scan["flair"].with_voxels(tiny_scan["flair"].voxels > 750)


def test_the_objects_belong_to_the_study_and_say_what_was_found(plain: JudgedStudy) -> None:
    assert {what: str(read.SOPClassUID) for what, read in plain.objects.items()} == KINDS
    source = dcmread(plain.choice.flair.files[0], stop_before_pixels=True)
    for path in plain.files.values():
        read = dcmread(path)
        assert (read.StudyInstanceUID, read.PatientID, read.PatientName) == (STUDY, "SECRET-4711", "Secret^Sally")
        assert read.SeriesInstanceUID != source.SeriesInstanceUID
        assert read.ManufacturerModelName == "veridice"
        if "FrameOfReferenceUID" in read:
            assert read.FrameOfReferenceUID == source.FrameOfReferenceUID
    numbers = {what: int(read.SeriesNumber) for what, read in plain.objects.items()}
    assert len(set(numbers.values())) == 4, "both maps in one series, every other object in its own"
    report = " ".join(values_of(plain.files["report"]))
    result = plain.result.assessment
    for said in ("Predicted Dice", f"{result.predicted_dice:.6g}"[:6], "Research use only", *result.warnings):
        assert said in report
    assert plain.making.weights["segmenter"] in report


def test_nothing_but_the_patient_module_goes_into_objects_and_nothing_of_it_into_files_beside(plain: JudgedStudy) -> None:
    allowed = ("Secret^Sally", "SECRET-4711", "19771231")
    for path in plain.files.values():
        assert not values_of(path, lambda text: "secret" in text.lower() and text not in allowed), path.name
    for path in plain.files["report"].parent.iterdir():
        if path.suffix in (".json", ".html", ".tsv", ".md"):
            text, place = path.read_text(), str(plain.files["report"].parent)
            assert not [secret for secret in (*allowed, "Secret", STUDY, place) if secret in text], path.name


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="apt-get install dicom3tools")
@pytest.mark.parametrize(("enhanced", "labelmap"), [(False, False), (True, True)])
def test_the_validator_finds_no_error(
    enhanced: bool, labelmap: bool, tiny_scan: dict[str, Volume], tiny_weights: Path, tmp_path: Path
) -> None:
    files = make_study(tmp_path / "study", tiny_scan)
    if enhanced:
        as_enhanced(files["flair"], tmp_path / "study" / "enhanced.dcm")
        for path in files["flair"]:
            path.unlink()
    earlier = [Sent(KINDS["report"], "2.25.7", "2.25.8", "x"), Sent(KINDS["segmentation"], "2.25.9", "2.25.10", "y")]
    options = StudyOptions(labelmap=labelmap)
    study = judged(tmp_path / "study", tmp_path / "out", tiny_weights, earlier=earlier, options=options)
    assert "rejection-note" in study.objects
    # dciodvfy of 2022 does not know segmentations of labels, which came in 2024.
    unknown = ("segmentation", "report") if labelmap else ()
    known = {what: path for what, path in study.files.items() if what not in unknown}
    assert {what: errors_of(path) for what, path in known.items()} == {what: [] for what in known}


def other_program(name: str, *arguments: object) -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / name, *map(str, arguments)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_dcmqi_reads_the_same_masks_maps_and_numbers(plain: JudgedStudy, tmp_path: Path) -> None:
    for program, what, wanted in (
        ("segimage2itkimage", "segmentation", plain.result.judged_mask),
        ("paramap2itkimage", "entropy", plain.result.volumes["entropy"]),
    ):
        (tmp_path / program).mkdir()
        other_program(program, "--inputDICOM", plain.files[what], "--outputDirectory", tmp_path / program, "-t", "nifti")
        (file,) = (tmp_path / program).glob("*.nii.gz")
        placed = read_map(file).on(wanted.geometry)
        assert placed is not None, what
        np.testing.assert_allclose(placed.voxels, wanted.voxels, atol=1e-6)
    other_program("tid1500reader", "--inputDICOM", plain.files["report"], "--outputMetadata", tmp_path / "report.json")
    (group,) = json.loads((tmp_path / "report.json").read_text())["Measurements"]
    read = {item["quantity"]["CodeMeaning"]: float(item["value"]) for item in group["measurementItems"]}
    assert read["Predicted Dice of the segmentation"] == pytest.approx(plain.result.predicted_dice, abs=1e-5)
    assert group["segmentationSOPInstanceUID"] == plain.objects["segmentation"].SOPInstanceUID


def test_the_same_study_gives_the_same_objects_and_other_images_others(
    plain: JudgedStudy, tiny_weights_once: Path, tmp_path: Path
) -> None:
    folder, first = plain.choice.flair.files[0].parent, plain
    again = judged(folder, tmp_path / "a", tiny_weights_once, earlier=sent(first))
    assert uids(again) == uids(first) and "rejection-note" not in again.objects
    options = StudyOptions(t1_series="none")
    without = judged(folder, tmp_path / "b", tiny_weights_once, earlier=sent(first), options=options)
    assert not set(uids(without).values()) & set(uids(first).values())
    taken_back = " ".join(values_of(without.files["rejection-note"]))
    assert all(uid in taken_back for uid in uids(first).values())
    predecessor = without.objects["report"].PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert predecessor.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == uids(first)["report"]


def uids(study: JudgedStudy) -> dict[str, str]:
    return {what: str(read.SOPInstanceUID) for what, read in study.objects.items()}


def sent(study: JudgedStudy) -> list[Sent]:
    return [
        Sent(str(read.SOPClassUID), str(read.SeriesInstanceUID), str(read.SOPInstanceUID), what)
        for what, read in study.objects.items()
    ]


def test_the_segmentation_of_another_tool_is_judged(
    lesions: Volume, tiny_scan: dict[str, Volume], tiny_weights: Path, tmp_path: Path
) -> None:
    files = make_study(tmp_path / "study", tiny_scan)
    other_segmentation(
        files["flair"],
        in_file_order(files["flair"], lesions).astype(np.uint8),
        tmp_path / "study" / "s.dcm",
        labels=("Lesions Secret^Doctor",),
    )
    study = judged(tmp_path / "study", tmp_path / "out", tiny_weights)
    assert study.result.assessment.judged_mask == "segmentation-of-Other-Company-WMH-Finder.nii.gz"
    placed = study.result.judged_mask.on(lesions.geometry)
    assert placed is not None
    np.testing.assert_array_equal(placed.voxels, lesions.voxels)
    stored = read_segmentation(study.files["own-segmentation"], read_sources(files["flair"])).mask
    np.testing.assert_array_equal(stored.voxels, study.result.volumes["lesion_mask"].on(stored.geometry).voxels)
    texts = [path.read_text() for path in (tmp_path / "out").iterdir() if path.suffix in (".json", ".html")]
    assert not [text for text in texts if "Doctor" in text], "a label may hold a name"
    ours = judged(tmp_path / "study", tmp_path / "own", tiny_weights, options=StudyOptions(judge="own"))
    assert ours.result.assessment.judged_mask == "own"


FAULTS = {
    "Japanese": {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Secret^Taro=山田^太郎"},
    "Korean": {"SpecificCharacterSet": ["", "ISO 2022 IR 149"], "PatientName": "Secret^Gildong=홍^길동"},
    "values of another form": {
        "PatientSex": "U",
        "PatientBirthDate": "00000000",
        "StudyTime": "12:34:56",
        "StudyDate": "2026-01-02",
    },
    "name without a caret": {"PatientName": "Secret Sally"},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_headers_as_scanners_write_them_make_objects(
    fault: str, plain: JudgedStudy, tiny_scan: dict[str, Volume], tmp_path: Path
) -> None:
    sources = read_sources(make_study(tmp_path / "study", tiny_scan, **FAULTS[fault])["flair"])
    objects = make_objects(plain.making, sources, plain.result)
    for what, made in objects.items():
        made.save_as(tmp_path / f"{what}.dcm", enforce_file_format=True)
        read = dcmread(tmp_path / f"{what}.dcm")
        assert str(read.PatientName) == FAULTS[fault].get("PatientName", "Secret^Sally") and read.PatientID == "SECRET-4711"


def test_images_without_a_frame_of_reference_are_refused(tiny_scan: dict[str, Volume], tmp_path: Path) -> None:
    files = make_study(tmp_path / "study", tiny_scan)["flair"]
    for path in files:
        read = dcmread(path)
        del read.FrameOfReferenceUID
        read.save_as(path)
    with pytest.raises(InputError, match="no frame of reference"):
        read_sources(files)


def test_what_people_hide_in_sequences_goes_nowhere(plain: JudgedStudy, tiny_scan: dict[str, Volume], tmp_path: Path) -> None:
    path = as_enhanced(make_study(tmp_path / "study", tiny_scan)["flair"], tmp_path / "enhanced.dcm")
    read = dcmread(path)
    for frame in read.PerFrameFunctionalGroupsSequence:
        frame.FrameContentSequence[0].FrameComments = "secret comment"
        frame.PlanePositionSequence[0].private_block(0x0099, "SECRET", create=True).add_new(1, "LO", "secret private")
    read.save_as(path)
    made = [*make_objects(plain.making, read_sources([path]), plain.result).values(), *images_to_share([path])]
    for number, dataset in enumerate(made):
        dataset.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
        assert b"secret" not in (tmp_path / f"{number}.dcm").read_bytes()


def test_another_judgement_has_other_names_and_what_was_taken_back_never_comes_again(
    plain: JudgedStudy, tiny_weights_once: Path, tmp_path: Path
) -> None:
    folder = plain.choice.flair.files[0].parent
    other = InferenceSettings(min_dice=0.5)
    first = judged(folder, tmp_path / "a", tiny_weights_once, settings=other, earlier=sent(plain))
    assert first.making.revision == 1 and not set(uids(first).values()) & set(uids(plain).values())
    back = judged(folder, tmp_path / "b", tiny_weights_once, earlier=sent(first), revision=1)
    assert back.making.revision == 2 and not set(uids(back).values()) & set(uids(plain).values())
    label = judged(folder, tmp_path / "d", tiny_weights_once, options=StudyOptions(labelmap=True))
    assert uids(label)["segmentation"] != uids(plain)["segmentation"]


def test_what_leaves_the_house_names_nobody_and_still_fits_together(
    tiny_scan: dict[str, Volume], tiny_weights: Path, tmp_path: Path
) -> None:
    make_study(tmp_path / "study", tiny_scan)
    for path in files_below(tmp_path / "study"):
        image = dcmread(path)
        image.file_meta.SourceApplicationEntityTitle = "SECRETNODE"
        image.save_as(path)
    study = judged(tmp_path / "study", tmp_path / "out", tiny_weights, deidentified=True)
    images = sorted((tmp_path / "out").glob("flair-*.dcm"))
    assert len(images) == len(study.choice.flair.files)
    originals = {
        str(image.header.SOPInstanceUID) for series in (study.choice.flair, study.choice.t1) for image in series.images
    }
    for path in (tmp_path / "out").glob("*.dcm"):
        content = path.read_bytes()
        for secret in (b"Secret", b"SECRET", b"19771231", b"20260101", STUDY.encode()):
            assert secret not in content, (path.name, secret)
        assert not [text for text in values_of(path) if text in originals], path.name
    new = {str(dcmread(path).SOPInstanceUID) for path in images}
    mask = dcmread(study.files["segmentation"])
    pointed_at = {
        str(frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID)
        for frame in mask.PerFrameFunctionalGroupsSequence
    }
    assert pointed_at == new
    np.testing.assert_array_equal(
        dcmread(images[3]).pixel_array, dcmread(study.choice.flair.files[3]).pixel_array, "pixels stay as they are"
    )


def test_two_series_of_one_number_are_judged(tiny_scan: dict[str, Volume], tiny_weights: Path, tmp_path: Path) -> None:
    for path in make_study(tmp_path / "study", tiny_scan)["t1"]:
        read = dcmread(path)
        read.SeriesNumber = 2
        read.save_as(path)
    assert judged(tmp_path / "study", tmp_path / "out", tiny_weights).choice.t1 is not None


def refused(files: dict[str, list[Path]], what: str) -> str:
    folder = files["flair"][0].parent
    if what == "no flair":
        for path in files["flair"]:
            path.unlink()
    if what in ("two patients", "two studies"):
        read = dcmread(files["t1"][0])
        read.PatientID, read.StudyInstanceUID = (
            ("OTHER", read.StudyInstanceUID) if what == "two patients" else (read.PatientID, "1.2.3")
        )
        read.save_as(files["t1"][0])
    if what == "a slice is missing":
        files["flair"][5].unlink()
    if what == "nothing":
        for path in folder.iterdir():
            path.write_bytes(b"not DICOM at all")
    if what == "huge":
        read = dcmread(files["flair"][0])
        read.NumberOfFrames, read.Rows, read.Columns = 60000, 60000, 60000
        read.save_as(files["flair"][0])
    if what == "a huge series":
        for path in files["flair"]:
            read = dcmread(path)
            read.NumberOfFrames, read.Rows, read.Columns = 1, 8000, 8000
            read.save_as(path)
    return str(folder)


REFUSED = {
    "no flair": "no series is a FLAIR",
    "two patients": "more than one patient",
    "two studies": "more than one study",
    "a slice is missing": "lie unevenly",
    "nothing": "no DICOM image",
    "huge": "larger than 1 GiB",
    "a huge series": "larger than 1 GiB",
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_judged_is_one_line_and_leaves_nothing(
    what: str, tiny_scan: dict[str, Volume], tiny_weights: Path, tmp_path: Path
) -> None:
    folder = refused(make_study(tmp_path / "study", tiny_scan), what)
    with pytest.raises(InputError, match=REFUSED[what]) as raised:
        judged(Path(folder), tmp_path / "out", tiny_weights)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_it_took_and_why(tiny_scan: dict[str, Volume], tiny_weights: Path, tmp_path: Path) -> None:
    make_study(tmp_path / "study", tiny_scan)
    done = veridice("dicom", tmp_path / "study", "-o", tmp_path / "out", "--weights", tiny_weights)
    assert done.returncode == 0, done.stderr
    for said in ("FLAIR by its times", "T1w by its times", "a localiser", "derived", "predicted Dice", "Research use only"):
        assert said in " ".join(done.stdout.split()), said
    done = veridice(
        "dicom", tmp_path / "study", "-o", tmp_path / "two", "--weights", tiny_weights, "--json", "--t1-series", "none"
    )
    row = json.loads(done.stdout)
    assert all(Path(path).is_file() for path in row["dicom"].values())
    done = veridice("dicom", tmp_path / "study", "-o", tmp_path / "three", "--flair-series", "99")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1) and "is no series" in done.stderr
    assert not (tmp_path / "three").exists()


def test_what_lies_in_the_folder_of_results_stays(
    tiny_scan: dict[str, Volume], tiny_weights: Path, lesions: Volume, tmp_path: Path
) -> None:
    make_study(tmp_path / "study", tiny_scan)
    out = tmp_path / "out"
    out.mkdir()
    for name in ("README.md", "dataset_description.json"):
        (out / name).write_text('{"Name": "mine"}')
    judged(tmp_path / "study", out, tiny_weights)
    assert (out / "README.md").read_text() == (out / "dataset_description.json").read_text() == '{"Name": "mine"}'
    mask = out / "sub-study_label-lesion_desc-input_mask.nii.gz"
    write_image(mask, lesions)
    with pytest.raises(OutputError, match="would be overwritten"):
        judged(tmp_path / "study", out, tiny_weights, mask=mask)


def test_a_damaged_value_that_nobody_needs_is_passed_over_and_one_that_is_needed_is_said(
    tiny_scan: dict[str, Volume], tmp_path: Path
) -> None:
    make_study(tmp_path / "study", tiny_scan)
    files = next(series.files for series in read_study(files_below(tmp_path / "study")))
    image = dcmread(files[0])
    with config.disable_value_validation():
        for keyword, said in (("SamplesPerPixel", None), ("Rows", "header is damaged")):
            image[keyword] = RawDataElement(Tag(keyword), "US", 3, b"abc", 0, False, True)
            image.save_as(files[0])
            if said:
                with pytest.raises(InputError, match=said):
                    read_sources(files)
            else:
                read_sources(files)
