"""Which series of a study is the FLAIR, which the T1w, and which segmentation there is to judge: by attributes, then by names.

Times are those of common protocols from 0.3 to 7 T (Bitar et al. 2006, doi:10.1148/rg.262055063; ACR protocols of the brain).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from veridice.errors import InputError
from veridice.io.dicom_headers import CONTRAST_AGENT, Series

Kind = Literal["flair", "t1w", "segmentation", "other"]
MR_CLASSES = ("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4")
"""MR image, one with many frames, and one with many that was made of single ones."""
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
FEWEST_SLICES = 10
FLAIR_INVERSION, FLAIR_ECHO = (1200.0, 3500.0), 60.0
"""Fluid is nulled after so many milliseconds; grey matter (T1w) after fewer, fat (STIR) after far fewer."""
T1_ECHO, T1_INVERSION, SPIN_ECHO_REPETITION = 25.0, 1400.0, 1100.0
SUSCEPTIBILITY_ECHO = 10.0
"""A gradient echo as late as this shows iron and veins."""
FINER = 0.7
"""A scan whose voxels have less than this part of the volume of another's is taken before it."""
FLAIR_NAME = re.compile(r"flair|dark fl|tirm|fluid")
T1_NAME = re.compile(r"t1|mp ?rage|bravo|spgr|tfe|vibe")
NO_CONTRAST_NAME = re.compile(r"\b(w ?/ ?o|without|wo|non?|pre|ohne|sans|nativ)\b ?-?(contrast|gd|gad|km|c\b|iv)?")
CONTRAST_NAME = re.compile(
    r"\bpost(?! ?fossa|erior)\b|\bc ?[+]|[+] ?(c|k|gd|gad|km)\b|\b(gd|gad|km|mdc|contrast|gado\w*|t1 ?c|ce)\b"
)
OTHER_NAME = re.compile(
    r"\b(tof|angio\w*|mra|mip|mpr ?(cor|sag|tra|ax)|loc\w*|scout|survey|dwi|dti|adc|swi|bold|asl|perf\w*|phase|stir|dir|"
    r"double ?inv\w*|field ?map\w*|b0 ?map|mag)\b|gre ?field|diff"
)
"""In names whose dots, dashes and underscores are blanks."""
T1_CONTRASTS = ("", "T1", "UNKNOWN")


@dataclass(frozen=True)
class Choice:
    """What a study is judged by.

    Args:
        flair: to be judged.
        t1: of the same session; None: there is none that fits.
        segmentation: of another tool; None: there is none.
        reasons: a sentence a series, in the order of the study.
        unsure: what speaks against the choice, for a reader.
    """

    flair: Series
    t1: Series | None
    segmentation: Series | None
    reasons: tuple[tuple[Series, str], ...]
    unsure: tuple[str, ...] = ()


def choose(
    study: Sequence[Series],
    flair: str | None = None,
    t1: str | None = None,
    segmentation: str | None = None,
) -> Choice:
    """Choose what to judge.

    Args:
        study: its series.
        flair, t1, segmentation: number, UID or part of the description of a series that a person chose; ``none`` for no T1w or
            no segmentation.

    Raises:
        InputError: no series is a FLAIR, only one after contrast agent is, or two are and neither is finer.
    """
    looked_at = [(series, *what_it_is(series)) for series in study]
    reasons = tuple((series, reason) for series, _, reason in looked_at)

    def of(kind: Kind) -> list[Series]:
        return [series for series, found, _ in looked_at if found == kind]

    chosen_flair = _named(study, flair, "--flair-series") if flair else _flair(of("flair"), reasons)
    if chosen_flair is None:
        raise InputError("--flair-series none: without a FLAIR there is nothing to judge")
    unsure = []
    before = [series for series in of("t1w") if not has_contrast_agent(series)]
    chosen_t1 = _named(study, t1, "--t1-series") if t1 else _finest(before)
    if chosen_t1 is None and not t1 and of("t1w"):
        unsure.append("the T1w were all taken after contrast agent and are left out")
    marked = of("segmentation")
    if segmentation:
        chosen_mask = _named(study, segmentation, "--mask-series")
    elif len(marked) > 1:
        chosen_mask = None
        unsure.append(f"{' and '.join(map(str, marked))} are segmentations; choose one with --mask-series, ours is judged")
    elif marked and len(marked[0].files) > 1:
        chosen_mask = None
        unsure.append(
            f"{marked[0]} has {len(marked[0].files)} segmentations; leave the one that is to be judged, ours is judged"
        )
    else:
        chosen_mask = marked[0] if marked else None
    return Choice(chosen_flair, chosen_t1, chosen_mask, reasons, tuple(unsure))


def what_it_is(series: Series) -> tuple[Kind, str]:
    """What a series shows, and the reason in words."""
    first = series.first
    if is_ours(series):
        return "other", "a result of veridice"
    if first.text("SOPClassUID") in SEGMENTATIONS:
        return "segmentation", "a segmentation"
    if first.text("SOPClassUID") not in MR_CLASSES:
        return "other", f"no MR image ({first.text('Modality') or 'no modality'})"
    image_type = first.text("ImageType").upper().split("\\")
    name = f"{_plain(series)} {first.text('SequenceName').lower()}"
    for holds, reason in (
        ("LOCALIZER" in image_type or re.search(r"\b(loc\w*|scout|survey)\b", name), "a localiser"),
        (image_type[0] == "DERIVED" or "SECONDARY" in image_type, "derived from other images"),
        (series.frames < FEWEST_SLICES, f"only {series.frames} slices"),
        (_directions(series) > 1, "slices in several directions"),
    ):
        if holds:
            return "other", reason
    return _by_times(series, name)


