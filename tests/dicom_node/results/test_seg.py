"""Segmentations lie, voxel for voxel, where the model saw what it marked."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom.dataset import Dataset

from storage.facts.errors import Rejected
from tests import builders
from tests.builders import Labels
from tests.dicom_node.results.making import FLAT, SOURCES, labels_on, made, sentences, tool, whole

VOLUMES = [name for name in SOURCES if name not in {*FLAT, "PT"}]


def centres(sources: Sequence[Dataset], labels: Labels, segment: int) -> set[tuple[float, ...]]:
    """Patient coordinates of all voxels of a segment, from the source headers alone (PS3.3 C.7.6.2.1.1)."""
    found: set[tuple[float, ...]] = set()
    places = [place for ds in sources for place in places_of(ds)]
    for plane, (position, along, down, spacing) in zip(labels, places, strict=True):
        rows, columns = np.nonzero(plane == segment)
        points = position + np.outer(columns * spacing[1], along) + np.outer(rows * spacing[0], down)
        found |= {tuple(np.round(point, 3) + 0.0) for point in points}
    return found


def places_of(ds: Dataset) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    frames = ds.get("PerFrameFunctionalGroupsSequence")
    if frames is None:
        return [place(ds, ds, ds)]
    shared = ds.SharedFunctionalGroupsSequence[0]
    made_of = []
    for frame in frames:
        holders = [frame if name in frame else shared for name in ("PlaneOrientationSequence", "PixelMeasuresSequence")]
        orientation, measures = holders[0].PlaneOrientationSequence[0], holders[1].PixelMeasuresSequence[0]
        made_of.append(place(frame.PlanePositionSequence[0], orientation, measures))
    return made_of


def place(where: Dataset, how: Dataset, measures: Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    cosines = np.array(how.ImageOrientationPatient, float)
    position, spacing = np.array(where.ImagePositionPatient, float), np.array(measures.PixelSpacing, float)
    return position, cosines[:3], cosines[3:], spacing


def centres_of_seg(seg: Dataset, segment: int) -> set[tuple[float, ...]]:
    """The same from the SEG alone, unpacked by hand."""
    bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")
    shape = (int(seg.NumberOfFrames), seg.Rows, seg.Columns)
    planes = bits[: np.prod(shape)].reshape(shape)
    groups = seg.PerFrameFunctionalGroupsSequence
    mine = [i for i, g in enumerate(groups) if g.SegmentIdentificationSequence[0].ReferencedSegmentNumber == segment]
    slim = Dataset()
    slim.SharedFunctionalGroupsSequence = seg.SharedFunctionalGroupsSequence
    slim.PerFrameFunctionalGroupsSequence = [groups[i] for i in mine]
    return centres([slim], planes[mine], 1)


@pytest.mark.parametrize("name", VOLUMES)
def test_every_voxel_is_at_its_place_in_the_patient(name: str) -> None:
    sources = SOURCES[name]()
    labels = labels_on(sources)
    seg = whole(sources)["seg"]
    for segment in (1, 2):
        wanted = centres(sources, labels, segment)
        assert wanted
        assert centres_of_seg(seg, segment) == wanted


@pytest.mark.parametrize("name", VOLUMES)
def test_another_library_reads_back_the_exact_mask_image_by_image(name: str, tmp_path: Path) -> None:
    sources = SOURCES[name]()
    labels = labels_on(sources)
    whole(sources)["seg"].save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    how = {"combine_segments": True, "assert_missing_frames_are_empty": True}
    if len(sources) > 1:
        found = seg.get_pixels_by_source_instance([ds.SOPInstanceUID for ds in sources], **how)
    else:
        frames = list(range(1, sources[0].NumberOfFrames + 1))
        found = seg.get_pixels_by_source_frame(sources[0].SOPInstanceUID, frames, **how)
    assert np.array_equal(found, labels)


@pytest.mark.parametrize("name", ["CT", "CT oblique, from the head down", "MR coronal", "enhanced CT"])
def test_dcmqi_reads_back_every_segment_with_its_volume_and_place(name: str, tmp_path: Path) -> None:
    sources = SOURCES[name]()
    labels = labels_on(sources)
    whole(sources)["seg"].save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    subprocess.run(
        [tool("segimage2itkimage"), "--inputDICOM", tmp_path / "seg.dcm", "--outputDirectory", tmp_path, "-t", "nrrd"],
        check=True, capture_output=True,
    )  # fmt: skip
    for segment in (1, 2):
        assert nrrd_centres(tmp_path / f"{segment}.nrrd") == centres(sources, labels, segment)


def nrrd_centres(path: Path, label: int | None = None) -> set[tuple[float, ...]]:
    """Patient coordinates (LPS) of the voxels of an NRRD file that have that label; without one, any but zero."""
    head, _, body = path.read_bytes().partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
    assert fields["space"] == "left-posterior-superior"
    raw = gzip.decompress(body) if fields["encoding"] == "gzip" else body
    dtype = {"short": np.int16, "unsigned char": np.uint8}.get(fields["type"], np.int16)
    size = [int(v) for v in fields["sizes"].split()]
    image = np.frombuffer(raw, dtype).reshape(size, order="F")
    voxels = np.argwhere(image if label is None else image == label)
    vectors = np.array([[float(v) for v in w.strip("()").split(",")] for w in fields["space directions"].split()])
    origin = np.array([float(v) for v in fields["space origin"].strip("()").split(",")])
    return {tuple(np.round(point, 3) + 0.0) for point in origin + voxels @ vectors}


def test_frames_without_marks_are_left_out_and_all_images_are_still_named() -> None:
    sources = builders.slices()
    labels = labels_on(sources)
    seg = whole(sources)["seg"]
    marked = sum(int((labels == s).any(axis=(1, 2)).sum()) for s in (1, 2))
    assert seg.NumberOfFrames == marked < 2 * len(sources)
    named = {r.ReferencedSOPInstanceUID for r in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert named == {ds.SOPInstanceUID for ds in sources}


def test_segments_keep_number_name_code_colour_and_tracking() -> None:
    objects = whole(builders.slices())
    for number, (found, wanted) in enumerate(zip(objects["seg"].SegmentSequence, builders.segments(), strict=True), 1):
        assert (found.SegmentNumber, found.SegmentLabel) == (number, wanted.label)
        assert found.SegmentedPropertyTypeCodeSequence[0].CodeValue == wanted.type.value
        back = highdicom.color.CIELabColor.from_dicom_value(found.RecommendedDisplayCIELabValue).to_rgb()
        assert np.allclose(back, wanted.colour, atol=2)
        assert found.TrackingID.endswith(f"#{number}")


def test_a_segment_without_voxels_is_described_and_shifts_no_colour() -> None:
    sources = builders.slices()
    labels = labels_on(sources)
    labels[labels == 1] = 0
    seg = made(builders.prediction(sources, labels), labels, sources)["seg"]
    assert [segment.SegmentNumber for segment in seg.SegmentSequence] == [1, 2]
    shown = {g.SegmentIdentificationSequence[0].ReferencedSegmentNumber for g in seg.PerFrameFunctionalGroupsSequence}
    assert shown == {2}


def test_a_label_of_more_than_64_characters_is_cut_to_what_the_standard_allows() -> None:
    sources = builders.slices()
    labels = labels_on(sources)
    first, second = builders.segments()
    prediction = builders.prediction(sources, labels, segments=(replace(first, label="L" * 80), second))
    assert made(prediction, labels, sources)["seg"].SegmentSequence[0].SegmentLabel == "L" * 64


def spoiled(change: str) -> list[Dataset]:
    sources = builders.slices()
    if change == "no frame of reference":
        for ds in sources:
            del ds.FrameOfReferenceUID
    elif change == "frames of reference":
        sources[0].FrameOfReferenceUID = f"{builders.ROOT}.10"
    elif change == "position":
        del sources[3].ImagePositionPatient
    elif change == "pixel spacing":
        del sources[3].PixelSpacing
    else:
        sources[3].ImagePositionPatient = sources[2].ImagePositionPatient
    return sources


@pytest.mark.parametrize(
    "change", ["no frame of reference", "frames of reference", "position", "pixel spacing", "same place"]
)
def test_a_source_without_a_grid_in_the_patient_gets_a_report_that_says_why_there_is_no_segmentation(
    change: str,
) -> None:
    sources = spoiled(change)
    labels = labels_on(sources)
    objects = made(builders.prediction(sources, labels), labels, sources)
    assert list(objects) == ["sr"]
    [said] = [sentence for sentence in sentences(objects["sr"]) if "No segmentation object is sent" in sentence]
    assert change in said


def test_a_source_without_slice_thickness_still_gets_its_segmentation() -> None:
    sources = builders.slices()
    for ds in sources:
        del ds.SliceThickness
    measures = whole(sources)["seg"].SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.SliceThickness == pytest.approx(2.5)


def test_a_mask_of_images_that_were_not_given_is_rejected() -> None:
    sources = builders.slices()
    labels = labels_on(sources)
    with pytest.raises(Rejected, match="not among the source objects"):
        made(builders.prediction(sources, labels), labels, sources[:-1])
