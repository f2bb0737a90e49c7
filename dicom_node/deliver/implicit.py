"""Puts a data set from explicit into implicit VR little endian (PS3.5 7.1 and A.1), value for value.

Only headers change: no value is read, so that none is mended, cut or guessed. What a reader makes of the VR it does not
see any more is what the dictionary says; private elements keep their bytes.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

#: VRs with a length of 32 bits (PS3.5 7.1.2); of the others it has 16.
_LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_SHORT = {
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
    b"ST", b"TM", b"UI", b"UL", b"US",
}  # fmt: skip
#: Padded with a space, the others with a zero (PS3.5 6.2).
_TEXT = {*_SHORT, b"UC", b"UR", b"UT"} - {b"AT", b"FD", b"FL", b"SL", b"SS", b"UI", b"UL", b"US"}
_UNDEFINED = 0xFFFFFFFF
_ENDLESS, _NOTHING = b"\xff" * 4, b"\0" * 4
_ITEM, _ITEM_END, _SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0", b"\xfe\xff\xdd\xe0"
_PIXELS = {b"\xe0\x7f\x10\x00", b"\xe0\x7f\x08\x00", b"\xe0\x7f\x09\x00"}
_PIECE_BYTES = 1 << 20
_DEEPEST = 100  #: sequences in sequences
_L, _H = struct.Struct("<L"), struct.Struct("<H")


class Unwritable(Exception):
    """The data set cannot be put into implicit VR; the text says why, without a value of it."""


def write_implicit(source: BinaryIO, target: BinaryIO) -> None:
    """Read the data set from where ``source`` stands to its end, and write it. Raises Unwritable, OSError.

    Group lengths (PS3.5 7.2) are left out, as they would no longer be true. Sequences and items have no length but an
    end (PS3.5 7.5.2): a reader that does not know a private one would take it for bytes. Values of an odd length, which
    some archives refuse, are padded (PS3.5 6.2); all are copied piece by piece.
    """
    while tag := source.read(4):
        _element(source, target, tag, 0, explicit=True)


def _element(source: BinaryIO, target: BinaryIO, tag: bytes, depth: int, *, explicit: bool) -> None:
    vr, length = _header(source) if explicit else (b"UN", _length(source))
    if vr == b"SQ" or (vr == b"UN" and length == _UNDEFINED):  # of UN, what is inside is implicit (PS3.5 6.2.2)
        target.write(tag + _ENDLESS)
        _sequence(source, target, length, depth + 1, explicit=vr == b"SQ")
    elif length == _UNDEFINED:
        raise Unwritable("its pixels are compressed" if tag in _PIXELS else "a value has no length")
    elif tag[2:] == b"\0\0":
        _copy(source, None, length)
    else:
        target.write(tag + _L.pack(length + length % 2))
        _copy(source, target, length)
        target.write((b" " if vr in _TEXT else b"\0") * (length % 2))


def _header(source: BinaryIO) -> tuple[bytes, int]:
    """VR and length of an element whose tag was read."""
    raw = source.read(4)
    vr = raw[:2]
    if len(raw) == 4 and vr in _SHORT:
        return vr, int(_H.unpack(raw[2:])[0])
    if len(raw) == 4 and vr in _LONG:
        return vr, _length(source)
    raise Unwritable("it ends within an element" if len(raw) < 4 else "an element has no value representation")


def _length(source: BinaryIO) -> int:
    raw = source.read(4)
    if len(raw) < 4:
        raise Unwritable("it ends within an element")
    return int(_L.unpack(raw)[0])


def _sequence(source: BinaryIO, target: BinaryIO, length: int, depth: int, *, explicit: bool) -> None:
    """The items of a sequence, to its end or for its length."""
    if depth > _DEEPEST:
        raise Unwritable("its sequences are too deep")
    end = None if length == _UNDEFINED else source.tell() + length
    while end is None or source.tell() < end:
        tag, size = source.read(4), _length(source)
        if tag == _SEQUENCE_END and end is None:
            break
        if tag != _ITEM:
            raise Unwritable("a sequence holds what is no item")
        target.write(_ITEM + _ENDLESS)
        _item(source, target, size, depth, explicit=explicit)
        target.write(_ITEM_END + _NOTHING)
    _require_end(source, end)
    target.write(_SEQUENCE_END + _NOTHING)


def _item(source: BinaryIO, target: BinaryIO, length: int, depth: int, *, explicit: bool) -> None:
    end = None if length == _UNDEFINED else source.tell() + length
    while end is None or source.tell() < end:
        tag = source.read(4)
        if tag == _ITEM_END and end is None:
            _length(source)
            break
        _element(source, target, tag, depth, explicit=explicit)
    _require_end(source, end)


def _require_end(source: BinaryIO, end: int | None) -> None:
    if end is not None and source.tell() != end:
        raise Unwritable("a sequence is shorter than what it holds")


def _copy(source: BinaryIO, target: BinaryIO | None, length: int) -> None:
    while length:
        piece = source.read(min(length, _PIECE_BYTES))
        if not piece:
            raise Unwritable("it ends within a value")
        if target is not None:
            target.write(piece)
        length -= len(piece)
