"""A data set as the plain, bounded header that the ledger keeps and rules read.

Never raises on what a sender wrote: an element that cannot be read, or is too large, is left out and named.
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Iterable
from typing import Any

from pydicom.config import disable_value_validation
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from dicom_node.route.vocabulary import keyword_of
from dicom_node.unreadable import BAD_VALUE
from storage.facts.study import SLICE_KEYWORDS, Header

MAX_DEPTH = 4  #: levels of sequences
MAX_ELEMENTS = 4000  #: of all levels together
MAX_ITEMS = 64  #: of one sequence; frames of an Enhanced object excepted
MAX_FRAMES = 1500  #: whose place is kept
MAX_VALUES = 64  #: of one attribute
MAX_TEXT = 1024  #: characters of one value
MAX_BYTES = 64  #: of a binary value
MAX_SKIPPED = 50  #: names of left-out elements

SKIPPED = "_skipped"  #: key under which the left-out elements are named

_STORED_CLASS = "MediaStorageSOPClassUID"
_FRAMES = "PerFrameFunctionalGroupsSequence"
_FRAME_PLACE = ("PlanePositionSequence", "PlaneOrientationSequence")
_INTEGERS = frozenset({"IS", "US", "SS", "UL", "SL", "UV", "SV"})
_REALS = frozenset({"DS", "FL", "FD"})
_BINARY = frozenset({"OB", "OW", "OF", "OD", "OL", "OV", "UN"})
#: Bulk groups: overlays and curves, pixel data, padding.
_BULK_KEYWORDS = frozenset({"PixelData", "FloatPixelData", "DoubleFloatPixelData", "DataSetTrailingPadding"})

#: What pydicom raises on elements that it cannot make sense of. Found by feeding it malformed files.
_UNREADABLE = (*BAD_VALUE, AssertionError, EOFError, OSError, RecursionError)

#: Warning filters and pydicom's validation are settings of the whole process.
_quiet = threading.Lock()


def header_of(dataset: Dataset) -> Header:
    """The header as storage.facts.study.Header describes it, without bulk data.

    Elements that were left out are named under ``_skipped``. Texts are trimmed and free of control characters. Of the
    frames of an Enhanced object, the first is kept whole and the others with their place only. A data set that lacks
    its SOP class has that of the file.
    """
    with _quiet, warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")  # invalid values are expected here; they are kept as text or left out
        walk = _Walk()
        header = walk.dataset(dataset, 0)
        meta = walk.dataset(getattr(dataset, "file_meta", None) or Dataset(), 0, (_STORED_CLASS,))
    if _STORED_CLASS in meta:
        header.setdefault("SOPClassUID", meta[_STORED_CLASS])
    if walk.skipped:
        header[SKIPPED] = walk.skipped
    return header


def slice_header(header: Header) -> dict[str, Any]:
    """What the index keeps of one instance."""
    return {keyword: header[keyword] for keyword in SLICE_KEYWORDS if keyword in header}


class _Walk:
    """One pass over a data set, with what is left of its allowance."""

    def __init__(self) -> None:
        self.left = MAX_ELEMENTS
        self.skipped: list[str] = []

    def dataset(self, dataset: Dataset, depth: int, only: tuple[str, ...] = ()) -> dict[str, Any]:
        """The elements of one level; with ``only``, just those."""
        result: dict[str, Any] = {}
        for tag in _tags(dataset):
            if self.left <= 0:
                self._skip("more elements")
                break
            key = _key(tag)
            if (only and key not in only) or _is_bulk(tag, key):
                continue
            self.left -= 1
            try:
                value = self._value(dataset[tag], key, depth)
            except _UNREADABLE:
                self._skip(key)
                continue
            if value is not None:
                result[key] = value
        return result

    def _skip(self, key: str) -> None:
        if len(self.skipped) < MAX_SKIPPED and key not in self.skipped:
            self.skipped.append(key)

    def _value(self, element: DataElement, key: str, depth: int) -> Any:
        if element.VR == "SQ":
            return self._sequence(element, key, depth)
        if element.VR in _BINARY or isinstance(element.value, bytes):
            return self._binary(element.value, key)
        values = [_single(each, element.VR) for each in _multiple(element.value)]
        if len(values) > MAX_VALUES or any(isinstance(each, str) and len(each) > MAX_TEXT for each in values):
            self._skip(key)
            return None
        if all(each in (None, "") for each in values):
            return None
        return values[0] if len(values) == 1 else ["" if each is None else each for each in values]

    def _sequence(self, element: DataElement, key: str, depth: int) -> list[dict[str, Any]] | None:
        items: list[Any] = list(element.value or ())
        limit = MAX_FRAMES if key == _FRAMES else MAX_ITEMS
        if depth + 1 >= MAX_DEPTH or len(items) > limit:
            self._skip(key)
            items = [] if depth + 1 >= MAX_DEPTH else items[:1]
        result = []
        for number, item in enumerate(items):
            only = _FRAME_PLACE if key == _FRAMES and number else ()
            result.append(self.dataset(item, depth + 1, only))
        return result or None

    def _binary(self, value: Any, key: str) -> str | None:
        """Short binary values as text if that is what they hold (private text of VR UN), else hexadecimal."""
        if not isinstance(value, bytes) or len(value) > MAX_BYTES:
            self._skip(key)
            return None
        trimmed = value.strip(b" \0")
        if trimmed.isascii() and trimmed.decode("ascii").isprintable():
            return trimmed.decode("ascii") or None
        return value.hex()


def _tags(dataset: Dataset) -> Iterable[BaseTag]:
    return sorted(dataset.keys())


def _key(tag: BaseTag) -> str:
    keyword = "" if tag.is_private else keyword_of(tag.group, tag.element)
    return keyword or f"{int(tag):08X}"


def _is_bulk(tag: BaseTag, key: str) -> bool:
    group = tag.group
    repeating = 0x5000 <= group <= 0x501E or 0x6000 <= group <= 0x601E
    return tag.element == 0 or key in _BULK_KEYWORDS or (repeating and tag.element == 0x3000)


def _multiple(value: Any) -> list[Any]:
    """The values of an element. A person's name is one value, although it can be iterated."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple | MultiValue) else [value]


def _single(value: Any, vr: str) -> str | int | float | None:
    """One value as plain data; a number that is none stays as text, so that rules can say so."""
    if value is None:
        return None
    if vr == "AT":
        return f"{int(value):08X}"
    if vr in _INTEGERS and isinstance(value, int):
        return int(value)
    if (vr in _REALS or vr in _INTEGERS) and isinstance(value, int | float):
        number = float(value)
        return number if math.isfinite(number) else None
    return _clean(str(value))


def _clean(text: str) -> str:
    """Text that JSON and every database can hold: no control characters, no half surrogates, no padding."""
    if text.isprintable():  # so are nearly all, and none of what is removed below
        return text.strip()
    kept = "".join(c if c.isprintable() or c == "\n" else " " for c in text.replace("\r\n", "\n"))
    return kept.encode("utf-8", "replace").decode("utf-8").strip()
