"""Finds an attribute where classic and Enhanced objects keep it.

Enhanced objects (PS3.3 C.7.6.16) move most attributes into functional groups, shared by all frames or one per frame;
some also change their names. A value that cannot be read counts as not stated.
"""

from __future__ import annotations

import warnings
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
    value = value_of(header, keyword)
    if value is not None:
        return value
    for item in _macros(header):
        for name in (keyword, _ENHANCED.get(keyword)):
            value = value_of(item, name) if name else None
            if value is not None:
                return value
    return None


def texts(header: Dataset, keyword: str) -> tuple[str, ...]:
    """All values as stripped text; empty where the attribute is absent or a sequence."""
    value = find(header, keyword)
    if value is None or isinstance(value, Sequence):
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


def items(header: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """The items of a sequence; empty where it is absent."""
    value = find(header, keyword)
    return tuple(value) if isinstance(value, Sequence) else ()


def groups_of(header: Dataset, frame: int) -> tuple[Dataset, ...]:
    """The functional groups of one frame (0-based): its own before the shared ones."""
    own = value_of(header, "PerFrameFunctionalGroupsSequence") or []
    shared = value_of(header, "SharedFunctionalGroupsSequence") or []
    return (*own[frame : frame + 1], *shared[:1])


def macro(groups: tuple[Dataset, ...], sequence: str, keyword: str) -> Any:
    """An attribute of one functional group macro, e.g. PlanePositionSequence / ImagePositionPatient, or None."""
    for group in groups:
        for item in value_of(group, sequence) or []:
            value = value_of(item, keyword)
            if value is not None:
                return value
    return None


def _macros(header: Dataset) -> Iterator[Dataset]:
    """The first item of every functional group macro of the first frame."""
    for group in groups_of(header, 0):
        for tag in group.keys():  # noqa: SIM118 -- iterating a Dataset converts every value
            value = value_of(group, tag)
            if isinstance(value, Sequence):
                yield value[0]


def value_of(dataset: Dataset, key: Any) -> Any:
    """One value, or None where it is absent, empty or unreadable."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote element values
        try:
            value = dataset[key].value if key in dataset else None
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RuntimeError, NotImplementedError):
            return None
    return None if value is None or (hasattr(value, "__len__") and len(value) == 0) else value
