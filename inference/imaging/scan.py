"""Finds a few attributes and the pixels of a plain Part 10 file, faster than by parsing all of it.

A CT of 600 slices is 1200 headers. What is not quite plain (big endian, deflated, sequences that are wanted, tags out
of order, a header that does not fit the first bytes) is left to pydicom: nothing is decided here that it would not.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydicom.charset import convert_encodings
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

BEGINNING = 1 << 16  #: bytes in which a header must end
UNDEFINED = 0xFFFFFFFF
_META = 132
_CHARACTER_SET, _SYNTAX = 0x00080005, 0x00020010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_VRS = _LONG | frozenset(
    (b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
     b"ST", b"TM", b"UI", b"UL", b"US")
)  # fmt: skip
_HEAD, _SHORT, _WIDE = struct.Struct("<HH"), struct.Struct("<H"), struct.Struct("<I")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scanned:
    """What was looked for."""

    dataset: Dataset
    syntax: UID
    pixels: int | None  #: where the value of PixelData begins in the file; None where there is no such element
    length: int  #: of it as stated, bytes


class _Odd(Exception):
    """The file is not plain."""


def tags_of(keywords: Iterable[str]) -> frozenset[int]:
    """The tags of attributes, for ``scan``."""
    return frozenset(tag for keyword in keywords if (tag := tag_for_keyword(keyword)) is not None)


def scan(path: Path, wanted: frozenset[int]) -> Scanned | None:
    """The wanted attributes that stand before the pixels; None where pydicom has to read the file."""
    with path.open("rb", buffering=0) as file:
        start = file.read(BEGINNING)
    try:
        return _scan(start, wanted)
    except (_Odd, struct.error, IndexError):
        return None


def _scan(data: bytes, wanted: frozenset[int]) -> Scanned:
    if data[128:132] != b"DICM":
        raise _Odd
    at, syntax = _syntax(data)
    implicit = syntax == ImplicitVRLittleEndian
    found: dict[BaseTag, RawDataElement] = {}
    last = 0
    while True:
        if at >= len(data):
            raise _Odd  # also a header without pixels: pydicom says whether the file ends here or is cut off
        tag, vr, length, value = _element(data, at, implicit=implicit)
        if tag <= last:
            raise _Odd
        last = tag
        if tag >= _PIXELS[0]:
            pixels = value if tag == _PIXELS[2] else None
            return Scanned(dataset=_dataset(found, implicit=implicit), syntax=syntax, pixels=pixels, length=length)
        if tag in wanted or tag == _CHARACTER_SET:
            if vr in (b"SQ", b"UN") or length == UNDEFINED or value + length > len(data):
                raise _Odd
            found[BaseTag(tag)] = RawDataElement(
                BaseTag(tag), None if implicit else vr.decode("ascii"), length, data[value : value + length], value,
                implicit, True,
            )  # fmt: skip
        at = value + length if length != UNDEFINED else _end_of_items(data, value, vr, implicit=implicit)


def _syntax(data: bytes) -> tuple[int, UID]:
    """Where the data set begins, and how it is written."""
    at, syntax = _META, UID("")
    while _HEAD.unpack_from(data, at)[0] == 2:
        tag, _, length, value = _element(data, at, implicit=False)
        if tag == _SYNTAX:
            syntax = UID(data[value : value + length].rstrip(b"\0 ").decode("ascii", "replace"))
        at = value + length
    known = syntax == ImplicitVRLittleEndian or syntax.is_transfer_syntax
    if not known or syntax.is_private or syntax in (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian):
        raise _Odd
    return at, syntax


def _element(data: bytes, at: int, *, implicit: bool) -> tuple[int, bytes, int, int]:
    """Tag, value representation, length, and where the value begins."""
    group, element = _HEAD.unpack_from(data, at)
    if implicit:
        return group << 16 | element, b"", _WIDE.unpack_from(data, at + 4)[0], at + 8
    vr = data[at + 4 : at + 6]
    if vr in _LONG:
        return group << 16 | element, vr, _WIDE.unpack_from(data, at + 8)[0], at + 12
    if vr not in _VRS:
        raise _Odd
    return group << 16 | element, vr, _SHORT.unpack_from(data, at + 6)[0], at + 8


def _end_of_items(data: bytes, at: int, vr: bytes, *, implicit: bool, depth: int = 0) -> int:
    """Where a sequence of undefined length ends."""
    if depth > 16 or vr == b"UN":
        raise _Odd
    while True:
        tag, length = _delimiter(data, at)
        at += 8
        if tag == _SEQUENCE_END:
            return at
        if tag != _ITEM:
            raise _Odd
        at = at + length if length != UNDEFINED else _end_of_item(data, at, implicit=implicit, depth=depth)


def _end_of_item(data: bytes, at: int, *, implicit: bool, depth: int) -> int:
    while True:
        if _delimiter(data, at)[0] == _ITEM_END:
            return at + 8
        _, vr, length, value = _element(data, at, implicit=implicit)
        if length == UNDEFINED:
            at = _end_of_items(data, value, vr, implicit=implicit, depth=depth + 1)
        else:
            at = value + length


def _delimiter(data: bytes, at: int) -> tuple[int, int]:
    group, element = _HEAD.unpack_from(data, at)
    return group << 16 | element, _WIDE.unpack_from(data, at + 4)[0]


def _dataset(found: dict[BaseTag, RawDataElement], *, implicit: bool) -> Dataset:
    made = Dataset(found)  # type: ignore[arg-type]
    encoding = convert_encodings(made.get("SpecificCharacterSet") or "ISO_IR 6")
    made.set_original_encoding(implicit, True, encoding)
    return made


def numbers_of(dataset: Dataset, keyword: str) -> tuple[float, ...] | None:
    """The numbers of a DS or US attribute, without making an element of it; None where it is absent or empty.

    Raises as pydicom does where they are no numbers.
    """
    raw = dataset.get_item(keyword) if keyword in dataset else None
    if isinstance(raw, RawDataElement) and isinstance(raw.value, bytes) and raw.VR in ("DS", "US"):
        if raw.VR == "US":
            return tuple(map(float, struct.unpack(f"<{len(raw.value) // 2}H", raw.value))) or None
        text = raw.value.strip(b" \0")
        return tuple(map(float, text.split(b"\\"))) if text else None
    value = dataset.get(keyword)
    if value is None or value == "" or (hasattr(value, "__len__") and len(value) == 0):
        return None
    return tuple(map(float, value)) if isinstance(value, MultiValue | list | tuple) else (float(value),)


def is_native(syntax: UID) -> bool:
    """Whether pixels lie in the file as they are, little endian."""
    return syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
