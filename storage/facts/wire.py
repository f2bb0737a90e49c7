"""Facts as JSON and back, driven by their own annotations, so that no field can be forgotten."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable
from enum import Enum
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


def to_json(value: Any) -> Any:
    """A fact as what ``json.dumps`` takes: dataclasses to objects, tuples to lists, enums to their values."""
    if dataclasses.is_dataclass(value):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such number, and PostgreSQL takes none; float() reads it back
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    return value


def from_json(cls: type[T], data: Any) -> T:
    """The fact that ``to_json`` wrote. Raises KeyError or TypeError where the text has another shape."""
    return typing.cast(T, _decoder(typing.cast(Any, cls))(data))


@cache
def _decoder(hint: Any) -> Callable[[Any], Any]:
    """What reads a value of that type: a mask names each of its slices, so a type is looked at once, not a value."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        inner = _decoder(next(a for a in args if a is not type(None)))
        return lambda data: None if data is None else inner(data)
    if origin is tuple:
        several = [_decoder(a) for a in args if a is not Ellipsis]
        if args[-1] is Ellipsis:
            return lambda data: tuple(map(several[0], data))
        return lambda data: tuple(read(item) for read, item in zip(several, data, strict=True))
    if origin is dict:
        of_value = _decoder(args[1])
        return lambda data: {key: of_value(item) for key, item in data.items()}
    if dataclasses.is_dataclass(hint):
        return _reader(typing.cast(Any, hint))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint
    return float if hint is float else _as_it_is


def _reader(cls: Callable[..., Any]) -> Callable[[Any], Any]:
    reads = {name: _decoder(hint) for name, hint in typing.get_type_hints(cls).items()}
    return lambda data: cls(**{name: reads[name](item) for name, item in data.items()})


def _as_it_is(data: Any) -> Any:
    return data
