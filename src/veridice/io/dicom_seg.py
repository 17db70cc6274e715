"""Masks and maps as DICOM: segmentations and parametric maps, written and read. Needs the extra ``dicom``.

All frames are stored, empty ones too: viewers show segmentations without them shifted (highdicom, issue 214).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from highdicom import VOILUTTransformation, imread, seg
from highdicom.color import CIELabColor
from highdicom.pm import ParametricMap, RealWorldValueMapping
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from veridice.errors import GeometryError, InputError
from veridice.imaging.volume import Geometry, Volume
from veridice.io.dicom_frames import RAS_OF_LPS, SourceImages
from veridice.io.dicom_headers import LARGEST_SERIES
from veridice.io.dicom_objects import ABNORMAL, BIT, DISCLAIMER, ENTROPY, LESION, MAKER, SCHEMES, WHITE_MATTER, Making, finished

LESION_NAME = re.compile(r"lesion|wmh|hyperintens|leuko|leuco|plaque|demyel|\bms\b|t2 ?l", re.IGNORECASE)
LESION_COLOUR = CIELabColor(52, 74, 59)
"""An orange that is told from grey and from blue; viewers begin with it."""


def segmentation(
    making: Making, sources: SourceImages, mask: Volume, label: str, instance: int, labelmap: bool = False
) -> Dataset:
    """A mask as a segmentation of its source images.

    Args:
        mask: booleans that lie on the images.
        label: of the one segment, at most 64 characters.
        instance: its number in the series of segmentations.
        labelmap: the newer kind, in which each voxel has one label; most viewers want the older, binary one.

    Raises:
        GeometryError: the mask does not lie on the images.
    """
    description = seg.SegmentDescription(
        segment_number=1,
        segment_label=label[:64],
        segmented_property_category=ABNORMAL,
        segmented_property_type=LESION,
        algorithm_type=seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=making.algorithm,
        tracking_uid=making.uid(f"tracking {instance}"),
        tracking_id=label[:64],
        anatomic_regions=[WHITE_MATTER],
        display_color=None if labelmap else LESION_COLOUR,
    )
    kind = seg.SegmentationTypeValues.LABELMAP if labelmap else seg.SegmentationTypeValues.BINARY
    made = seg.Segmentation(
        source_images=sources.datasets,
        pixel_array=sources.frames(mask).astype(np.uint8),
        segmentation_type=kind,
        segment_descriptions=[description],
        omit_empty_frames=False,
        content_label="LESIONS",
        content_description=DISCLAIMER,
        content_creator_name=f"{MAKER}^",
        **making.common("segmentation", 0, instance),
        **making.device,
    )
    return finished(made)


def parametric_map(making: Making, sources: SourceImages, values: Volume, what: str, instance: int) -> Dataset:
    """A map of numbers as a parametric map, in 32-bit floats.

    Args:
        values: that lie on the images.
        what: ``lesion_probability`` or ``entropy``, both in [0, 1].
        instance: its number in the series of maps.

    Raises:
        GeometryError: the map does not lie on the images.
    """
    probability = what == "lesion_probability"
    mapping = RealWorldValueMapping(
        lut_label="Probability" if probability else "Entropy",
        lut_explanation="Probability of a lesion" if probability else "Entropy of the probability",
        unit=codes.UCUM.NoUnits if probability else BIT,
        value_range=(0.0, 1.0),
        slope=1,
        intercept=0,
        quantity_definition=codes.DCM.Probability if probability else ENTROPY,
    )
    made = ParametricMap(
        source_images=sources.datasets,
        pixel_array=np.clip(sources.frames(values).astype(np.float32), 0, 1),
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        coding_schemes=SCHEMES,
        voi_lut_transformations=[VOILUTTransformation(window_center=0.5, window_width=1.0)],
        content_label=what.upper()[:16],
        content_description=DISCLAIMER,
        content_creator_name=f"{MAKER}^",
        **making.common("maps", 1, instance),
        **making.device,
    )
    made.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [_anatomy()]
    return finished(_along_the_normal(made))


def _along_the_normal(made: ParametricMap) -> ParametricMap:
    """Frames in the order of the slices, as row and column turn: readers such as dcmqi 1.5 take it for granted."""
    directions = np.array(made.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient, float)
    normal = np.cross(directions[:3], directions[3:])
    groups = list(made.PerFrameFunctionalGroupsSequence)
    heights = [np.array(group.PlanePositionSequence[0].ImagePositionPatient, float) @ normal for group in groups]
    order = np.argsort(heights)
    for number, index in enumerate(order, start=1):
        groups[index].FrameContentSequence[0].DimensionIndexValues = number
    pixels = np.frombuffer(made.FloatPixelData, np.uint8).reshape(len(groups), -1)
    made.FloatPixelData = pixels[order].tobytes()
    made.PerFrameFunctionalGroupsSequence = [groups[index] for index in order]
    return made


def _anatomy() -> Dataset:
    """The part of the body that frames show; some readers (dcmqi 1.5) end without a word where it is missing."""
    frame = Dataset()
    frame.FrameLaterality = "U"
    frame.AnatomicRegionSequence = [CodedConcept.from_code(codes.SCT.Brain)]
    return frame


@dataclass(frozen=True)
class GivenSegmentation:
    """A segmentation of another tool.

    Args:
        mask: booleans, or probabilities where it is fractional.
        name: of the tool that made it, for a reader.
        uid: of the object.
    """

    mask: Volume
    name: str
    uid: str


def read_segmentation(path: Path, sources: SourceImages, wanted: str | None = None) -> GivenSegmentation:
    """Read the lesions of a segmentation, binary, fractional or of labels, on the grid of the images where it lies on them.

    Args:
        path: of the object.
        sources: the images that it should belong to.
        wanted: number or part of the label of a segment; None: the one that is named as lesions are.

    Raises:
        InputError: it cannot be read, has no such segment, or lies in another frame of reference.
    """
    try:
        read = seg.segread(path)
        names = {number: _label(read, number) for number in read.segment_numbers}
    except Exception as error:  # hostile bytes make the libraries raise nearly everything
        raise InputError(f"{path.name}: cannot be read as a segmentation ({type(error).__name__}); export it again") from error
    size = int(read.Rows) * int(read.Columns) * int(read.get("NumberOfFrames", 1))
    if size > LARGEST_SERIES:
        raise InputError(f"{path.name}: its frames are larger than 1 GiB")
    if read.get("FrameOfReferenceUID") != sources.datasets[0].get("FrameOfReferenceUID"):
        raise InputError(f"{path.name}: lies in another frame of reference than the FLAIR; give a segmentation of the FLAIR")
    number = _chosen(path.name, names, wanted)
    try:
        volume = _voxels(read, number, sources)
    except (GeometryError, InputError):
        raise
    except Exception as error:
        raise InputError(f"{path.name}: its frames cannot be laid out in space ({type(error).__name__})") from error
    return GivenSegmentation(volume, _maker(read), str(read.SOPInstanceUID))


def read_parametric_map(path: Path) -> Volume:
    """Read a parametric map where its frames lie."""
    volume = imread(path).get_volume(dtype=np.float32, apply_real_world_transform=False, apply_voi_transform=False)
    return _as_volume(np.asarray(volume.array), volume.affine)


def _as_volume(voxels: np.ndarray[Any, Any], affine: np.ndarray[Any, Any]) -> Volume:
    """From arrays of slice, row and column, and millimetres of DICOM."""
    shape = (voxels.shape[2], voxels.shape[1], voxels.shape[0])
    return Volume(np.ascontiguousarray(voxels.transpose(2, 1, 0)), Geometry(shape, RAS_OF_LPS @ affine[:, [2, 1, 0, 3]]))


def _label(read: seg.Segmentation, number: int) -> str:
    described = read.get_segment_description(number)
    return f"{described.segment_label}\0{described.segmented_property_type.meaning}"


def _maker(read: seg.Segmentation) -> str:
    """Only what names the tool: labels and descriptions, which people type, may hold names."""
    maker = " ".join(str(read.get(name, "")) for name in ("Manufacturer", "ManufacturerModelName")).strip()
    return f"segmentation of {maker or 'another tool'}"


def _chosen(name: str, names: dict[int, str], wanted: str | None) -> int:
    said = ", ".join(f"{number} {label.partition(chr(0))[2]}" for number, label in names.items())  # by their codes
    if wanted is not None:
        meant = [n for n, label in names.items() if str(n) == wanted] or [
            n for n, label in names.items() if wanted.lower() in label.lower()
        ]
        if len(meant) != 1:
            raise InputError(f"--segment {wanted}: {name} has {said}; give the number of one")
        return meant[0]
    meant = [number for number, label in names.items() if LESION_NAME.search(label)]
    if len(meant) != 1:
        raise InputError(f"{name}: {len(meant)} of its segments are named as lesions are ({said}); choose one with --segment")
    return meant[0]


def _voxels(read: seg.Segmentation, number: int, sources: SourceImages) -> Volume:
    """On the images' grid where every frame lies on one of their slices; else where its frames lie."""
    volume = read.get_volume(segment_numbers=[number], rescale_fractional=True, allow_missing_positions=True)
    voxels = np.asarray(volume.array)
    voxels = voxels[..., 0] if voxels.ndim == 4 else voxels
    voxels = voxels == 1 if read.SegmentationType != "FRACTIONAL" else voxels.astype(np.float32)
    place = _as_volume(voxels, volume.affine)
    return _spread(place, sources.grid) or place


def _spread(part: Volume, grid: Geometry) -> Volume | None:
    """Slices of a volume at their places in a grid, the rest empty; None where they lie beside it."""
    slices = np.linalg.solve(grid.affine, part.affine @ part.geometry.corners)[:3]
    if np.abs(slices - np.round(slices)).max() > 0.1:
        return None
    step = np.round(np.linalg.solve(grid.affine, part.affine)[:3, :3])
    if not np.array_equal(step[:2, :2], np.eye(2)) or step[2, 2] == 0 or np.abs(step[:2, 2]).any() or np.abs(step[2, :2]).any():
        return None
    first = np.round(slices[:, 0]).astype(int)
    places = first[2] + int(step[2, 2]) * np.arange(part.shape[2])
    if first[:2].any() or part.shape[:2] != grid.shape[:2] or places.min() < 0 or places.max() >= grid.shape[2]:
        return None
    voxels = np.zeros(grid.shape, part.voxels.dtype)
    voxels[:, :, places] = part.voxels
    return Volume(voxels, grid)
