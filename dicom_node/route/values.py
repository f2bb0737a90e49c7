"""What an attribute of a rule is in one series: values of its type, or why there are none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dicom_node.route.expression import Attribute, Scalar, Step
from dicom_node.route.reading import items_of, number_of
from dicom_node.route.vocabulary import Type

MAX_VALUES = 2000  #: values that one look-up considers; more are ignored
_FIRST_CREATOR, _LAST_CREATOR = 0x10, 0xFF  #: elements that hold private creators (PS3.5 Section 7.8.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """The values of an attribute that have its type."""

    values: tuple[Scalar, ...]
    size: int  #: values or items, of whatever type
    problem: str  #: why a comparison may be unknown; empty when every value has the right type


def values_of(attribute: Attribute, first: Any) -> Values:
    """Look an attribute up; ``first`` is the stored value of the first name of its path."""
    raw = _follow(attribute, first)
    if not raw:
        return Values(values=(), size=0, problem=f"{attribute.label} is missing")
    if attribute.type is Type.SEQUENCE:
        return Values(values=(), size=len(raw), problem="")
    typed = [_typed(attribute.type, each) for each in raw]
    values = tuple(each for each in typed if each is not None)
    wrong = len(values) < len(typed)
    problem = f"{attribute.label} holds something that is not {attribute.type.value}" if wrong else ""
    return Values(values=values, size=len(raw), problem=problem)


def private_value(step: Step, within: Mapping[str, Any]) -> Any:
    """The value of a private attribute whose block its creator reserved; None when the creator is not there."""
    if not step.creator:
        return within.get(step.key)
    group, element = step.key[:4], step.key[6:]
    for block in range(_FIRST_CREATOR, _LAST_CREATOR + 1):
        creator = within.get(f"{group}00{block:02X}")
        if isinstance(creator, str) and creator.strip() == step.creator:
            return within.get(f"{group}{block:02X}{element}")
    return None


def _follow(attribute: Attribute, first: Any) -> list[Any]:
    """Every value at the end of the path, over all items where the path does not pick one."""
    found = _picked(first, attribute.steps[0])
    for step in attribute.steps[1:]:
        inner: list[Any] = []
        for item in found:
            if isinstance(item, Mapping) and len(inner) < MAX_VALUES:
                inner += _picked(private_value(step, item), step)
        found = inner
    return found


def _picked(raw: Any, step: Step) -> list[Any]:
    items = items_of(raw)
    if step.index is not None:
        items = items[step.index : step.index + 1]
    return [each for each in items[:MAX_VALUES] if not _is_empty(each)]


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip(" \0"))


def _typed(kind: Type, value: Any) -> Scalar | None:
    """A stored value as its type; None when it is no such thing."""
    match kind:
        case Type.NUMBER:
            return number_of(value)
        case Type.TRUTH:
            return value if isinstance(value, bool) else None
        case Type.TEXT:
            return value.strip(" \0") if isinstance(value, str) else None
        case Type.CODE:
            return value.strip(" \0").upper() if isinstance(value, str) else None
        case Type.DATE:
            return _date(value)
        case Type.TIME:
            return _time(value)
        case Type.ANY:
            return value.strip(" \0") if isinstance(value, str) else number_of(value)
    return None


def _date(value: Any) -> str | None:
    """The day of a DA or DT value as YYYYMMDD; the dots of ACR-NEMA are tolerated."""
    text = value.strip().replace(".", "", 2) if isinstance(value, str) and value[4:5] == "." else value
    return text.strip()[:8] if isinstance(text, str) and re.match(r"\s*[0-9]{8}", text) else None


def _time(value: Any) -> str | None:
    """A TM value as HHMMSS: absent parts are 00, fractions are dropped, the colons of ACR-NEMA are tolerated."""
    text = value.strip().replace(":", "") if isinstance(value, str) else ""
    match = re.fullmatch(r"([0-9]{2})([0-9]{2})?([0-9]{2})?(\.[0-9]*)?", text)
    return None if match is None else "".join(part or "00" for part in match.groups()[:3])
