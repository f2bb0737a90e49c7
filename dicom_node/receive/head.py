"""Reads what the index needs from the first bytes of a data set, while the rest is still arriving.

A whole parse costs some twenty times more and builds every element. This walk steps over top-level elements (explicit
or implicit VR little endian, PS3.5 7.1) and is bounded: by the bytes given, by the last tag wanted, by nesting depth.
"""

from __future__ import annotations

import math
import struct
import warnings
from collections.abc import Callable
from io import BytesIO
from typing import Any

from pydicom import config as pydicom_config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from dicom_node.unreadable import UNREADABLE
from storage.facts.errors import Rejected
from storage.facts.study import SLICE_KEYWORDS

HEAD_BYTES = 64 * 1024  #: of an object whose study must be known before it is taken
GLANCE_BYTES = 16 * 1024  #: of the first fragment: the elements wanted end in it, as a rule
SLOW_BYTES = 2 * 1024 * 1024  #: most that is handed to pydicom
INFLATED_BYTES = 2 * SLOW_BYTES  #: of a data set that came deflated
DEPTH = 16  #: nesting of undefined-length sequences that is followed
UNDEFINED = 0xFFFFFFFF
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.8.1"})

_WANTED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", *SLICE_KEYWORDS)
_SHORT = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
     b"ST", b"TM", b"UI", b"UL", b"US"}
)  # fmt: skip
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_EXPLICIT = struct.Struct("<HH2sH").unpack_from
_IMPLICIT = struct.Struct("<HHL").unpack_from
_LENGTH = struct.Struct("<L").unpack_from
_NONE: frozenset[bytes] = frozenset()
_ITEM = 0xFFFE  #: the group of items and of what ends them
_TEXTS = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "SH", "ST", "TM", "UC", "UI", "UR", "UT"})
_BINARY = {"US": "H", "SS": "h", "UL": "L", "SL": "l", "FL": "f", "FD": "d"}


class Truncated(Rejected):
    """The walk ran out of bytes, or met something that is not a data element."""


def read(head: bytes | bytearray | memoryview, transfer_syntax_uid: str) -> dict[str, Any]:
    """The wanted elements of a data set's first bytes, by keyword.

    Raises Rejected when the bytes are no data set in that transfer syntax.
    """
    if transfer_syntax_uid in DEFLATED or transfer_syntax_uid == EXPLICIT_BIG:
        return _read_slowly(bytes(head[:SLOW_BYTES]), transfer_syntax_uid)
    try:
        found, _ = _walk(head, transfer_syntax_uid != IMPLICIT_LITTLE)
    except (Truncated, struct.error):
        return _read_slowly(bytes(head[:SLOW_BYTES]), transfer_syntax_uid)
    return _values(found)


def glance(head: memoryview, transfer_syntax_uid: str) -> dict[str, Any] | None:
    """The same from the first fragment, if all that is wanted lies in it; None where more must be read."""
    if transfer_syntax_uid in DEFLATED or transfer_syntax_uid == EXPLICIT_BIG:
        return None
    try:
        found, whole = _walk(bytes(head[:GLANCE_BYTES]), transfer_syntax_uid != IMPLICIT_LITTLE)
    except (Truncated, struct.error):
        return None
    return _values(found) if whole else None


