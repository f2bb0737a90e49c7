"""Native (uncompressed) pixels: where they lie in a file and how they are stored (PS3.5 8.1, A.4).

Those of a compressed object may lie in a file of their own, decoded before a run asked for them: see ``decoded``.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from inference.imaging.scan import Source, numbers_of, pixels_at, scan, tags_of, text_of

Pixels = npt.NDArray[Any]
#: What describes pixels, native or not.
SHAPE = ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel", "PixelRepresentation")
_PLAIN = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
PADDING = ("PixelPaddingValue", "PixelPaddingRangeLimit")
COLOUR = "PhotometricInterpretation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bits:
    """What part of what is allocated for a pixel is the pixel."""

    allocated: int
    stored: int
    high: int
    signed: bool

    def only(self, pixels: Pixels) -> Pixels:
        """Without what older scanners keep in the bits that the image does not use (retired overlays, PS3.5 8.1.1)."""
        if self.stored == self.allocated:
            return pixels
        return np.asarray((pixels << (self.allocated - 1 - self.high)) >> (self.allocated - self.stored))

    def holds(self, low: int, high: int) -> bool:
        """Whether values in that range have nothing in the bits that the image does not use."""
        if self.high != self.stored - 1:
            return self.stored == self.allocated
        first = -(1 << (self.stored - 1)) if self.signed else 0
        return first <= low and high < first + (1 << self.stored)

    def number(self, stated: float) -> int:
        """A stored value that a header states: some writers give signed ones as unsigned numbers.

        These have 16 bits (PS3.5 6.2, US), which pixels of 8 bits need not have.
        """
        number = int(stated)
        for bits in (16, self.allocated) if self.signed and self.allocated <= 16 else ():
            number -= 1 << bits if number >= 1 << (bits - 1) else 0
        return number


@dataclass(frozen=True, slots=True, kw_only=True)
class Native:
    """The pixels of one object in its file."""

    offset: int  #: of the first frame, bytes
    rows: int
    columns: int
    bits: Bits
    padding: tuple[int, int] | None  #: least and greatest stored value that is padding (PS3.3 C.7.5.1.1.2)
    file: Path | None = None  #: that holds them, where it is not the object's own

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored values."""
        return np.dtype(f"<{'i' if self.bits.signed else 'u'}{self.bits.allocated // 8}")

    def read(self, path: Path, index: int, into: Pixels) -> bool:
        """Fill a contiguous array with one frame (0-based); False where the file does not hold it or is not there.

        Free of Python's lock while it copies.
        """
        wanted, done = into.data.cast("B"), 0
        at = self.offset + index * len(wanted)
        try:
            file = os.open(self.file or path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            while done < len(wanted):
                count = os.preadv(file, [wanted[done:]], at + done)
                if not count:
                    return False
                done += count
        except OSError:
            return False
        finally:
            os.close(file)
        return True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Read:
    """What was read of one object."""

    header: Source
    native: Native | None  #: None where the pixels have to be left to pydicom


def read_object(path: Path, keywords: tuple[str, ...], decoded: Path | None = None) -> Read:
    """Some attributes of one object, and where its pixels lie. Raises as pydicom does.

    ``decoded``: the folder of pixels that were decoded ahead.
    """
    scanned = scan(path, tags_of(keywords))
    if scanned is not None:
        native = _native(scanned, scanned.syntax, scanned.pixels, scanned.length)
        return Read(header=scanned, native=native or _decoded(scanned, path, decoded))
    with path.open("rb") as file:
        dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(keywords))
        syntax = UID(getattr(dataset.file_meta, "TransferSyntaxUID", None) or "")
        implicit = syntax == ImplicitVRLittleEndian
        start, length = pixels_at(file, implicit=implicit) if implicit or syntax in _PLAIN else (None, 0)
    native = _native(dataset, syntax, start, length)
    return Read(header=dataset, native=native or _decoded(dataset, path, decoded))


def _native(source: Source, syntax: UID, pixels: int | None, length: int) -> Native | None:
    """``pixels``: where the value of PixelData begins, ``length`` what is stated of it, both in bytes."""
    shape = None if pixels is None or syntax not in _PLAIN else _shape(source)
    if pixels is None or shape is None or shape.bytes > length:
        return None
    return Native(offset=pixels, rows=shape.rows, columns=shape.columns, bits=shape.bits, padding=shape.padding)


def place_of(decoded: Path, path: Path) -> Path:
    """Where the decoded pixels of an object lie: all frames one after another, as a native object would hold them.

    Objects of a series have a folder to themselves.
    """
    return decoded / path.parent.name / f"{path.name}.pixels"


def _decoded(source: Source, path: Path, decoded: Path | None) -> Native | None:
    """The pixels of a compressed object where they were decoded ahead, whole and as its header describes them."""
    if decoded is None:
        return None
    shape, file = _shape(source), place_of(decoded, path)
    try:
        if shape is None or file.stat().st_size != shape.bytes:
            return None
    except OSError:
        return None
    given = shape.bits.allocated  # decoders leave nothing beside the pixel
    bits = Bits(allocated=given, stored=given, high=given - 1, signed=shape.bits.signed)
    return Native(offset=0, rows=shape.rows, columns=shape.columns, bits=bits, padding=shape.padding, file=file)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """What a header says of grey-scale pixels."""

    bytes: int
    rows: int
    columns: int
    bits: Bits
    padding: tuple[int, int] | None


def is_grey(source: Source) -> bool:
    """Whether its stored values are grey ones, as far as it says: those of PALETTE COLOR are places in a table.

    Raises ValueError where it says no plain text.
    """
    return text_of(source, COLOUR) in ("", "MONOCHROME1", "MONOCHROME2")


def _shape(source: Source) -> _Shape | None:
    try:
        if not is_grey(source):
            return None
        given = [numbers_of(source, keyword) for keyword in SHAPE]
        frames = numbers_of(source, "NumberOfFrames") or (1.0,)
        padding = [numbers_of(source, keyword) for keyword in PADDING]
    except (ValueError, TypeError, struct.error):
        return None
    if any(one is None or len(one) != 1 for one in (*given, frames)):
        return None
    rows, columns, allocated, stored, high, samples, signed = (int(one[0]) for one in given if one)
    plain = allocated in (8, 16) and 0 < stored <= high + 1 <= allocated and (samples, signed >> 1) == (1, 0)
    size = int(frames[0]) * rows * columns * allocated // 8
    if not plain or size <= 0:
        return None
    bits = Bits(allocated=allocated, stored=stored, high=high, signed=bool(signed))
    return _Shape(bytes=size, rows=rows, columns=columns, bits=bits, padding=padding_of(bits, *padding))


def padding_of(bits: Bits, value: tuple[float, ...] | None, limit: tuple[float, ...] | None) -> tuple[int, int] | None:
    """Least and greatest stored value that is padding, or None where none is declared."""
    if not value:
        return None
    ends = sorted(bits.number(number) for number in (value[0], (limit or value)[0]))
    return ends[0], ends[1]
