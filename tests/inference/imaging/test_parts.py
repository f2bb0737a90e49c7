"""Series that hold several stacks: what they are taken apart by, and which one a package takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import numpy.typing as npt
import pytest
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID

from inference.imaging.irregular import Irregular
from inference.imaging.parts import Part, split
from inference.imaging.planes import read_headers
from inference.imaging.volume import assemble, load
from inference.packages.accepts import Accepts
from inference.packages.choosing import Chosen, choose
from inference.packages.manifest import load_manifest
from inference.packages.store import SHIPPED
from tests import builders
from tests.inference.imaging.making import Groups, One, Place, classic, enhanced, frames, turned
from tests.inference.series import write

MANIFEST = load_manifest(SHIPPED / "ct-lung-densitometry" / "model.toml")
PLACE = Place(orientation=turned((0.1, 0.2, -0.1)))
SAGITTAL = Place(orientation=builders.SAGITTAL)


def level(value: int, count: int = 6) -> npt.NDArray[np.int16]:
    """A stack of one grey value, by which it is known again."""
    return np.full((count, 4, 5), value, np.int16)


def chosen(folder: Path, datasets: Sequence[Dataset], **accepts: Any) -> Chosen:
    manifest = MANIFEST.model_copy(update={"accepts": Accepts(modality=("MR", "CT"), **accepts)})
    return choose(manifest, read_headers(write(folder, datasets)))


def grey(found: Chosen) -> list[float]:
    return sorted(map(float, np.unique(assemble(found.header, found.stack).voxels)))


def texts(parts: Sequence[Part]) -> list[str]:
    return [part.text() for part in parts]


def renumbered(datasets: Sequence[Dataset]) -> list[Dataset]:
    for number, ds in enumerate(datasets, start=1):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID(f"{builders.ROOT}.5.{number}")
    return list(datasets)


def echoes(*times: float) -> list[Dataset]:
    """One classic MR series with a volume for each echo time, whose grey value is the time in us."""
    volumes = (
        classic(frames(level(round(1000 * time)), PLACE), builders.MR, EchoTime=time, EchoNumbers=number)
        for number, time in enumerate(times, start=1)
    )
    return renumbered([ds for volume in volumes for ds in volume])


def test_echoes_of_one_series_are_told_apart_by_their_time(tmp_path: Path) -> None:
    parts = split(read_headers(write(tmp_path, echoes(4.92, 2.46))))

    assert texts(parts) == ["6 images with echo time 2.46 ms", "6 images with echo time 4.92 ms"]
    for part in parts:
        part.stack().check()


def test_a_package_names_the_echo_it_means(tmp_path: Path) -> None:
    found = chosen(tmp_path, echoes(2.46, 4.92, 7.38), volumes={"echo_time": {"min": 4, "max": 6}})

    assert grey(found) == [4920]
    assert float(found.header.EchoTime) == 4.92
    [warning] = found.warnings
    assert warning.startswith("Of the series, 6 images with echo time 4.92 ms were analysed")
    assert "6 images with echo time 7.38 ms" in warning


def test_several_volumes_that_fit_are_refused_naming_what_tells_them_apart(tmp_path: Path) -> None:
    with pytest.raises(Irregular) as caught:
        chosen(tmp_path, echoes(2.46, 4.92))

    assert caught.value.reason.code.value == "110521"
    assert "2 volumes that this model would take: 6 images with echo time 2.46 ms" in caught.value.reason.text
    assert "accepts.volumes" in caught.value.reason.text


def test_a_choice_that_none_meets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Irregular, match=r"2 volumes, but none that accepts\.volumes means"):
        chosen(tmp_path, echoes(2.46, 4.92), volumes={"echo_time": {"min": 30}})


@pytest.mark.parametrize(("which", "value"), [("first", 1000), ("last", 11000)])
def test_the_first_or_last_of_time_points_may_be_meant(tmp_path: Path, which: str, value: int) -> None:
    volumes = (
        classic(frames(level(1000 * time), PLACE), builders.MR, TemporalPositionIdentifier=time)
        for time in (2, 11, 1)  # ordered as numbers, not as text
    )
    datasets = renumbered([ds for volume in volumes for ds in volume])

    assert grey(chosen(tmp_path, datasets, volumes={"of_several": which})) == [value]


def test_magnitude_and_phase_are_told_apart_by_image_type(tmp_path: Path) -> None:
    magnitude = classic(frames(level(5), PLACE), builders.MR, ImageType=["ORIGINAL", "PRIMARY", "M", "ND"])
    phase = classic(frames(level(7), PLACE), builders.MR, ImageType=["ORIGINAL", "PRIMARY", "P", "ND"])
    datasets = renumbered([*magnitude, *phase])

    assert grey(chosen(tmp_path / "m", datasets, volumes={"image_type": {"refuse": ["P"]}})) == [5]
    assert grey(chosen(tmp_path / "p", datasets, volumes={"image_type": {"accept": ["P"]}})) == [7]
    assert grey(chosen(tmp_path / "x", datasets, image_type_excludes=("P",))) == [5]


def test_localizers_within_a_series_are_passed_over_and_said(tmp_path: Path) -> None:
    scan = classic(frames(level(40), Place()), builders.CT)
    scout = classic(frames(level(1, 2), SAGITTAL), builders.CT, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])

    found = chosen(tmp_path, renumbered([*scout, *scan]))

    assert grey(found) == [40]
    assert "2 images with orientation sagittal" in found.warnings[0]


def test_the_reason_of_the_largest_part_is_given_where_none_is_taken(tmp_path: Path) -> None:
    datasets = renumbered([*classic(frames(level(1, 9), Place())), *classic(frames(level(2, 4), SAGITTAL))])

    with pytest.raises(Irregular) as caught:
        chosen(tmp_path, datasets, coverage={"min": 100})

    assert caught.value.reason.code.value == "130576"
    assert "The extent of the stack is 18 mm" in caught.value.reason.text
    assert "None of the 2 parts" in caught.value.reason.text


def test_two_directions_of_one_series_are_chosen_by_orientation(tmp_path: Path) -> None:
    datasets = renumbered([*classic(frames(level(1), Place())), *classic(frames(level(2), SAGITTAL))])

    assert grey(chosen(tmp_path, datasets, orientation=("sagittal",))) == [2]


def test_acquisitions_that_interleave_are_told_apart(tmp_path: Path) -> None:
    other = Place(origin=(-20.0, -30.0, 10.7))
    datasets = renumbered([
        *classic(frames(level(1), Place()), AcquisitionNumber=1), *classic(frames(level(2), other), AcquisitionNumber=2)
    ])  # fmt: skip

    assert texts(split(read_headers(write(tmp_path, datasets)))) == [
        "6 images with acquisition 1", "6 images with acquisition 2",
    ]  # fmt: skip


def test_slabs_that_adjoin_stay_together(tmp_path: Path) -> None:
    above = Place(origin=(-20.0, -30.0, 24.0), step=4.0)
    datasets = renumbered([
        *classic(frames(level(1), Place()), AcquisitionNumber=1), *classic(frames(level(2), above), AcquisitionNumber=2)
    ])  # fmt: skip

    with pytest.raises(Irregular, match="missing or unevenly spaced"):  # and not: half a head is a head
        chosen(tmp_path, datasets).stack.check()


def test_one_even_stack_stays_whole_whatever_its_images_say(tmp_path: Path) -> None:
    datasets = classic(frames(level(1, 8), Place()))
    for number, ds in enumerate(datasets):
        ds.AcquisitionNumber, ds.EchoTime = number // 4, 2.0 + number % 2

    assert len(split(read_headers(write(tmp_path, datasets)))) == 1


def test_images_that_nothing_tells_apart_are_never_paired_by_counting(tmp_path: Path) -> None:
    datasets = renumbered([*classic(frames(level(1), Place())), *classic(frames(level(2), Place()))])

    with pytest.raises(Irregular, match="another image already lies"):
        chosen(tmp_path, datasets).stack.check()


# Enhanced objects ---------------------------------------------------------------------------------


def timed(voxels: npt.NDArray[np.int16], time: int, place: Place = PLACE) -> list[One]:
    def groups(index: int) -> Groups:
        return {
            "FrameContentSequence": {"TemporalPositionIndex": time, "DimensionIndexValues": [1, index + 1]},
            "PixelValueTransformationSequence": {"RescaleSlope": time, "RescaleIntercept": 0.5},
        }

    return frames(voxels, place, groups)


def test_time_points_of_an_enhanced_object_are_volumes_with_their_own_rescale(tmp_path: Path) -> None:
    """Against highdicom's reading of an object that holds one time point alone."""
    values = np.random.default_rng(3).integers(0, 900, (2, 6, 4, 5)).astype(np.int16)
    mixed = [one for pair in zip(timed(values[0], 1), timed(values[1], 2), strict=True) for one in pair]
    dataset = enhanced(mixed, builders.ENHANCED_MR)

    found = chosen(tmp_path, [dataset], volumes={"of_several": "last"})

    volume = assemble(found.header, found.stack)
    alone = highdicom.Image.from_dataset(enhanced(timed(values[1], 2), builders.ENHANCED_MR))
    oracle = alone.get_volume(apply_real_world_transform=False)
    places = np.indices(volume.voxels.shape).reshape(3, -1).T
    there = np.rint(
        oracle.map_reference_to_indices(places @ volume.affine[:3, :3].T + volume.affine[:3, 3])
    ).astype(int)  # fmt: skip
    np.testing.assert_allclose(oracle.array[tuple(there.T)], volume.voxels.ravel(), rtol=1e-6)
    assert [frame.number for frame in volume.frames] == [2, 4, 6, 8, 10, 12]
    assert {frame.sop_instance_uid for frame in volume.frames} == {str(dataset.SOPInstanceUID)}


