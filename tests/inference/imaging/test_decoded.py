"""Pixels that were decoded before a run asked for them are those that the run would have decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from inference.imaging.decoded import decode
from inference.imaging.irregular import Irregular
from inference.imaging.native import place_of
from inference.imaging.volume import load
from storage.facts.errors import Transient
from tests import builders
from tests.inference.series import edited, series_of, write

SYNTAXES = (RLELossless, JPEGLSLossless, JPEG2000Lossless)


def packed(folder: Path, datasets: list, syntax: str = JPEGLSLossless) -> list[Path]:  # type: ignore[type-arg]
    """The objects, compressed."""
    for dataset in datasets:
        dataset.compress(syntax, generate_instance_uid=False)
    return write(folder, datasets)


def spoil(path: Path) -> None:
    """Make the compressed pixels unreadable, whatever decodes them."""
    content = path.read_bytes()
    at = content.index(bytes.fromhex("e07f1000"))
    path.write_bytes(content[: at + 12] + bytes(len(content) - at - 12))


@settings(deadline=None, max_examples=40)
@given(
    bits=st.sampled_from([8, 12, 16]), signed=st.booleans(), syntax=st.sampled_from(SYNTAXES),
    sop_class=st.sampled_from([builders.CT, builders.MR]), slope=st.sampled_from([1, 0.5]), padded=st.booleans(),
    part=st.integers(0, 3), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_a_volume_is_the_same_whatever_was_decoded_ahead(
    tmp_path_factory: pytest.TempPathFactory, bits: int, signed: bool, syntax: str, sop_class: str, slope: float,
    padded: bool, part: int, seed: int,
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("series")
    least = -(1 << (bits - 1)) if signed else 0
    coarse = np.random.default_rng(seed).integers(least, least + (1 << bits), (3, 6, 8))
    drawn = np.kron(coarse, np.ones((1, 8, 8), np.int64))  # the encoders cannot make noise smaller
    stored = drawn.astype(np.uint16).view(np.int16)

    def describe(_number: int, dataset) -> None:  # type: ignore[no-untyped-def]
        dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = int(signed), bits, bits - 1
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, -24
        if bits == 8:
            dataset.BitsAllocated = 8
            dataset.PixelData = drawn[_number].astype(np.uint8).tobytes()
        if padded:
            dataset.PixelPaddingValue = int(drawn.min())

    paths = packed(folder / "series", edited(series_of(stored, 1.0, 1.0, sop_class=sop_class), describe), syntax)
    plain = load(paths)
    for path in paths[:part]:
        assert decode(path, folder / "decoded") == 48 * 64 * (1 if bits == 8 else 2)
    ahead = load(paths, folder / "decoded")

    assert ahead.voxels.dtype == plain.voxels.dtype
    np.testing.assert_array_equal(ahead.voxels, plain.voxels)
    for path in paths[:part]:
        spoil(path)
    np.testing.assert_array_equal(load(paths, folder / "decoded").voxels, plain.voxels)
    assert ahead.frames == plain.frames


def test_frames_of_one_object_are_decoded_ahead(tmp_path: Path) -> None:
    dataset = builders.enhanced()
    paths = packed(tmp_path / "series", [dataset])
    plain = load(paths)
    assert decode(paths[0], tmp_path / "decoded") == plain.voxels.shape[0] * 40 * 48 * 2
    spoil(paths[0])

    np.testing.assert_array_equal(load(paths, tmp_path / "decoded").voxels, plain.voxels)
    with pytest.raises(Irregular):
        load(paths)


def test_a_file_of_another_size_is_not_believed(tmp_path: Path) -> None:
    paths = packed(tmp_path / "series", builders.slices(3))
    plain = load(paths)
    for path in paths:
        decode(path, tmp_path / "decoded")
    cut = place_of(tmp_path / "decoded", paths[1])
    cut.write_bytes(cut.read_bytes()[:-1])

    np.testing.assert_array_equal(load(paths, tmp_path / "decoded").voxels, plain.voxels)


def test_what_has_no_compressed_grey_pixels_is_left_to_the_run(tmp_path: Path) -> None:
    native = write(tmp_path / "native", builders.slices(1))[0]
    damaged = packed(tmp_path / "damaged", builders.slices(1))[0]
    spoil(damaged)
    for path in (native, damaged):
        with pytest.raises(Irregular):
            decode(path, tmp_path / "decoded")
    with pytest.raises(Transient):
        decode(tmp_path / "damaged" / "none.dcm", tmp_path / "decoded")

    assert [path for path in (tmp_path / "decoded").rglob("*") if path.is_file()] == []


def test_an_object_is_decoded_by_one_of_two_and_once(tmp_path: Path) -> None:
    [path] = packed(tmp_path / "series", builders.slices(1))
    part = place_of(tmp_path / "decoded", path).with_suffix(".part")
    part.parent.mkdir(parents=True)
    part.touch()
    assert decode(path, tmp_path / "decoded") == 0
    part.unlink()
    size = decode(path, tmp_path / "decoded")
    spoil(path)

    assert decode(path, tmp_path / "decoded") == size > 0


def test_a_disk_that_takes_nothing_is_said_so(tmp_path: Path) -> None:
    [path] = packed(tmp_path / "series", builders.slices(1))
    (tmp_path / "decoded").write_text("a file where a folder should be", encoding="utf-8")

    with pytest.raises(Transient, match="takes no decoded pixels"):
        decode(path, tmp_path / "decoded")
