"""Decodes the pixels of one object, by a decoder that is chosen here, and brings them to real-world values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from inference.imaging.border import reading
from inference.imaging.header import value_of
from inference.imaging.irregular import NOT_SUPPORTED, Irregular
from inference.imaging.scan import Scanned, is_native, numbers_of, scan, tags_of

Pixels = npt.NDArray[Any]
_SHAPE = ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel", "PixelRepresentation")
_DESCRIBED = tags_of((*_SHAPE, "NumberOfFrames", "PixelPaddingValue", "PixelPaddingRangeLimit"))

#: pydicom's own order of decoders is slow for RLE and inexact for JPEG, so each transfer syntax names its one.
_PLUGINS: dict[UID, str] = {
    RLELossless: "pylibjpeg",  # pylibjpeg-rle
    JPEGBaseline8Bit: "pylibjpeg",  # pylibjpeg-libjpeg
    JPEGExtended12Bit: "pylibjpeg",
    JPEGLossless: "pylibjpeg",
    JPEGLosslessSV1: "pylibjpeg",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    JPEG2000Lossless: "pylibjpeg",  # pylibjpeg-openjpeg
    JPEG2000: "pylibjpeg",
    HTJ2K: "pylibjpeg",
    HTJ2KLossless: "pylibjpeg",
    HTJ2KLosslessRPCL: "pylibjpeg",
}


def stored_frames(path: Path, indices: list[int]) -> Iterator[tuple[int, Pixels, Pixels | None]]:
    """Stored values of some frames (0-based) of one object, each with the mask of its padding, if it has any.

    Raises Irregular where pixels are missing, in colour or undecodable, Transient where the file is gone.
    """
    with reading(path, "the pixels"):
        scanned = scan(path, _DESCRIBED)
        plain = None if scanned is None else _native(path, scanned)
        if scanned is not None and plain is not None:
            for index in indices:
                pixels = _without_overlay(scanned.dataset, plain[index])
                yield index, pixels, _padding(scanned.dataset, pixels)
            return
        dataset = pydicom.dcmread(path)
        if dataset.get("SamplesPerPixel", 1) != 1 or "PixelData" not in dataset:
            raise Irregular(NOT_SUPPORTED, f"Image {dataset.get('SOPInstanceUID')} has no grey-scale pixels.")
        for index, pixels in _decoded(dataset, indices):
            yield index, pixels, _padding(dataset, pixels)


def _native(path: Path, scanned: Scanned) -> Pixels | None:
    """All frames of an uncompressed object; None where they have to be left to pydicom."""
    header = scanned.dataset
    given = [numbers_of(header, keyword) for keyword in _SHAPE]
    if scanned.pixels is None or not is_native(scanned.syntax) or any(one is None or len(one) != 1 for one in given):
        return None
    rows, columns, allocated, stored, high, samples, signed = (int(one[0]) for one in given if one)
    plain = allocated in (8, 16) and 0 < stored <= high + 1 <= allocated and (samples, signed >> 1) == (1, 0)
    frames = int(value_of(header, "NumberOfFrames") or 1)
    count = frames * rows * columns
    if not plain or count < 1 or count * allocated // 8 > scanned.length:
        return None
    kind = np.dtype(f"<{'i' if signed else 'u'}{allocated // 8}")
    if frames > 1:
        fits = path.stat().st_size >= scanned.pixels + count * kind.itemsize
        return np.memmap(path, kind, "r", offset=scanned.pixels, shape=(frames, rows, columns)) if fits else None
    pixels = np.fromfile(path, kind, count, offset=scanned.pixels)
    return pixels.reshape(1, rows, columns) if pixels.size == count else None


def _decoded(dataset: Dataset, indices: list[int]) -> Iterator[tuple[int, Pixels]]:
    syntax = dataset.file_meta.TransferSyntaxUID
    decoder = get_decoder(syntax)
    frames = decoder.iter_array(dataset, indices=indices, decoding_plugin=_PLUGINS.get(syntax, ""))
    for index, (pixels, _) in zip(indices, frames, strict=True):
        if pixels.shape != (dataset.Rows, dataset.Columns):
            raise ValueError("the decoded matrix is not the stated one")
        yield index, pixels if syntax.is_compressed else _without_overlay(dataset, pixels)


def _without_overlay(dataset: Dataset, pixels: Pixels) -> Pixels:
    """Drop what older scanners keep in the bits that the image does not use (retired overlays, PS3.5 8.1.1)."""
    allocated, stored, high = int(dataset.BitsAllocated), int(dataset.BitsStored), int(dataset.HighBit)
    if stored == allocated:
        return pixels
    return (pixels << (allocated - 1 - high)) >> (allocated - stored)


def _padding(dataset: Dataset, pixels: Pixels) -> Pixels | None:
    """Which stored values are padding (PS3.3 C.7.5.1.1.2), or None where none is declared."""
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return None
    last = dataset.get("PixelPaddingRangeLimit")
    bounds = [_signed(dataset, value) for value in (first, first if last is None else last)]
    return (pixels >= min(bounds)) & (pixels <= max(bounds))


def _signed(dataset: Dataset, value: Any) -> int:
    """Some writers give signed padding as an unsigned number."""
    number, bits = int(value), int(dataset.BitsAllocated)
    return number - (1 << bits) if dataset.PixelRepresentation == 1 and number >= 1 << (bits - 1) else number