def _walk(head: bytes | bytearray | memoryview, explicit: bool) -> tuple[dict[int, bytes], bool]:
    """The raw values of the wanted elements, and whether the walk came past the last of them."""
    found: dict[int, bytes] = {}
    unpack, short, wanted = _EXPLICIT, _SHORT if explicit else _NONE, _READERS
    at, end, previous = 0, len(head), -1
    while at + 8 <= end:
        group, element, vr, length = unpack(head, at)  # most elements are explicit and short: without a call
        tag = group << 16 | element
        if vr in short:
            at += 8
        else:
            tag, length, at = _element(head, at, explicit)
        if not previous < tag <= _LAST:
            if tag > _LAST and tag >> 16 != _ITEM:
                return found, True
            raise Truncated(f"element ({tag >> 16:04X},{tag & 0xFFFF:04X}) is out of order")
        previous = tag
        if length == UNDEFINED:
            at = _skip_sequence(head, at, None if vr == b"UN" else explicit, DEPTH)
            continue
        if tag in wanted and length <= 1024:
            if at + length > end:
                raise Truncated(f"element ({tag >> 16:04X},{tag & 0xFFFF:04X}) is longer than the data set")
            if explicit and vr != wanted[tag][2] and vr != b"UN":
                raise Truncated(f"element ({tag >> 16:04X},{tag & 0xFFFF:04X}) has another VR than it should have")
            found[tag] = bytes(head[at : at + length])
        at += length
    return found, False


