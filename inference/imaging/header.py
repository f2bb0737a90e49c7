"""Finds an attribute where classic and Enhanced objects keep it.

Enhanced objects (PS3.3 C.7.6.16) move most attributes into functional groups, shared by all frames or one per frame;
some also change their names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

#: Names that Enhanced MR and CT (PS3.3 C.8.13, C.8.15) use for what classic objects call otherwise.
_ENHANCED = {
    "EchoTime": "EffectiveEchoTime",
    "InversionTime": "InversionTimes",
    "ImageType": "FrameType",
}


def find(header: Dataset, keyword: str) -> Any:
    """The value of an attribute, or None where it is absent or empty; of frames, the first speaks for all."""
    value = header.get(keyword)
    if not _empty(value):
        return value
    for group in _groups(header):
        for name in (keyword, _ENHANCED.get(keyword)):
            value = group.get(name) if name else None
            if not _empty(value) and not isinstance(value, Sequence):
                return value
    return None


def texts(header: Dataset, keyword: str) -> tuple[str, ...]:
    """All values as stripped text; empty where the attribute is absent."""
    value = find(header, keyword)
    if value is None:
        return ()
    values = value if isinstance(value, list | tuple | MultiValue) else [value]
    return tuple(text for item in values if (text := str(item).strip()))


def number(header: Dataset, keyword: str) -> float | None:
    """The first value as a number; None where it is absent or no number."""
    for text in texts(header, keyword)[:1]:
        try:
            return float(text)
        except ValueError:
            return None
    return None


def groups_of(header: Dataset, frame: int) -> tuple[Dataset, ...]:
    """The functional groups of one frame (0-based): its own before the shared ones."""
    own = header.get("PerFrameFunctionalGroupsSequence") or []
    shared = header.get("SharedFunctionalGroupsSequence") or []
    return (*own[frame : frame + 1], *shared[:1])


def macro(groups: tuple[Dataset, ...], sequence: str, keyword: str) -> Any:
    """An attribute of one functional group macro, e.g. PlanePositionSequence / ImagePositionPatient, or None."""
    for group in groups:
        for item in group.get(sequence) or []:
            value = item.get(keyword)
            if not _empty(value):
                return value
    return None


def _groups(header: Dataset) -> Iterator[Dataset]:
    for group in groups_of(header, 0):
        for element in group:
            if element.VR == "SQ" and element.value:
                yield element.value[0]


def _empty(value: Any) -> bool:
    return value is None or (hasattr(value, "__len__") and len(value) == 0)
