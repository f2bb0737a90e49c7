"""Decodes the pixels of one object, by a decoder that is chosen here, and brings them to real-world values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
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
from inference.imaging.native import COLOUR, PADDING, SHAPE, Bits, Native, is_grey, padding_of, read_object
from inference.imaging.scan import numbers_of

Pixels = npt.NDArray[Any]
_DESCRIBED = (*SHAPE, *PADDING, COLOUR, "NumberOfFrames")

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


def stored_frames(
    path: Path, indices: list[int], decoded: Path | None = None
) -> Iterator[tuple[int, Pixels, Pixels | None]]:
    """Stored values of some frames (0-based) of one object, each with the mask of its padding, if it has any.

    ``decoded``: the folder of pixels that were decoded ahead. Raises Irregular where pixels are missing, in colour or
    undecodable, Transient where the file is gone.
    """
    with reading(path, "the pixels"):
        native = read_object(path, _DESCRIBED, decoded).native
        for number, index in enumerate(indices):
            pixels = None if native is None else _native(path, native, index)
            if pixels is None or native is None:
                yield from _decoded(path, indices[number:])
                return
            yield index, pixels, masked(pixels, native.padding)


def masked(pixels: Pixels, padding: tuple[int, int] | None) -> Pixels | None:
    """Which stored values lie in the range that is padding."""
    return None if padding is None else (pixels >= padding[0]) & (pixels <= padding[1])


def _native(path: Path, native: Native, index: int) -> Pixels | None:
    pixels = np.empty((native.rows, native.columns), native.dtype)
    return native.bits.only(pixels) if native.read(path, index, pixels) else None


def _decoded(path: Path, indices: list[int]) -> Iterator[tuple[int, Pixels, Pixels | None]]:
    dataset = pydicom.dcmread(path)
    if dataset.get("SamplesPerPixel", 1) != 1 or not is_grey(dataset) or "PixelData" not in dataset:
        raise Irregular(NOT_SUPPORTED, f"Image {dataset.get('SOPInstanceUID')} has no grey-scale pixels.")
    padding = padding_of(_bits(dataset), *(numbers_of(dataset, keyword) for keyword in PADDING))
    for index, pixels in zip(indices, _frames(dataset, indices), strict=True):
        yield index, pixels, masked(pixels, padding)


def compressed_frames(path: Path) -> Iterator[Pixels]:
    """The stored values of every frame of a compressed object, in order.

    Raises Irregular where they are not grey-scale, or not what the header describes, Transient where the file is gone.
    """
    with reading(path, "the pixels"):
        dataset = pydicom.dcmread(path)
        signed, allocated = dataset.PixelRepresentation == 1, int(dataset.BitsAllocated)
        is_plain = dataset.get("SamplesPerPixel", 1) == 1 and is_grey(dataset)
        if not is_plain or not dataset.file_meta.TransferSyntaxUID.is_compressed:
            raise Irregular(
                NOT_SUPPORTED, f"Image {dataset.get('SOPInstanceUID')} has no compressed grey-scale pixels."
            )
        for found in _frames(dataset, list(range(int(dataset.get("NumberOfFrames") or 1)))):
            if (found.dtype.kind == "i", found.itemsize * 8) != (signed, allocated):
                raise ValueError("the decoded values are not the stated ones")
            yield found


def _bits(dataset: pydicom.Dataset) -> Bits:
    allocated, stored, high = (int(dataset[keyword].value) for keyword in ("BitsAllocated", "BitsStored", "HighBit"))
    return Bits(allocated=allocated, stored=stored, high=high, signed=dataset.PixelRepresentation == 1)


def _frames(dataset: pydicom.Dataset, indices: list[int]) -> Iterator[Pixels]:
    """Stored values without what lies beside them in a word, which RLE keeps as it is; other codecs see values alone.

    pydicom takes the lowest bits of a word, wherever HighBit says that they are.
    """
    syntax, bits = dataset.file_meta.TransferSyntaxUID, _bits(dataset)
    is_word = not syntax.is_compressed or syntax == RLELossless
    if is_word and bits.stored != bits.allocated and not 0 < bits.stored <= bits.high + 1 <= bits.allocated:
        raise ValueError("a pixel does not lie within its word")
    options = {"correct_unused_bits": False} if is_word else {}
    plugin = _PLUGINS.get(syntax, "")
    for found, _ in get_decoder(syntax).iter_array(dataset, indices=indices, decoding_plugin=plugin, **options):
        if found.shape != (dataset.Rows, dataset.Columns):
            raise ValueError("the decoded matrix is not the stated one")
        yield bits.only(found) if is_word else found
