"""Pixels lie anywhere in their words, beside anything: what is read is what they mean, however the file is written."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from inference.imaging.decoded import decode
from inference.imaging.irregular import Irregular
from inference.imaging.volume import AIR_HU, load
from tests import builders
from tests.inference.imaging.making import Place, classic, frames
from tests.inference.series import write

Words = npt.NDArray[np.uint64]
PLANES, ROWS, COLUMNS = 3, 5, 7
SYNTAXES = (
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless,
)  # fmt: skip


def run_length(words: Words, size: int) -> bytes:
    """One frame by PS3.5 G, in literal runs alone: a segment a byte of the words, the most significant first."""
    planes = words.astype(f">u{size}").tobytes()
    segments = []
    for byte in range(size):
        given = planes[byte::size]
        runs = [given[start : start + 128] for start in range(0, len(given), 128)]
        segment = b"".join(bytes([len(run) - 1]) + run for run in runs)
        segments.append(segment + b"\0" * (len(segment) % 2))
    starts = [64 + sum(map(len, segments[:number])) for number in range(size)]
    return struct.pack("<16L", size, *starts, *[0] * (15 - size)) + b"".join(segments)


def store(dataset: Dataset, words: Words, size: int, syntax: str) -> None:
    """Put words of so many bytes in, as the transfer syntax has them."""
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax == RLELossless:
        dataset.PixelData = encapsulate([run_length(words, size)])
        dataset["PixelData"].is_undefined_length = True
        return
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    content = words.astype(f"{order}u{size}").tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OB" if size == 1 else "OW"


@settings(deadline=None, max_examples=120)
@given(
    size=st.sampled_from([1, 2, 2, 4]), unused=st.integers(0, 6), above=st.integers(0, 6), signed=st.booleans(),
    syntax=st.sampled_from(SYNTAXES), sop_class=st.sampled_from([builders.CT, builders.MR]),
    rescale=st.sampled_from([(1, -24), (1, 1000), (0.5, 3.25), (-2, 7)]), is_ahead=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_what_lies_beside_a_pixel_in_its_word_is_not_read(
    tmp_path_factory: pytest.TempPathFactory, size: int, unused: int, above: int, signed: bool, syntax: str,
    sop_class: str, rescale: tuple[float, float], is_ahead: bool, seed: int,
) -> None:  # fmt: skip
    chance = np.random.default_rng(seed)
    bits, above = 8 * size - unused, min(above, unused)
    below = unused - above
    least = -(1 << (bits - 1)) if signed else 0
    values = chance.integers(max(least, -30000), min(least + (1 << bits), 30000), (PLANES, ROWS, COLUMNS))
    mask = np.uint64(((1 << bits) - 1) << below)
    beside = chance.integers(0, 1 << 8 * size, values.shape, np.uint64) & ~mask
    words = (values.astype(np.uint64) << np.uint64(below)) & mask | beside
    datasets = classic(frames(np.zeros(values.shape, np.int16), Place()), sop_class)
    for dataset, plane in zip(datasets, words, strict=True):
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * size, bits, bits + below - 1
        dataset.PixelRepresentation = int(signed)
        dataset.RescaleSlope, dataset.RescaleIntercept = rescale
        store(dataset, plane, size, syntax)
    folder = tmp_path_factory.mktemp("series")
    paths = write(folder / "series", datasets)
    if is_ahead and syntax == RLELossless:
        decode(paths[1], folder / "decoded")

    voxels = load(paths, folder / "decoded").voxels

    expected = values * rescale[0] + rescale[1]
    np.testing.assert_array_equal(voxels, np.maximum(expected, AIR_HU) if sop_class == builders.CT else expected)


@pytest.mark.parametrize(("size", "values"), [(1, (-128, -100, 100)), (2, (-2000, -1999, 2000))])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless])
def test_padding_is_found_where_a_negative_one_is_stated_as_an_unsigned_number(
    tmp_path: Path, size: int, values: tuple[int, ...], syntax: str
) -> None:
    datasets = classic(frames(np.zeros((PLANES, 1, 3), np.int16), Place()))
    for dataset in datasets:
        dataset.BitsAllocated = dataset.BitsStored = 8 * size
        dataset.HighBit, dataset.PixelRepresentation = 8 * size - 1, 1
        dataset.add_new("PixelPaddingValue", "US", values[0] % (1 << 16))
        store(dataset, np.array([values]).astype(np.uint64), size, syntax)

    voxels = load(write(tmp_path, datasets)).voxels

    np.testing.assert_array_equal(voxels[0, 0], [AIR_HU, max(values[1], AIR_HU), values[2]])


def test_values_beyond_all_metal_saturate_at_the_end_where_they_lie(tmp_path: Path) -> None:
    datasets = classic(frames(np.zeros((PLANES, 1, 3), np.int16), Place()))
    for dataset in datasets:
        dataset.BitsAllocated = dataset.BitsStored = 32
        dataset.HighBit, dataset.PixelRepresentation = 31, 0
        store(dataset, np.array([[2**32 - 1, 40000, 7]], np.uint64), 4, ExplicitVRLittleEndian)

    assert load(write(tmp_path, datasets)).voxels[0, 0].tolist() == [32767, 32767, 7]


@pytest.mark.parametrize(("stored", "high"), [(6, 15), (6, 4), (6, 8), (9, 7), (0, 7)])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_pixels_that_would_lie_outside_of_their_word_are_refused(
    tmp_path: Path, syntax: str, stored: int, high: int
) -> None:
    datasets = classic(frames(np.zeros((PLANES, 2, 3), np.int16), Place()))
    for dataset in datasets:
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, stored, high, 0
        store(dataset, np.array([[1, 2, 3], [4, 5, 6]], np.uint64), 1, syntax)

    with pytest.raises(Irregular, match="cannot be read"):
        load(write(tmp_path, datasets))


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_places_in_a_table_of_colours_are_no_grey_values(tmp_path: Path, syntax: str) -> None:
    datasets = classic(frames(np.zeros((PLANES, 2, 3), np.int16), Place()))
    for dataset in datasets:
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
        dataset.PhotometricInterpretation = "PALETTE COLOR"
        store(dataset, np.array([[1, 2, 3], [4, 5, 6]], np.uint64), 1, syntax)
    paths = write(tmp_path, datasets)

    with pytest.raises(Irregular, match="no grey-scale pixels"):
        load(paths)
    if syntax == RLELossless:
        with pytest.raises(Irregular, match="grey-scale pixels"):
            decode(paths[0], tmp_path / "decoded")


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_values_that_a_table_gives_their_meaning_are_refused(tmp_path: Path, syntax: str) -> None:
    datasets = classic(frames(np.zeros((PLANES, 2, 3), np.int16), Place()))
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [3, 0, 16], "HU"
    table.add_new("LUTData", "US", [0, 500, 40000])
    for dataset in datasets:
        dataset.PixelRepresentation = 0
        dataset.ModalityLUTSequence = [table]
        store(dataset, np.array([[0, 1, 2], [2, 1, 0]], np.uint64), 2, syntax)

    with pytest.raises(Irregular, match="Modality LUT"):
        load(write(tmp_path, datasets))


def test_a_number_of_odd_length_makes_an_object_unreadable_not_the_run(tmp_path: Path) -> None:
    paths = write(tmp_path, classic(frames(np.zeros((PLANES, 2, 3), np.int16), Place())))
    whole = paths[0].read_bytes()
    at = whole.index(b"\x28\x00\x10\x00US\x02\x00")
    paths[0].write_bytes(whole[: at + 6] + b"\x03\x00\x02\x00\x00" + whole[at + 10 :])

    with pytest.raises(Irregular, match="cannot be read"):
        load(paths)
