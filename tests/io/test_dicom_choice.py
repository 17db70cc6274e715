"""Which series is what, by the headers of scanners as they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from veridice.errors import InputError
from veridice.io.dicom_choice import choose, has_contrast_agent, what_it_is
from veridice.io.dicom_headers import Image, Series

MR = "1.2.840.10008.5.1.4.1.1.4"
AXIAL = [1, 0, 0, 0, 1, 0]


def series(number: int = 1, slices: int = 20, **attributes: object) -> Series:
    """Headers as scanners write them; ``None`` leaves an attribute out."""
    common = {
        "SOPClassUID": MR,
        "Modality": "MR",
        "SeriesInstanceUID": f"1.2.{number}",
        "SeriesNumber": number,
        "ImageType": ["ORIGINAL", "PRIMARY", "M"],
        "ImageOrientationPatient": AXIAL,
        "PixelSpacing": [1, 1],
        "SliceThickness": 1,
        "ScanningSequence": "SE",
    }
    images = []
    for _ in range(slices):
        header = Dataset()
        for keyword, value in {**common, **attributes}.items():
            if value is not None:
                setattr(header, keyword, value)
        images.append(Image(Path("x"), header))
    return Series(tuple(images))


def times(echo: float | None, repetition: float | None, inversion: float | None = None) -> dict[str, object]:
    return {"EchoTime": echo, "RepetitionTime": repetition, "InversionTime": inversion}


KINDS = {
    "FLAIR, turbo spin echo at 1.5 T": (times(100, 9000, 2500), "flair"),
    "FLAIR, 3D at 3 T": (times(388, 5000, 1800) | {"SeriesDescription": "t2_spc_da-fl_sag"}, "flair"),
    "FLAIR at 0.3 T": (times(110, 7000, 1500), "flair"),
    "FLAIR at 7 T": (times(310, 8000, 2300), "flair"),
    "FLAIR without inversion time": (times(120, 9000) | {"SeriesDescription": "Ax T2 FLAIR"}, "flair"),
    "FLAIR by its name alone": (times(None, None) | {"SeriesDescription": "sag_3D_FLAIR"}, "flair"),
    "dark fluid by its name alone": (times(None, None) | {"SeriesDescription": "t2_tirm_tra_dark-fluid"}, "flair"),
    "FLAIR by its contrast": (times(None, None) | {"AcquisitionContrast": "FLUID_ATTENUATED"}, "flair"),
    "STIR": (times(80, 5000, 180), "other"),
    "T1w FLAIR": (times(20, 2000, 860) | {"SeriesDescription": "T1 FLAIR"}, "t1w"),
    "MPRAGE": (times(3, 2300, 900) | {"ScanningSequence": ["GR", "IR"]}, "t1w"),
    "BRAVO": (times(3.2, 8.2, 450) | {"ScanningSequence": "GR"}, "t1w"),
    "T1w spin echo": (times(12, 550), "t1w"),
    "T1w by its name alone": (times(None, None) | {"SeriesDescription": "T1_MPRAGE"}, "t1w"),
    "T2w": (times(95, 5000), "other"),
    "PD": (times(12, 3000), "other"),
    "SWI": (times(20, 28) | {"ScanningSequence": "GR", "SeriesDescription": "SWI_Images"}, "other"),
    "susceptibility without a name": (times(20, 600) | {"ScanningSequence": "GR"}, "other"),
    "angiography": (times(3.5, 22) | {"ScanningSequence": "GR", "SeriesDescription": "TOF_3D"}, "other"),
    "diffusion": (times(80, 6000) | {"ScanningSequence": "EP", "SeriesDescription": "ep2d_dwi"}, "other"),
    "derived FLAIR": (times(100, 9000, 2500) | {"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "other"),
    "localiser": (times(100, 9000, 2500) | {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "other"),
    "few slices": (times(100, 9000, 2500) | {"slices": 3}, "other"),
    "CT": (times(None, None) | {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "Modality": "CT"}, "other"),
    "segmentation": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"}, "segmentation"),
    "no times, no name": (times(None, None), "other"),
    "double inversion": (times(318, 7500, 3000) | {"SeriesDescription": "t2_space_dir_sag_p2_iso"}, "other"),
    "double inversion by GE": (times(90, 7500, 2900) | {"SeriesDescription": "Sag CUBE DIR"}, "other"),
    "field map": (times(4.92, 400) | {"ScanningSequence": "GR", "SeriesDescription": "gre_field_mapping"}, "other"),
    "MPRAGE called MPR": (times(3, 2300, 900) | {"ScanningSequence": ["GR", "IR"], "SeriesDescription": "SAG T1 MPR"}, "t1w"),
    "direct FLAIR": (times(100, 9000, 2500) | {"SeriesDescription": "FLAIR direct"}, "flair"),
    "enhanced T2* of Philips": (
        times(16, 650) | {"ScanningSequence": None, "EchoPulseSequence": "GRADIENT", "AcquisitionContrast": "T2_STAR"},
        "other",
    ),
    "enhanced T1w of Philips": (
        times(3.4, 7.4) | {"ScanningSequence": None, "EchoPulseSequence": "GRADIENT", "AcquisitionContrast": "T1"},
        "t1w",
    ),
    "times that are no numbers": ({"EchoTime": "", "SeriesDescription": "flair"}, "flair"),
}


@pytest.mark.parametrize("case", KINDS)
def test_a_series_is_what_it_is(case: str) -> None:
    attributes, kind = KINDS[case]
    found, reason = what_it_is(series(**attributes))
    assert (found, bool(reason)) == (kind, True), reason


FLAIR = times(100, 9000, 2500)
T1W = times(3, 2300, 900) | {"ScanningSequence": ["GR", "IR"]}
AGENT = {"ContrastBolusAgent": "Gadovist"}


def test_the_finer_flair_and_the_t1w_before_contrast_agent_are_taken() -> None:
    study = [
        series(1, **FLAIR, SliceThickness=5),
        series(2, **FLAIR),
        series(3, **T1W, **AGENT, PixelSpacing=[0.5, 0.5]),
        series(4, **T1W),
    ]
    choice = choose(study)
    assert choice.flair.number == 2
    assert choice.t1 is not None and choice.t1.number == 4


def test_a_t1w_only_after_contrast_agent_is_left_out_and_said() -> None:
    choice = choose([series(1, **FLAIR), series(2, **T1W, SeriesDescription="t1 mprage post")])
    assert choice.t1 is None and "after contrast agent" in choice.unsure[0]


@pytest.mark.parametrize(
    ("study", "said"),
    [
        ([series(1, **T1W)], "no series is a FLAIR"),
        ([series(1, **FLAIR, **AGENT)], "after contrast agent"),
        ([series(1, **FLAIR), series(2, **FLAIR)], "--flair-series"),
    ],
)
def test_what_cannot_be_chosen_is_asked_for(study: list[Series], said: str) -> None:
    with pytest.raises(InputError, match=said):
        choose(study)


@pytest.mark.parametrize(("wanted", "number"), [("2", 2), ("1.2.2", 2), ("SECOND", 2)])
def test_a_person_may_choose(wanted: str, number: int) -> None:
    study = [series(1, **FLAIR, SeriesDescription="first"), series(2, **FLAIR, SeriesDescription="the second")]
    assert choose(study, flair=wanted).flair.number == number


@pytest.mark.parametrize(("wanted", "said"), [("9", "is no series"), ("t", "2 series are meant"), ("none", "nothing to judge")])
def test_a_choice_that_means_none_or_many_is_refused(wanted: str, said: str) -> None:
    study = [series(1, **FLAIR, SeriesDescription="first"), series(2, **FLAIR, SeriesDescription="the second")]
    with pytest.raises(InputError, match=said):
        choose(study, flair=wanted)


def test_our_own_segmentation_is_not_judged_and_of_two_others_none() -> None:
    ours = series(5, 1, SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4", ManufacturerModelName="veridice")
    others = [series(n, 1, SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4", ManufacturerModelName="x") for n in (6, 7)]
    assert choose([series(1, **FLAIR), ours]).segmentation is None
    chosen = choose([series(1, **FLAIR), ours, others[0]]).segmentation
    assert chosen is not None and chosen.number == 6
    many = choose([series(1, **FLAIR), series(8, 2, SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4")])
    assert many.segmentation is None and "has 2 segmentations" in many.unsure[0]
    both = choose([series(1, **FLAIR), *others])
    assert both.segmentation is None and "--mask-series" in both.unsure[0]


BEFORE = (
    "AX FLAIR W/O CONTRAST", "SAG T1 W/O", "t1 without contrast", "PRE CONTRAST", "T1 non-contrast", "t1 ohne KM", "sans gado",
    "FLAIR posterior fossa", "mprage", "T1 nativ", "t1_space", "FLAIR_no_contrast",
)  # fmt: skip
AFTER = (
    "t1_mprage_sag_p2_iso_post",
    "T1_post",
    "FLAIR_post",
    "T1 C+",
    "T1C",
    "Ax T1 +C",
    "t1 +gd",
    "T1 KM",
    "post contrast",
    "T1 GAD",
)


@pytest.mark.parametrize(("name", "after"), [*((name, False) for name in BEFORE), *((name, True) for name in AFTER)])
def test_a_name_says_whether_contrast_agent_was_given(name: str, after: bool) -> None:
    assert has_contrast_agent(series(1, SeriesDescription=name)) == after
