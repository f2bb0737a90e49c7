"""A stack that comes in several Enhanced objects gets one segmentation, each frame of which names its own source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID

from inference.imaging.volume import Volume, load
from storage.facts.prediction import Mask
from tests import builders
from tests.builders import Labels
from tests.dicom_node.results.finding import everything
from tests.dicom_node.results.making import complaints, items, made, ordered, sentences
from tests.dicom_node.results.test_seg import centres, centres_of_seg
from tests.inference.imaging.making import One, Place, enhanced, frames
from tests.inference.series import write

PLACE = Place(orientation=tuple(builders.OBLIQUE), spacing=(0.8, 0.6), step=2.5)
SHAPE = (9, 40, 48)
Split = Callable[[Sequence[One]], Sequence[Sequence[One]]]
SPLITS: dict[str, Split] = {
    "slabs": lambda images: (images[:5], images[5:]),
    "slabs, the upper one first": lambda images: (images[4:], images[:4]),
    "every other slice": lambda images: (images[::2], images[1::2]),
    "a single slice apart": lambda images: (images[:1], images[1:]),
    "three slabs": lambda images: (images[:3], images[3:6], images[6:]),
}


def objects_of(split: Split, sop_class: str = builders.ENHANCED_CT) -> list[Dataset]:
    """One series of several objects, whose UIDs are of unlike length."""
    voxels = np.random.default_rng(5).integers(0, 900, SHAPE).astype(np.int16)
    made_of = [enhanced(images, sop_class) for images in split(frames(voxels, PLACE))]
    for number, dataset in enumerate(made_of, 1):
        dataset.SOPInstanceUID = UID(f"{builders.ROOT}.5.{10 ** (3 * number)}")
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.InstanceNumber = number
    return made_of


def on_the_volume(folder: Path, objects: Sequence[Dataset]) -> tuple[Volume, Labels]:
    """What the model wing makes of the series, and labels on its grid."""
    volume = load(write(folder, objects))
    assert volume.voxels.shape == SHAPE
    assert len({frame.sop_instance_uid for frame in volume.frames}) == len(objects)
    return volume, builders.two_blobs(SHAPE)


def by_object(objects: Sequence[Dataset], volume: Volume, labels: Labels) -> list[Labels]:
    """The labels in the order of the frames of each object."""
    at = {(frame.sop_instance_uid, frame.number): plane for frame, plane in zip(volume.frames, labels, strict=True)}
    return [np.stack([at[d.SOPInstanceUID, n] for n in range(1, d.NumberOfFrames + 1)]) for d in objects]


def said_of(objects: Sequence[Dataset], volume: Volume, labels: Labels) -> dict[str, Dataset]:
    prediction = builders.prediction(objects, labels)
    mask = Mask(blob="cd" * 32, shape=SHAPE, frames=volume.frames)
    return made(replace(prediction, mask=mask, frames=volume.frames), labels, objects)


@pytest.mark.parametrize("name", SPLITS)
def test_every_voxel_is_in_its_place_and_names_the_frame_that_it_lies_on(name: str, tmp_path: Path) -> None:
    objects = objects_of(SPLITS[name])
    volume, labels = on_the_volume(tmp_path / "series", objects)

    objects_made = said_of(objects, volume, labels)

    seg = objects_made["seg"]
    apart = by_object(objects, volume, labels)
    for segment in (1, 2):
        wanted = centres(objects, np.concatenate(apart), segment)
        assert len(wanted) > 500
        assert centres_of_seg(seg, segment) == wanted
    named = [r.ReferencedSOPInstanceUID for r in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence]
    assert sorted(named) == sorted(d.SOPInstanceUID for d in objects)
    for one in objects_made.values():
        assert complaints(one, tmp_path) == []


@pytest.mark.parametrize("name", SPLITS)
def test_another_library_reads_back_the_mask_object_by_object(name: str, tmp_path: Path) -> None:
    objects = objects_of(SPLITS[name], builders.ENHANCED_MR)
    volume, labels = on_the_volume(tmp_path / "series", objects)
    said_of(objects, volume, labels)["seg"].save_as(tmp_path / "seg.dcm", enforce_file_format=True)

    seg = highdicom.seg.segread(tmp_path / "seg.dcm")

    for dataset, wanted in zip(objects, by_object(objects, volume, labels), strict=True):
        found = seg.get_pixels_by_source_frame(
            dataset.SOPInstanceUID,
            list(range(1, dataset.NumberOfFrames + 1)),
            combine_segments=True,
            assert_missing_frames_are_empty=True,
        )
        np.testing.assert_array_equal(found, wanted)
    read = seg.get_volume(combine_segments=True)
    marked = np.argwhere(read.array > 0)
    centre = (read.affine @ np.append(marked.mean(axis=0), 1.0))[:3]
    wanted_centre = volume.affine @ np.append(np.argwhere(labels > 0).mean(axis=0), 1.0)
    np.testing.assert_allclose(centre, wanted_centre[:3], atol=1e-3)


def test_every_kind_of_result_is_made_of_it(tmp_path: Path) -> None:
    objects = objects_of(SPLITS["slabs"])
    _, labels = on_the_volume(tmp_path / "series", objects)
    prediction, read = everything(objects, labels)

    objects_made = ordered(prediction, labels, objects, read=read)

    assert {"sr", "seg", "seg-labelmap", "pmap"} <= set(objects_made)
    assert not [text for text in sentences(objects_made["sr"]) if "No segmentation object is sent" in text]
    for kind in ("seg", "seg-labelmap", "pmap"):
        assert complaints(objects_made[kind], tmp_path) == [], kind
    references = {
        (item.ReferencedSOPInstanceUID, item.get("ReferencedFrameNumber"))
        for one in items(objects_made["sr"])
        for item in one.get("ReferencedSOPSequence", ())
    }
    assert {uid for uid, _ in references} >= {d.SOPInstanceUID for d in objects}


def test_images_of_several_kinds_are_no_grid() -> None:
    objects = [builders.enhanced(4), *builders.slices()[4:]]
    for number, dataset in enumerate(objects, 1):
        dataset.SOPInstanceUID = UID(f"{builders.ROOT}.5.{number}")
    labels = builders.two_blobs((len(builders.frames(objects)), 40, 48))

    objects_made = made(builders.prediction(objects, labels), labels, objects)

    assert list(objects_made) == ["sr"]
    assert any("several kinds" in text for text in sentences(objects_made["sr"]))