def _values(found: dict[int, bytes]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for tag, raw in found.items():
        keyword, convert, _ = _READERS[tag]
        value = convert(raw)
        if value is not None:
            values[keyword] = value
    return values


def _element(head: bytes | bytearray | memoryview, at: int, explicit: bool) -> tuple[int, int, int]:
    """Tag, length and offset of the value of the element at an offset."""
    if not explicit:
        group, element, length = _IMPLICIT(head, at)
        return group << 16 | element, length, at + 8
    group, element, vr, short = _EXPLICIT(head, at)
    if group == _ITEM:
        return group << 16 | element, _LENGTH(head, at + 4)[0], at + 8
    if not b"AA" <= vr <= b"ZZ":
        raise Truncated(f"element ({group:04X},{element:04X}) has no value representation")
    if vr in _LONG:
        return group << 16 | element, _LENGTH(head, at + 8)[0], at + 12
    return group << 16 | element, short, at + 8


def _skip_sequence(head: bytes | bytearray | memoryview, at: int, explicit: bool | None, depth: int) -> int:
    """The offset after a sequence (or encapsulated value) of undefined length.

    ``explicit`` is None where each item must show it: one of VR UN should be implicit, and not every writer knows
    (PS3.5 6.2.2).
    """
    if depth == 0:
        raise Truncated("sequences are nested too deeply")
    while at + 8 <= len(head):
        group, element, length = _IMPLICIT(head, at)
        at += 8
        if (group, element) == (_ITEM, 0xE0DD):
            return at
        if length == UNDEFINED:
            shown = b"AA" <= bytes(head[at + 4 : at + 6]) <= b"ZZ"
            at = _skip_item(head, at, shown if explicit is None else explicit, depth)
        else:
            at += length
    raise Truncated("a sequence does not end")


def _skip_item(head: bytes | bytearray | memoryview, at: int, explicit: bool, depth: int) -> int:
    while at + 8 <= len(head):
        unknown = explicit and head[at + 4 : at + 6] == b"UN"
        tag, length, at = _element(head, at, explicit)
        if tag == 0xFFFEE00D:
            return at
        if length == UNDEFINED:
            at = _skip_sequence(head, at, None if unknown else explicit, depth - 1)
        else:
            at += length
    raise Truncated("an item does not end")


def _read_slowly(head: bytes, transfer_syntax_uid: str) -> dict[str, Any]:
    """Odd encodings: let pydicom read them."""
    implicit = transfer_syntax_uid == IMPLICIT_LITTLE
    little = transfer_syntax_uid != EXPLICIT_BIG
    if transfer_syntax_uid == "1.2.840.10008.1.2.1.99":
        head = _inflate(head)
    try:
        with pydicom_config.disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a file that is not in the encoding it claims is read all the same
            dataset = read_dataset(BytesIO(head), implicit, little, stop_when=_past, specific_tags=sorted(_READERS))
            return _values_of(dataset, little)
    except UNREADABLE as error:
        raise Truncated(f"the data set cannot be read ({type(error).__name__})") from error


def _past(tag: int, _vr: str | None, _length: int) -> bool:
    """Whether nothing that is wanted follows; some writers leave the end of a sequence where none is."""
    return tag > _LAST and tag >> 16 != _ITEM


def _inflate(head: bytes) -> bytes:
    import zlib  # only deflated data sets need it

    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(head, INFLATED_BYTES)
    except zlib.error as error:
        raise Truncated("the deflated data set cannot be inflated") from error


def _values_of(dataset: Dataset, little: bool) -> dict[str, Any]:
    """The wanted elements, from their bytes: a value means the same whichever way it was found."""
    values: dict[str, Any] = {}
    for tag, (keyword, _, own) in _READERS.items():
        raw = dataset.get_item(tag)
        if not isinstance(raw, RawDataElement) or not raw.value or raw.length == UNDEFINED:
            continue
        if len(raw.value) < raw.length:
            raise Truncated(f"element ({tag >> 16:04X},{tag & 0xFFFF:04X}) is longer than the data set")
        value = _converted(raw.value, raw.VR or "UN", own.decode(), little)
        if value is not None:
            values[keyword] = value
    return values


def _converted(raw: bytes, vr: str, own: str, little: bool) -> Any:
    """A value that is written in some VR, as the element's own would say it; None where it would not."""
    written = own if vr == "UN" else vr
    if written in _TEXTS:
        return _BY_VR.get("IS" if own == "US" else own, _text)(raw)
    if written not in _BINARY or own not in _BY_VR:
        return None
    code = struct.Struct(("<" if little else ">") + _BINARY[written])
    if len(raw) % code.size:
        return None
    numbers = [number for (number,) in code.iter_unpack(raw)]
    if own != "DS":
        if not all(float(number).is_integer() for number in numbers):
            return None
        numbers = list(map(int, numbers))
    return _one_or_all(numbers)


def _one_or_all(values: list[Any]) -> Any:
    """A single value, several as a list; None for none, and where one of them is no number."""
    if not values or not all(map(math.isfinite, values)):
        return None
    return values[0] if len(values) == 1 else values


def _text(raw: bytes) -> Any:
    text = raw.decode("latin-1")
    if "\\" not in text:
        return text.strip(" \0") or None
    values = [part.strip(" \0") for part in text.split("\\")]
    return None if values == [""] else values[0] if len(values) == 1 else values


def _numbers(convert: Callable[[str], float | int]) -> Callable[[bytes], Any]:
    def read_numbers(raw: bytes) -> Any:
        if raw.translate(None, b"0123456789+-.eE \\\0"):  # Python takes more for a number than DICOM does
            return None
        try:
            return _one_or_all([convert(part) for part in raw.decode("ascii").rstrip(" \0\\").split("\\")])
        except (OverflowError, ValueError):
            return None

    return read_numbers


def _shorts(raw: bytes) -> Any:
    if len(raw) == 2:
        return raw[0] | raw[1] << 8
    return None if len(raw) % 2 else _one_or_all([item[0] for item in struct.iter_unpack("<H", raw)])


def _integer(text: str) -> int:
    """An IS; some writers give it decimals. Raises ValueError."""
    try:
        return int(text)
    except ValueError:
        if not (number := float(text)).is_integer():
            raise
        return int(number)


_BY_VR: dict[str, Callable[[bytes], Any]] = {"DS": _numbers(float), "IS": _numbers(_integer), "US": _shorts}


def _readers() -> dict[int, tuple[str, Callable[[bytes], Any], bytes]]:
    found = {}
    for keyword in _WANTED:
        vr = dictionary_VR(keyword)
        found[int(tag_for_keyword(keyword) or 0)] = (keyword, _BY_VR.get(vr, _text), vr.encode())
    return found


#: Of each wanted tag: its keyword, what makes a value of its bytes, and its VR.
_READERS = _readers()
_LAST = max(_READERS)
