"""Safe reading of a stored header: whatever it holds, the answer is values of the kind asked for, or none."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from storage.facts.study import Header

#: Where an Enhanced multi-frame object keeps what others have at the top level (PS3.3 C.7.6.16).
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")


def items_of(raw: Any) -> list[Any]:
    """A stored value as a list of single values, empty ones included so that positions stay."""
    if raw is None:
        return []
    return list(raw) if isinstance(raw, list | tuple) else [raw]


def number_of(value: Any) -> int | float | None:
    """A finite number, also when it is written as text; else None. No VR holds integers beyond 64 bits."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if abs(value) < 2**64 else None
    try:
        number = float(value) if isinstance(value, float | str) else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


class Reading:
    """A header with typed look-ups. Attributes of the functional groups are found as if they stood at the top."""

    def __init__(self, header: Header) -> None:
        self.header: Mapping[str, Any] = header if isinstance(header, Mapping) else {}
        self._grouped = dict(reversed(list(self._in_groups())))

    def _in_groups(self) -> Iterator[tuple[str, Any]]:
        """What the shared groups and the first frame's groups hold, nearest first."""
        for name in _GROUPS:
            for group in items_of(self.header.get(name))[:1]:
                for macro in group.values() if isinstance(group, Mapping) else ():
                    for item in items_of(macro)[:1]:
                        if isinstance(item, Mapping):
                            yield from item.items()

    def get(self, keyword: str) -> Any:
        """The stored value; None when there is none."""
        raw = self.header.get(keyword)
        return self._grouped.get(keyword) if raw is None else raw

    def texts(self, keyword: str) -> list[str]:
        """The non-empty texts of an attribute."""
        return [each.strip() for each in items_of(self.get(keyword)) if isinstance(each, str) and each.strip()]

    def text(self, keyword: str) -> str:
        """All texts of an attribute as one; empty when missing."""
        return " ".join(self.texts(keyword))

    def codes(self, keyword: str) -> list[str]:
        """The non-empty code strings of an attribute, in upper case."""
        return [each.upper() for each in self.texts(keyword)]

    def numbers(self, keyword: str) -> list[float]:
        """The numbers of an attribute that are fit for geometry and timing: finite and below 1e9."""
        found = (number_of(each) for each in items_of(self.get(keyword)))
        return [float(each) for each in found if each is not None and abs(each) < 1e9]

    def number(self, keyword: str) -> float | None:
        """The first number of an attribute; None when there is none."""
        return next(iter(self.numbers(keyword)), None)

    def items(self, keyword: str) -> list[Reading]:
        """The items of a sequence."""
        return [Reading(each) for each in items_of(self.get(keyword)) if isinstance(each, Mapping)]
