"""What is written by columns is, byte for byte, what highdicom writes one element at a time."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from highdicom.seg import segread
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.rle import _rle_decode_frame

from dicom_node.results import packing, region, seg, source
from dicom_node.results.check import faults
from dicom_node.results.frames import parts
from dicom_node.results.identity import Naming, sign
from storage.facts.errors import Rejected
from tests import builders
from tests.builders import Labels
from tests.dicom_node.results.making import FLAT, NODE, SOURCES, complaints, labels_on, tool
from tests.dicom_node.results.test_seg import centres, nrrd_centres


def naming_of(sources: Sequence[Dataset], labels: Labels, **changes: object) -> Naming:
    return Naming(prediction=builders.prediction(sources, labels, **changes), node=NODE, made_at=builders.MADE_AT)


def written(sources: Sequence[Dataset], labels: Labels, kind: str = seg.BINARY, **changes: object) -> bytes:
    naming = naming_of(sources, labels, **changes)
    made = seg.segmentation(naming, source.read(sources), labels, region.areas(labels, int(labels.max())), kind)
    assert faults(made.header, made.frames) == []
    return b"".join(parts(made.header, made.frames))


def by_highdicom(sources: Sequence[Dataset], labels: Labels, **changes: object) -> bytes:
    """The same object with every frame made by highdicom, and our names in it."""
    naming = naming_of(sources, labels, **changes)
    origin = source.read(sources)
    images = []
    for image in origin.images:
        image.update(origin.header)
        images.append(image)
    if any("SliceThickness" not in image and len(images) > 1 for image in images):
        raise AssertionError("give sources with a thickness")
    made: Dataset = seg._build(naming, images, labels, seg.BINARY)
    made.BodyPartExamined = origin.header.BodyPartExamined
    sign(made, naming, seg.BINARY)
    for item in (made.DimensionOrganizationSequence[0], *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = naming.uid("dimensions")
    made.file_meta = dcmread(io.BytesIO(written(sources, labels, **changes))).file_meta
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def irregular() -> list[Dataset]:
    """Steps of 2.5 and 5 mm, positions with many decimals, UIDs of several lengths."""
    sources = builders.slices()
    for index, ds in enumerate(sources):
        ds.SOPInstanceUID = f"{ds.SOPInstanceUID}{'.7' * index}"
        ds.ImagePositionPatient[2] = f"{40 + index * 2.5 + (2.5 if index > 4 else 0) + index / 3:.10f}"
    return sources


VOLUMES: dict[str, Callable[[], list[Dataset]]] = {n: s for n, s in SOURCES.items() if n not in {*FLAT, "PT"}} | {
    "irregular CT": irregular,
    "odd matrix": lambda: builders.slices(5, 33, 37),
    "one slice": lambda: builders.slices(1),
}


@pytest.mark.parametrize("name", VOLUMES)
def test_the_whole_file_is_the_one_that_highdicom_would_have_written(name: str) -> None:
    sources = VOLUMES[name]()
    labels = labels_on(sources)
    if name == "one slice":
        labels = builders.two_blobs((5, 40, 48))[2:3]
    assert same(written(sources, labels), by_highdicom(sources, labels))


def same(ours: bytes, other: bytes) -> bool:
    """highdicom pads an odd length with the character 0, where PS3.5 8.1.1 has a zero byte."""
    return ours == other or (other[-1:] == b"0" and ours == other[:-1] + b"\0")


@pytest.mark.parametrize("name", ["CT", "irregular CT", "odd matrix"])
def test_a_single_segment_is_written_like_that_too(name: str) -> None:
    sources = VOLUMES[name]()
    labels = labels_on(sources)
    labels[labels > 1] = 0
    one = builders.segments()[:1]
    assert same(written(sources, labels, segments=one), by_highdicom(sources, labels, segments=one))


@pytest.mark.parametrize("name", VOLUMES)
def test_a_label_map_gives_back_the_mask_without_an_item_for_the_background(name: str) -> None:
    sources = VOLUMES[name]()
    labels = labels_on(sources) if name != "one slice" else builders.two_blobs((5, 40, 48))[2:3]
    found = segread(io.BytesIO(written(sources, labels, seg.LABELMAP)))
    assert [int(s.SegmentNumber) for s in found.SegmentSequence] == [1, 2]
    how = {"combine_segments": True, "assert_missing_frames_are_empty": True}
    if len(sources) > 1 or "NumberOfFrames" not in sources[0]:
        back = found.get_pixels_by_source_instance([ds.SOPInstanceUID for ds in sources], **how)
    else:
        frames = list(range(1, sources[0].NumberOfFrames + 1))
        back = found.get_pixels_by_source_frame(sources[0].SOPInstanceUID, frames, **how)
    assert np.array_equal(back, labels)


@pytest.mark.parametrize("name", VOLUMES)
def test_dciodvfy_finds_nothing_in_either_form(name: str, tmp_path: Path) -> None:
    sources = VOLUMES[name]()
    labels = labels_on(sources) if name != "one slice" else builders.two_blobs((5, 40, 48))[2:3]
    for kind in (seg.BINARY, seg.LABELMAP):
        assert complaints(dcmread(io.BytesIO(written(sources, labels, kind))), tmp_path) == []


def test_dcmqi_reads_a_label_map(tmp_path: Path) -> None:
    sources = builders.slices()
    labels = labels_on(sources)
    (tmp_path / "seg.dcm").write_bytes(written(sources, labels, seg.LABELMAP))
    subprocess.run(
        [tool("segimage2itkimage"), "--inputDICOM", tmp_path / "seg.dcm", "--outputDirectory", tmp_path, "-t", "nrrd"],
        check=True, capture_output=True,
    )  # fmt: skip
    for segment in (1, 2):
        assert nrrd_centres(tmp_path / "1.nrrd", segment) == centres(sources, labels, segment)


def test_writing_twice_gives_the_same_bytes() -> None:
    sources = builders.slices()
    labels = labels_on(sources)
    for kind in (seg.BINARY, seg.LABELMAP):
        assert written(sources, labels, kind) == written(sources, labels, kind)


def test_the_source_is_left_as_it_was() -> None:
    sources = [builders.enhanced()]
    before = sources[0].to_json()
    written(sources, labels_on(sources))
    assert sources[0].to_json() == before


PLANES = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 300)), elements=st.integers(0, 3))


@settings(max_examples=60, deadline=None)
@given(plane=PLANES)
def test_runs_are_decoded_to_the_labels_that_were_encoded(plane: Labels) -> None:
    fragment = packing.run_lengths(plane)
    assert _rle_decode_frame(fragment, *plane.shape, 1, 8) == plane.tobytes()


def test_fragments_are_found_through_the_offset_table() -> None:
    labels = builders.two_blobs((4, 16, 16))
    value = b"".join(packing.encapsulated(labels, [0, 1, 3], 8))
    found = [_rle_decode_frame(f, 16, 16, 1, 8) for f in generate_frames(value, number_of_frames=3)]
    assert found == [labels[plane].tobytes() for plane in (0, 1, 3)]


@settings(max_examples=30, deadline=None)
@given(labels=arrays(np.uint8, st.tuples(st.just(5), st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 2)))
def test_bits_follow_each_other_across_frames_without_padding(labels: Labels) -> None:
    frames = [(plane, segment) for segment in (1, 2) for plane in range(5)]
    value = b"".join(packing.packed(labels, frames))
    bits = np.unpackbits(np.frombuffer(value, np.uint8), bitorder="little")
    wanted = np.concatenate([(labels[p] == s).ravel() for p, s in frames])
    assert len(value) == packing.packed_length(labels, len(frames))
    assert len(value) % 2 == 0
    assert np.array_equal(bits[: wanted.size], wanted)
    assert not bits[wanted.size :].any()


def test_a_mask_with_more_bits_than_dicom_can_hold_is_rejected() -> None:
    sources = builders.slices()
    labels = labels_on(sources)
    made = seg.segmentation(naming_of(sources, labels), source.read(sources), labels, region.areas(labels, 2))
    endless = replace(made.frames, length=2**32)
    with pytest.raises(Rejected, match="too many frames"):
        list(parts(made.header, endless))


@pytest.mark.parametrize("fault", ["place", "number of frames", "segment", "twice"])
def test_a_fault_in_frames_written_by_columns_is_found(fault: str) -> None:
    sources = builders.slices()
    labels = labels_on(sources)
    made = seg.segmentation(naming_of(sources, labels), source.read(sources), labels, region.areas(labels, 2))
    items = [*made.frames.items]
    if fault == "place":
        items[3] = items[3].replace(b"\x20\x00\x32\x00DS", b"\x20\x00\x33\x00DS")
    elif fault == "number of frames":
        items.pop()
    elif fault == "segment":
        items[-1] = items[-1].replace(b"\x62\x00\x0b\x00US\x02\x00\x02", b"\x62\x00\x0b\x00US\x02\x00\x07")
    else:
        items[1] = items[0]
    assert faults(made.header, made.frames) == []
    assert faults(made.header, replace(made.frames, items=items)) != []