def _by_times(series: Series, name: str) -> tuple[Kind, str]:
    first = series.first
    echo, repetition, inversion = (first.number(name) for name in ("EchoTime", "RepetitionTime", "InversionTime"))
    echo = echo if echo is not None else first.number("EffectiveEchoTime")
    inversion = inversion if inversion is not None else first.number("InversionTimes")
    times = ", ".join(
        f"{word} {value:g} ms"
        for word, value in (("echo", echo), ("repetition", repetition), ("inversion", inversion))
        if value is not None
    )
    agent = ", after contrast agent" if has_contrast_agent(series) else ""
    if first.text("AcquisitionContrast") == "FLUID_ATTENUATED":
        return "flair", f"FLAIR by its contrast: fluid attenuated{agent}"
    if OTHER_NAME.search(name):
        return "other", f"another kind by its name{f' ({times})' if times else ''}"
    if inversion and echo and FLAIR_INVERSION[0] <= inversion <= FLAIR_INVERSION[1] and echo >= FLAIR_ECHO:
        return "flair", f"FLAIR by its times: {times}{agent}"
    if echo is not None and repetition is not None:
        gradient = "GR" in f"{first.text('ScanningSequence')} {first.text('EchoPulseSequence')}".upper()
        short = echo < (SUSCEPTIBILITY_ECHO if gradient else T1_ECHO)
        inverted = bool(inversion) and (inversion or 0) <= T1_INVERSION
        of_t1 = first.text("AcquisitionContrast") in T1_CONTRASTS
        if of_t1 and short and (inverted or gradient or repetition <= SPIN_ECHO_REPETITION):
            return "t1w", f"T1w by its times: {times}{agent}"
        if echo < FLAIR_ECHO or not FLAIR_NAME.search(name) or inversion:
            return "other", f"neither FLAIR nor T1w by its times: {times}"
    if FLAIR_NAME.search(name) and not T1_NAME.search(name):
        return "flair", f"FLAIR by its name{f' ({times})' if times else ''}{agent}"
    if T1_NAME.search(name) and echo is None:
        return "t1w", f"T1w by its name{agent}"
    return "other", f"neither FLAIR nor T1w{f' ({times})' if times else ' by its name, and it states no times'}"


def has_contrast_agent(series: Series) -> bool:
    """Whether it was taken after contrast agent, by attribute or name."""
    if any(series.first.value(keyword) for keyword in CONTRAST_AGENT):
        return series.first.text("ContrastBolusAgent").strip().lower() not in ("none", "no", "0", "n/a")
    return bool(CONTRAST_NAME.search(NO_CONTRAST_NAME.sub(" ", _plain(series))))


def _plain(series: Series) -> str:
    """The description in small letters, with blanks for what people put between words."""
    return " ".join(re.sub(r"[_.,;:()\[\]-]+", " ", series.description.lower()).split())


def is_ours(series: Series) -> bool:
    return series.first.text("ManufacturerModelName") == "veridice"


def _flair(found: list[Series], reasons: Sequence[tuple[Series, str]]) -> Series:
    if not found:
        said = "; ".join(f"{series}: {reason}" for series, reason in reasons)
        raise InputError(f"no series is a FLAIR ({said}); choose one with --flair-series")
    before = [series for series in found if not has_contrast_agent(series)]
    if not before:
        text = f"{found[0]}: was taken after contrast agent, as every FLAIR of the study; --flair-series takes it all the same"
        raise InputError(text)
    best = _finest(before, sure=True)
    if best is None:
        raise InputError(f"{' and '.join(map(str, before))} are FLAIRs; choose one with --flair-series NUMBER")
    return best


def _finest(found: list[Series], sure: bool = False) -> Series | None:
    """The one with the smallest voxels; None where there is none, or where another is as fine and one has to be ``sure``."""
    ranked = sorted(found, key=_voxel_volume)
    if not ranked or (sure and len(ranked) > 1 and _voxel_volume(ranked[0]) > FINER * _voxel_volume(ranked[1])):
        return None
    return ranked[0]


def _voxel_volume(series: Series) -> float:
    """Cubic millimetres; very large where the header does not say."""
    first = series.first
    spacing, thickness = first.value("PixelSpacing"), first.number("SliceThickness")
    thickness = first.number("SpacingBetweenSlices") or thickness
    return float(spacing[0]) * float(spacing[1]) * thickness if spacing and thickness else 1e6


def _directions(series: Series) -> int:
    """How many directions the slices face, to a hundredth."""
    seen = {tuple(round(float(n), 2) for n in image.value("ImageOrientationPatient") or ()) for image in series.images}
    return len(seen)


def _named(study: Sequence[Series], wanted: str, option: str) -> Series | None:
    """The series that a person means.

    Raises:
        InputError: none or several are meant.
    """
    if wanted.lower() == "none":
        return None
    ways: tuple[Callable[[Series], bool], ...] = (
        lambda series: series.uid == wanted,
        lambda series: str(series.number) == wanted,
        lambda series: wanted.lower() in series.description.lower(),
    )
    for means in ways:
        if len(meant := [series for series in study if means(series)]) == 1:
            return meant[0]
        if meant:
            raise InputError(
                f"{option} {wanted}: {len(meant)} series are meant ({', '.join(map(str, meant))}); give the UID of one"
            )
    raise InputError(f"{option} {wanted}: is no series; there are {', '.join(map(str, study))}")