def test_b_values_and_directions_of_an_enhanced_object_are_told_apart(tmp_path: Path) -> None:
    def weighted(value: float, direction: Sequence[float] = ()) -> list[One]:
        own: dict[str, Any] = {"DiffusionBValue": value}
        if direction:
            item = Dataset()
            item.DiffusionGradientOrientation = list(direction)
            own["DiffusionGradientDirectionSequence"] = [item]
        return frames(level(round(value) + 1), PLACE, lambda _: {"MRDiffusionSequence": own})

    images = [*weighted(1000, (1, 0, 0)), *weighted(1000, (0, 1, 0)), *weighted(0)]
    parts = split(read_headers(write(tmp_path / "s", [enhanced(images, builders.ENHANCED_MR)])))

    assert texts(parts) == [
        "6 images with b-value 0 s/mm2",
        "6 images with b-value 1000 s/mm2, diffusion direction 0\\1\\0",
        "6 images with b-value 1000 s/mm2, diffusion direction 1\\0\\0",
    ]
    found = chosen(tmp_path / "c", [enhanced(images, builders.ENHANCED_MR)], volumes={"b_value": {"max": 50}})
    assert grey(found) == [1]


def test_frame_types_of_a_mixed_object_are_judged_frame_by_frame(tmp_path: Path) -> None:
    def typed(value: int, kind: str, place: Place) -> list[One]:
        own = {"MRImageFrameTypeSequence": {"FrameType": ["DERIVED", "PRIMARY", "DIXON", kind]}}
        return frames(level(value), place, lambda _: own)

    images = [*typed(1, "WATER", PLACE), *typed(2, "FAT", PLACE)]
    dataset = enhanced(images, builders.ENHANCED_MR, ImageType=["DERIVED", "PRIMARY", "DIXON", "MIXED"])

    found = chosen(tmp_path, [dataset], volumes={"image_type": {"accept": ["WATER"]}})

    assert grey(found) == [1]
    assert found.header.ImageType[3] == "WATER"


