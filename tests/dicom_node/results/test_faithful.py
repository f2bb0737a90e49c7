"""What a model said is what the objects say: every voxel, every digit, every sign of a text."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace

import highdicom
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicom_node.results import coding, statement
from dicom_node.results.language import language
from dicom_node.results.report import Order, compose
from storage.facts.prediction import Code, Measurement, Prediction
from tests import builders
from tests.builders import Labels
from tests.dicom_node.results import finding
from tests.dicom_node.results.making import NODE, encoded, ordered, through_bytes


def marked(random: np.random.Generator, shape: tuple[int, int, int], segments: int, dtype: type) -> Labels:
    return np.where(random.random(shape) < 0.5, random.integers(1, segments + 1, shape), 0).astype(dtype)


def of(labels: Labels, segments: int, sources: list[Dataset], frames: list[int]) -> Prediction:
    """A run that marked so many segments, its frames in the order given."""
    order = tuple(builders.frames(sources)[index] for index in frames)
    plain = builders.prediction(sources, labels)
    assert plain.mask is not None
    first = replace(plain.segments[0], measurements=())
    return replace(
        plain, mask=replace(plain.mask, frames=order, dtype=labels.dtype.name), measurements=(),
        segments=tuple(replace(first, number=n, label=f"Part {n}") for n in range(1, segments + 1)),
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("segments", [1, 3, 9])
@pytest.mark.parametrize("kind", ["seg", "seg-labelmap"])
def test_highdicom_reads_every_voxel_where_the_model_put_it(kind: str, segments: int, dtype: type) -> None:
    """Odd sizes, an oblique stack, images in any order, labels kept wider than they need be, a segment left empty."""
    random = np.random.default_rng(segments)
    sources = builders.slices(5, 7, 11, orientation=builders.OBLIQUE, step=1.7)
    shuffled = [int(i) for i in random.permutation(5)]
    labels = marked(random, (5, 7, 11), segments, dtype)
    labels[labels == 2] = 0
    prediction = of(labels, segments, sources, shuffled)

    (one,) = compose(prediction, labels, sources, NODE, builders.MADE_AT, Order(kinds=(kind,)))

    read = highdicom.seg.segread(io.BytesIO(encoded(one)))
    uids = [builders.frames(sources)[index].sop_instance_uid for index in shuffled]
    numbers = list(range(1, segments + 1))
    found = read.get_pixels_by_source_instance(uids, segment_numbers=numbers, assert_missing_frames_are_empty=True)
    np.testing.assert_array_equal(found, labels[..., None] == np.array(numbers))


@pytest.mark.parametrize(("low", "high"), [(0.5, 2.5), (1.5, 1.5), (0.5, 0.5), (1.5, 2.4), (-0.4, 0.5)])
def test_all_objects_agree_on_the_images_of_a_box_that_ends_between_two(low: float, high: float) -> None:
    sources = builders.slices(5)
    box = finding.boxed(1, (low, 10, 10), (high, 20, 20))
    prediction = finding.found(sources, detections=(box,), grades=())

    made = ordered(prediction, None, sources, kinds=("sr", "gsps", "sr-volumetric"))

    place = {frame.sop_instance_uid: index for index, frame in enumerate(builders.frames(sources))}
    heights = {index: float(ds.ImagePositionPatient[2]) for index, ds in enumerate(sources)}
    drawn = {
        place[a.ReferencedImageSequence[0].ReferencedSOPInstanceUID] for a in made["gsps"].GraphicAnnotationSequence
    }
    named = [a for a in made["gsps"].GraphicAnnotationSequence if "TextObjectSequence" in a]
    solid = {round(z, 3) for one in rings(made["sr-volumetric"]) for z in one[2::3]}
    first, last = statement.reach(box)
    assert drawn == set(range(first, last + 1))
    assert solid == {round(heights[index], 3) for index in drawn}
    assert len(named) == 1
    assert place[named[0].ReferencedImageSequence[0].ReferencedSOPInstanceUID] == statement.key_frame(box)


def rings(item: Dataset) -> Iterator[list[float]]:
    """The coordinates in the patient of a content tree."""
    if item.get("ValueType") == "SCOORD3D":
        yield [float(v) for v in item.GraphicData]
    for child in item.get("ContentSequence", []):
        yield from rings(child)


def numbers(item: Dataset, concept: Code) -> Iterator[float]:
    """The values of a concept in a content tree."""
    if item.get("ValueType") == "NUM" and item.ConceptNameCodeSequence[0].CodeValue == concept.value:
        yield float(item.MeasuredValueSequence[0].NumericValue)
    for child in item.get("ContentSequence", []):
        yield from numbers(child, concept)


def test_an_operating_point_of_next_to_nothing_is_not_reported_as_none() -> None:
    sources = builders.slices(4)
    labels = builders.two_blobs((4, 40, 48))
    small = builders.finding(probability=0.00003456, threshold=0.00004)
    report = ordered(builders.prediction(sources, labels, findings=(small,)), labels, sources, kinds=("sr",))["sr"]

    assert list(numbers(report, coding.THRESHOLD)) == [0.00004]
    assert list(numbers(report, coding.PROBABILITY)) == [0.00003456]


def test_a_value_just_below_zero_is_not_reported_as_minus_nothing() -> None:
    sources = builders.slices(4)
    labels = builders.two_blobs((4, 40, 48))
    mean = Measurement(name=finding.DIAMETER, value=-0.04, unit=finding.HOUNSFIELD, digits=1)
    prediction = builders.prediction(sources, labels, measurements=(mean,))
    report = ordered(prediction, labels, sources, kinds=("sr",))["sr"]

    assert [str(value) for value in numbers(report, finding.DIAMETER)] == ["0.0"]
    assert "-0" not in statement.measurement(mean, language())


#: Texts that a package may hold, and that DICOM would part, end, or stop at.
AWKWARD = ("mg\\L", "a^b=c one\x00two\tend\x1b[31m", "Лёгкое 日本", "W" * 70)


@pytest.mark.parametrize("awkward", AWKWARD)
def test_no_text_of_a_package_is_parted_or_ended_by_what_is_in_it(awkward: str) -> None:
    sources = builders.slices(4, 16, 16)
    labels = builders.two_blobs((4, 16, 16))
    prediction, read = finding.everything(sources, labels)
    named = [
        replace(
            one, label=awkward[:64], type=replace(one.type, meaning=awkward),
            measurements=tuple(replace(m, name=replace(m.name, meaning=awkward)) for m in one.measurements),
        )
        for one in prediction.segments
    ]  # fmt: skip
    prediction = replace(
        prediction, segments=tuple(named), warnings=(awkward,),
        algorithm=builders.algorithm(name=awkward[:64], manufacturer=awkward[:64], parameters=((awkward, awkward),)),
        images=tuple(replace(i, method=replace(i.method, meaning=awkward), text=awkward) for i in prediction.images),
    )  # fmt: skip

    composed = compose(
        prediction, labels, sources, replace(NODE, serial_number=awkward), builders.MADE_AT,
        Order(kinds=("seg", "seg-labelmap", "image", "pmap", "gsps", "sr", "sr-text", "sr-volumetric"), read=read),
    )  # fmt: skip

    assert {one.kind for one in composed} >= {"seg", "image", "pmap", "sr", "gsps", "sr-text", "sr-volumetric"}
    for one in composed:
        assert list(parted(through_bytes(one))) == [], one.kind


_SEVERAL = {"ImageType", "FrameType", "SoftwareVersions", "PatientOrientation"}
_TEXTS = {"LO", "SH", "ST", "LT", "UT", "PN"}


def parted(dataset: Dataset) -> Iterator[str]:
    """The texts of an object that have several values, or signs that no text may have (PS3.5 6.2)."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from parted(item)
            continue
        if element.VR not in _TEXTS:
            continue
        several = isinstance(element.value, MultiValue)
        if several and element.keyword not in _SEVERAL:
            yield f"{element.keyword} has {len(element.value)} values"
        lines = "\r\n" if element.VR in ("ST", "LT", "UT") else ""
        for text in element.value if several else [element.value]:
            if any(ord(sign) < 32 and sign not in lines for sign in str(text or "")):
                yield f"{element.keyword} is {text!r}"


def test_a_code_longer_than_sixteen_characters_stands_where_long_ones_stand() -> None:
    made = coding.item(Code(value="12345678901234567", scheme="SCT", meaning="Something"))
    assert "CodeValue" not in made
    assert made.LongCodeValue == "12345678901234567"
