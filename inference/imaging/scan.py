"""Finds a few attributes and the pixels of a plain Part 10 file, faster than by parsing all of it.

A CT of 600 slices is 600 headers. What is not quite plain (big endian, deflated, sequences that are wanted, tags out
of order, a header that does not fit the first bytes) is left to pydicom: nothing is decided here that it would not.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import BinaryIO

from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

BEGINNING = 1 << 16  #: bytes in which a header must end
UNDEFINED = 0xFFFFFFFF
_META = 132
_CHARACTER_SET, _SYNTAX = 0x00080005, 0x00020010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_BRIEF = frozenset(
    (b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
     b"ST", b"TM", b"UI", b"UL", b"US")
)  # fmt: skip
_WHOLE = {b"US": "H", b"SS": "h", b"US or SS": "H"}
_UNREAD = (b"SQ", b"UN")
_HEAD, _WIDE = struct.Struct("<HH"), struct.Struct("<I")
_EXPLICIT, _IMPLICIT = struct.Struct("<HH2sH"), struct.Struct("<HHI")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scanned:
    """What was looked for."""

    elements: Mapping[int, tuple[bytes, int]]  #: value and where it begins in the file, by tag
    representations: Mapping[int, bytes]  #: value representation by tag; nothing where the file is implicit
    syntax: UID
    pixels: int | None  #: where the value of PixelData begins in the file; None where there is no such element
    length: int  #: of it as stated, bytes

    def dataset(self) -> Dataset:
        """The same as pydicom gives it, for what is not a number or a plain text."""
        implicit = self.syntax == ImplicitVRLittleEndian
        found = {}
        for tag, (value, at) in self.elements.items():
            vr = None if implicit else self.representations[tag].decode("ascii")
            found[BaseTag(tag)] = RawDataElement(BaseTag(tag), vr, len(value), value, at, implicit, True)
        made = Dataset(found)  # type: ignore[arg-type]
        encoding = convert_encodings(made.get("SpecificCharacterSet") or "ISO_IR 6")
        made.set_original_encoding(implicit, True, encoding)
        return made


Source = Dataset | Scanned  #: the header of one object


class _Odd(Exception):
    """The file is not plain."""


@cache
def tags_of(keywords: tuple[str, ...]) -> frozenset[int]:
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


def pixels_at(file: BinaryIO, *, implicit: bool) -> tuple[int | None, int]:
    """Where PixelData begins in a little endian file that pydicom has read up to there, and its length as stated."""
    at = file.tell()
    try:
        tag, _, length, value = _element(file.read(12), 0, implicit)
    except (_Odd, struct.error):
        return None, 0
    return (at + value, length) if tag == _PIXELS[2] else (None, 0)


def _scan(data: bytes, wanted: frozenset[int]) -> Scanned:
    if data[128:132] != b"DICM":
        raise _Odd
    at, syntax = _syntax(data)
    implicit = syntax == ImplicitVRLittleEndian
    elements: dict[int, tuple[bytes, int]] = {}
    representations: dict[int, bytes] = {}
    last, end, head = 0, len(data), _EXPLICIT.unpack_from
    while at < end:  # a header that ends without pixels is odd: pydicom says whether the file ends here or is cut off
        if not implicit and data[at + 4 : at + 6] in _BRIEF:  # most elements: a call for each takes half of the time
            group, element, vr, length = head(data, at)
            tag, value = group << 16 | element, at + 8
        else:
            tag, vr, length, value = _element(data, at, implicit)
        if tag <= last:
            raise _Odd
        last = tag
        if tag >= _PIXELS[0]:
            pixels = value if tag == _PIXELS[2] else None
            return Scanned(
                elements=elements, representations=representations, syntax=syntax, pixels=pixels, length=length
            )
        at = value + length if length != UNDEFINED else _end_of_items(data, value, vr, implicit=implicit)
        if tag in wanted or tag == _CHARACTER_SET:
            if vr in _UNREAD or length == UNDEFINED or at > end or (implicit and _is_sequence(tag)):
                raise _Odd
            elements[tag] = data[value:at], value
            representations[tag] = vr
    raise _Odd


@cache
def _is_sequence(tag: int) -> bool:
    """Whether an attribute holds items, by the dictionary: an implicit file does not say."""
    return dictionary_VR(tag) == "SQ"


def _syntax(data: bytes) -> tuple[int, UID]:
    """Where the data set begins, and how it is written."""
    at, stated = _META, b""
    while _HEAD.unpack_from(data, at)[0] == 2:
        tag, _, length, value = _element(data, at, False)
        if tag == _SYNTAX:
            stated = data[value : value + length]
        at = value + length
    return at, _plain(stated)


@lru_cache(maxsize=64)
def _plain(stated: bytes) -> UID:
    """The transfer syntax, if it writes headers plainly."""
    syntax = UID(stated.rstrip(b"\0 ").decode("ascii", "replace"))
    known = syntax == ImplicitVRLittleEndian or syntax.is_transfer_syntax
    if not known or syntax.is_private or syntax in (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian):
        raise _Odd
    return syntax


def _element(data: bytes, at: int, implicit: bool) -> tuple[int, bytes, int, int]:
    """Tag, value representation, length, and where the value begins."""
    if implicit:
        group, element, length = _IMPLICIT.unpack_from(data, at)
        return group << 16 | element, b"", length, at + 8
    group, element, vr, length = _EXPLICIT.unpack_from(data, at)
    if vr in _LONG:
        return group << 16 | element, vr, _WIDE.unpack_from(data, at + 8)[0], at + 12
    if vr not in _BRIEF:
        raise _Odd
    return group << 16 | element, vr, length, at + 8


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
        _, vr, length, value = _element(data, at, implicit)
        if length == UNDEFINED:
            at = _end_of_items(data, value, vr, implicit=implicit, depth=depth + 1)
        else:
            at = value + length


def _delimiter(data: bytes, at: int) -> tuple[int, int]:
    group, element = _HEAD.unpack_from(data, at)
    return group << 16 | element, _WIDE.unpack_from(data, at + 4)[0]


def numbers_of(source: Source, keyword: str) -> tuple[float, ...] | None:
    """The numbers of a DS, IS, US or SS attribute; None where it is absent or empty.

    Raises as pydicom does where they are no numbers. What may be signed or not is read as if it were not.
    """
    if isinstance(source, Dataset):
        value = source.get(keyword)
        if value is None or value == "" or (hasattr(value, "__len__") and len(value) == 0):
            return None
        return tuple(map(float, value)) if isinstance(value, MultiValue | list | tuple) else (float(value),)
    tag, stated = _attribute(keyword)
    found = source.elements.get(tag)
    if found is None:
        return None
    vr, value = source.representations[tag] or stated, found[0]
    if vr in _WHOLE:
        return tuple(map(float, struct.unpack(f"<{len(value) // 2}{_WHOLE[vr]}", value))) or None
    if vr not in (b"DS", b"IS"):
        return numbers_of(source.dataset(), keyword)
    text = value.strip(b" \0")
    return tuple(map(float, text.split(b"\\"))) if text else None


def text_of(source: Source, keyword: str) -> str:
    """The text of an attribute that holds plain ASCII, such as a UID; empty where it is absent."""
    if isinstance(source, Dataset):
        return str(source.get(keyword) or "")
    found = source.elements.get(_attribute(keyword)[0])
    return "" if found is None else found[0].decode("ascii").strip(" \0")


@cache
def _attribute(keyword: str) -> tuple[int, bytes]:
    """Its tag and its value representation by the dictionary."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return tag, dictionary_VR(tag).encode("ascii")
