"""Reads the label map that a truth table names onto the grid of the series that it speaks of."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.pixels.utils import iter_pixels

from inference.bringing.validation.truth import Labels
from inference.imaging.border import reading
from inference.imaging.header import groups_of, items, macro
from inference.imaging.volume import Volume
from inference.packages.manifest import SegmentEntry
from storage.facts.errors import Rejected

Marked = npt.NDArray[np.bool_]

BINARY, LABELMAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"
OFF_GRID = 0.1  #: part of a voxel by which a frame may lie off the series' own grid
OFF_AXIS = 1e-3  #: difference of a direction cosine


def marked_in(labels: Labels, entry: SegmentEntry, volume: Volume) -> Marked:
    """Voxels of the volume that the label map holds to be the segment.

    Raises Rejected when it is no label map of that series or does not say which segment is meant, Irregular when its
    bytes cannot be read.
    """
    if labels.path.suffix == ".npz":
        return _from_array(labels, entry, volume)
    with reading(labels.path, "the header"):
        header = pydicom.dcmread(labels.path, stop_before_pixels=True)
    if header.get("SOPClassUID") not in (BINARY, LABELMAP):
        raise Rejected(f"{labels.path.name} is no DICOM Segmentation")
    number = labels.number or _meant(labels.path, header, entry)
    wanted = [k for k in range(int(header.get("NumberOfFrames") or 1)) if _shows(header, k, number)]
    marked = np.zeros(volume.voxels.shape, np.bool_)
    places = {index: _place(labels.path, header, index, volume) for index in wanted}
    with reading(labels.path, "the pixels"):
        for index, frame in zip(wanted, iter_pixels(labels.path, indices=wanted) if wanted else (), strict=True):
            marked[places[index]] |= frame == number if header.SOPClassUID == LABELMAP else _over_half(header, frame)
    return marked


def _from_array(labels: Labels, entry: SegmentEntry, volume: Volume) -> Marked:
    try:
        with np.load(labels.path, allow_pickle=False) as arrays:
            mask = arrays["mask"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise Rejected(f"{labels.path.name} holds no array named mask ({type(error).__name__})") from error
    if mask.shape != volume.voxels.shape:
        raise Rejected(f"{labels.path.name} has {mask.shape} voxels, the series {volume.voxels.shape}")
    return np.asarray(mask == (labels.number or entry.number))


def _meant(path: Path, header: Dataset, entry: SegmentEntry) -> int:
    segments = items(header, "SegmentSequence")
    if len(segments) == 1:
        return int(segments[0].SegmentNumber)
    types = [
        [str(code.get("CodeValue", "")) for code in items(s, "SegmentedPropertyTypeCodeSequence")] for s in segments
    ]
    for found in (
        [s for s in segments if str(s.get("SegmentLabel", "")).casefold() == entry.label.casefold()],
        [s for s, codes in zip(segments, types, strict=True) if entry.type.value in codes],
    ):
        if len(found) == 1:
            return int(found[0].SegmentNumber)
    raise Rejected(f"{path.name} has {len(segments)} segments: say which one is meant by FILE#NUMBER")


def _shows(header: Dataset, index: int, number: int) -> bool:
    if header.SOPClassUID == LABELMAP:
        return True
    return bool(macro(groups_of(header, index), "SegmentIdentificationSequence", "ReferencedSegmentNumber") == number)


def _over_half(header: Dataset, frame: npt.NDArray[np.generic]) -> Marked:
    """Of a fractional segmentation, what is more likely than not."""
    return np.asarray(2 * frame.astype(np.int32) > int(header.get("MaximumFractionalValue") or 1))


def _place(path: Path, header: Dataset, index: int, volume: Volume) -> int:
    """The frame of the volume that a frame lies on."""
    if (header.Rows, header.Columns) != volume.voxels.shape[1:]:
        raise Rejected(f"{path.name} has {header.Rows} x {header.Columns} pixels a frame, unlike its series")
    if volume.projection:
        return 0
    groups = groups_of(header, index)
    position = macro(groups, "PlanePositionSequence", "ImagePositionPatient")
    directions = macro(groups, "PlaneOrientationSequence", "ImageOrientationPatient")
    if not position or not directions:
        raise Rejected(f"{path.name} has a frame without a place in the patient")
    axes = volume.affine[:3, 1:3] / np.linalg.norm(volume.affine[:3, 1:3], axis=0)
    stated = np.array([directions[3:], directions[:3]], np.float64).T  # down a column, along a row
    cell = (np.linalg.inv(volume.affine) @ np.array([*map(float, position), 1.0]))[:3]
    nearest = round(float(cell[0]))
    is_on = 0 <= nearest < volume.voxels.shape[0] and np.abs(cell - [nearest, 0, 0]).max() <= OFF_GRID
    if not is_on or np.abs(axes - stated).max() > OFF_AXIS:
        raise Rejected(f"{path.name} does not lie on the grid of its series: frame {index + 1} is somewhere else")
    return nearest
