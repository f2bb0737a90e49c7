"""Decodes the pixels of one object, by a decoder that is chosen here, and brings them to real-world values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
from inference.imaging.irregular import NOT_SUPPORTED, Irregular

Pixels = npt.NDArray[Any]

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
        dataset = pydicom.dcmread(path)
        if dataset.get("SamplesPerPixel", 1) != 1 or "PixelData" not in dataset:
            raise Irregular(NOT_SUPPORTED, f"Image {dataset.get('SOPInstanceUID')} has no grey-scale pixels.")
        for index, pixels in _decoded(dataset, indices):
            yield index, pixels, _padding(dataset, pixels)


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