def test_stacks_of_unlike_direction_in_one_enhanced_object_are_told_apart(tmp_path: Path) -> None:
    images = [*frames(level(1, 3), Place()), *frames(level(2, 5), SAGITTAL)]
    dataset = enhanced(images)

    found = chosen(tmp_path, [dataset], orientation=("sagittal",))

    assert grey(found) == [2]
    assert [frame.number for frame in load_frames(found)] == [4, 5, 6, 7, 8]


def load_frames(found: Chosen) -> tuple[Any, ...]:
    return assemble(found.header, found.stack).frames


def test_a_dimension_that_we_have_no_word_for_still_tells_frames_apart(tmp_path: Path) -> None:
    def sorted_by(value: int) -> list[One]:
        return frames(
            level(value), PLACE, lambda index: {"FrameContentSequence": {"DimensionIndexValues": [value, index + 1]}}
        )

    dataset = enhanced([*sorted_by(1), *sorted_by(2)], builders.ENHANCED_MR)
    dataset.DimensionIndexSequence[0].DimensionIndexPointer = Tag("SpectrallySelectedSuppression")

    parts = split(read_headers(write(tmp_path, [dataset])))

    assert texts(parts) == [
        "6 images with SpectrallySelectedSuppression 1", "6 images with SpectrallySelectedSuppression 2",
    ]  # fmt: skip


def test_time_points_may_come_as_an_enhanced_object_each(tmp_path: Path) -> None:
    objects = renumbered([enhanced(timed(level(time), time), builders.ENHANCED_MR) for time in (1, 2)])

    found = chosen(tmp_path, objects, volumes={"of_several": "first"})

    assert {frame.sop_instance_uid for frame in load_frames(found)} == {f"{builders.ROOT}.5.1"}


def test_a_series_that_nobody_chooses_from_is_loaded_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(Irregular, match="another image already lies"):
        load(write(tmp_path, echoes(2.46, 4.92)))


def test_a_stack_may_come_in_several_enhanced_objects(tmp_path: Path) -> None:
    values = np.random.default_rng(5).integers(0, 900, (8, 4, 5)).astype(np.int16)
    images = frames(values, PLACE)
    objects = renumbered([enhanced(images[:5], builders.ENHANCED_MR), enhanced(images[5:], builders.ENHANCED_MR)])

    found = chosen(tmp_path, objects)

    volume = assemble(found.header, found.stack)
    np.testing.assert_array_equal(volume.voxels, values)
    ends = [(frame.sop_instance_uid[-1], frame.number) for frame in volume.frames]
    assert ends == [*(("1", n) for n in range(1, 6)), *(("2", n) for n in range(1, 4))]
