"""Segments that overlap, and more of them than a byte has room for: said, not refused."""

from __future__ import annotations

import dataclasses
import subprocess
import zlib
from pathlib import Path

import highdicom
import numpy as np
import numpy.typing as npt
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.rle import _rle_decode_frame

from dicom_node.results import packing, region
from dicom_node.results.material import mask_of
from storage.facts.errors import Rejected
from storage.facts.prediction import Mask, Prediction
from storage.facts.wire import from_json, to_json
from storage.ledger import Ledger
from tests import builders
from tests.dicom_node.results.making import SOURCES, complaints, ordered, sentences, tool
from tests.dicom_node.results.test_seg import centres, nrrd_centres

Labels = npt.NDArray[np.generic]
MANY = 300


def overlapping(sources: list[Dataset]) -> tuple[Prediction, Labels]:
    """A lesion that lies within an organ, and reaches out of it."""
    shape = (len(builders.frames(sources)), int(sources[0].Rows), int(sources[0].Columns))
    organ = (builders.two_blobs(shape) == 1).astype(np.uint8)
    lesion = np.zeros_like(organ)
    z, y, x = (int(v) for v in np.argwhere(organ).mean(axis=0))
    lesion[z - 1 : z + 2, y : y + 5, x : x + 14] = 2
    assert ((organ > 0) & (lesion > 0)).any()
    assert ((organ == 0) & (lesion > 0)).any()
    labels = np.stack([organ, lesion], axis=1)
    mask = Mask(blob="ab" * 32, over=("cd" * 32,), shape=shape, frames=builders.frames(sources))
    return builders.prediction(sources, mask=mask, segments=builders.segments()), labels


@pytest.mark.parametrize("kind", ["seg", "seg-labelmap"])
@pytest.mark.parametrize("name", ["CT", "CT oblique, from the head down", "MR coronal"])
def test_overlapping_segments_come_back_whole_through_highdicom_and_dcmqi(name: str, kind: str, tmp_path: Path) -> None:
    sources = SOURCES[name]()
    prediction, labels = overlapping(sources)
    made = ordered(prediction, labels, sources, kinds=(kind, "sr"))[kind]
    assert made.SegmentationType == "BINARY"  # a label map has one segment a pixel
    assert complaints(made, tmp_path) == []
    made.save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    read = highdicom.seg.segread(tmp_path / "seg.dcm")
    uids = [ds.SOPInstanceUID for ds in sources]
    back = read.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
    for number in (1, 2):
        assert np.array_equal(back[..., number - 1] > 0, labels[:, number - 1] > 0)
    folder = tmp_path / "itk"
    folder.mkdir()
    subprocess.run(
        [tool("segimage2itkimage"), "--inputDICOM", tmp_path / "seg.dcm", "--outputDirectory", folder, "-t", "nrrd"],
        check=True, capture_output=True,
    )  # fmt: skip
    for number in (1, 2):
        assert nrrd_centres(folder / f"{number}.nrrd") == centres(sources, labels[:, number - 1], number)


def test_an_enhanced_source_takes_overlapping_segments(tmp_path: Path) -> None:
    sources = SOURCES["enhanced CT"]()
    prediction, labels = overlapping(sources)
    made = ordered(prediction, labels, sources, kinds=("seg", "sr"))["seg"]
    assert complaints(made, tmp_path) == []
    made.save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    read = highdicom.seg.segread(tmp_path / "seg.dcm")
    frames = list(range(1, len(labels) + 1))
    back = read.get_pixels_by_source_frame(sources[0].SOPInstanceUID, frames, assert_missing_frames_are_empty=True)
    for number in (1, 2):
        assert np.array_equal(back[..., number - 1] > 0, labels[:, number - 1] > 0)


def test_report_and_picture_show_each_of_overlapping_segments() -> None:
    sources = builders.slices()
    prediction, labels = overlapping(sources)
    made = ordered(prediction, labels, sources, kinds=("seg", "sc", "sr", "sr-comprehensive", "pdf", "kos"))
    groups = [
        item for part in made["sr"].ContentSequence for item in part.get("ContentSequence", [])
        if item.ConceptNameCodeSequence[0].CodeMeaning == "Measurement Group"
    ]  # fmt: skip
    assert len(groups) == 3  # the whole, and each
    assert not any("could not be" in sentence for sentence in sentences(made["sr"]))
    picture = made["sc"].pixel_array.reshape(-1, 3)
    for segment in prediction.segments:
        assert (picture == segment.colour).all(axis=1).any()


def test_maps_that_do_not_overlap_are_one_label_map() -> None:
    sources = builders.slices()
    labels = builders.two_blobs()
    apart = np.stack([labels * (labels == number) for number in (1, 2)], axis=1)
    mask = Mask(blob="ab" * 32, over=("cd" * 32,), shape=labels.shape, frames=builders.frames(sources))
    both = builders.prediction(sources, mask=mask, segments=builders.segments())
    made = ordered(both, apart, sources, kinds=("seg-labelmap", "sr"))["seg-labelmap"]
    plain = ordered(builders.prediction(sources, labels), labels, sources, kinds=("seg-labelmap", "sr"))["seg-labelmap"]
    assert made.SegmentationType == "LABELMAP"
    assert made.PixelData == plain.PixelData


def crowded(sources: list[Dataset]) -> tuple[Prediction, Labels]:
    """More segments than fit into a byte, a pixel or two of each."""
    shape = (len(sources), int(sources[0].Rows), int(sources[0].Columns))
    labels = np.zeros(shape, np.uint16)
    labels[3].flat[100 : 100 + 2 * MANY] = np.repeat(np.arange(1, MANY + 1, dtype=np.uint16), 2)
    labels[4] = labels[3]
    segments = tuple(
        dataclasses.replace(
            builders.segments()[0], number=n, label=f"Part {n}", measurements=(),
        )
        for n in range(1, MANY + 1)
    )  # fmt: skip
    mask = Mask(blob="ab" * 32, shape=shape, frames=builders.frames(sources), dtype="uint16")
    return builders.prediction(sources, mask=mask, segments=segments), labels


@pytest.mark.parametrize("kind", ["seg", "seg-labelmap"])
def test_three_hundred_segments_come_back_through_highdicom(kind: str, tmp_path: Path) -> None:
    sources = builders.slices()
    prediction, labels = crowded(sources)
    made = ordered(prediction, labels, sources, kinds=(kind, "sr"))[kind]
    assert made.SegmentationType == ("BINARY" if kind == "seg" else "LABELMAP")
    assert made.BitsAllocated == (1 if kind == "seg" else 16)
    assert complaints(made, tmp_path) == []
    made.save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    read = highdicom.seg.segread(tmp_path / "seg.dcm")
    back = read.get_pixels_by_source_instance(
        [ds.SOPInstanceUID for ds in sources], combine_segments=True, assert_missing_frames_are_empty=True
    )
    assert np.array_equal(back, labels)


def test_dcmqi_reads_a_label_map_of_16_bits(tmp_path: Path) -> None:
    sources = builders.slices()
    prediction, labels = crowded(sources)
    made = ordered(prediction, labels, sources, kinds=("seg-labelmap", "sr"))["seg-labelmap"]
    made.save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    subprocess.run(
        [tool("segimage2itkimage"), "--inputDICOM", tmp_path / "seg.dcm", "--outputDirectory", tmp_path, "-t", "nrrd"],
        check=True, capture_output=True,
    )  # fmt: skip
    for number in (1, 255, 256, 300):
        assert nrrd_centres(tmp_path / "1.nrrd", number) == centres(sources, labels, number)


def test_runs_of_16_bits_are_decoded_to_the_labels_that_were_encoded() -> None:
    plane = np.array([[0, 0, 256, 256], [511, 511, 3, 3], [65535, 1, 2, 3]], np.uint16)
    fragment = packing.run_lengths(plane)
    assert len(fragment) % 2 == 0
    assert _rle_decode_frame(fragment, *plane.shape, 1, 16) == plane.tobytes()


def test_a_mask_of_several_maps_is_kept_and_read_back(ledger: Ledger) -> None:
    sources = builders.slices()
    prediction, labels = overlapping(sources)
    assert prediction.mask is not None
    blobs = [ledger.blobs.put(zlib.compress(np.ascontiguousarray(labels[:, n]).tobytes())) for n in (0, 1)]
    mask = dataclasses.replace(prediction.mask, blob=blobs[0], over=(blobs[1],))
    prediction = dataclasses.replace(prediction, mask=mask)
    assert from_json(Prediction, to_json(prediction)) == prediction
    read = mask_of(ledger, mask)
    assert read is not None
    assert np.array_equal(read, labels)
    assert region.overlap(read)


def test_an_old_record_of_a_mask_is_still_read() -> None:
    old = {"blob": "ab" * 32, "shape": [1, 2, 3], "frames": []}
    assert from_json(Mask, old) == Mask(blob="ab" * 32, shape=(1, 2, 3), frames=())


def test_a_mask_of_another_type_than_stated_is_rejected() -> None:
    sources = builders.slices()
    prediction, labels = crowded(sources)
    with pytest.raises(Rejected, match="stated are uint16"):
        ordered(prediction, labels.astype(np.uint8), sources)
