"""Writes a manifest as TOML that a person likes to read and correct: small tables and all lists on one line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_BARE = re.compile(r"^[A-Za-z0-9_-]+$")
_INLINE = frozenset({"arguments"})  #: tables that are read as one thing, whatever their size
_SMALL = 4


def toml_of(document: Mapping[str, Any]) -> str:
    """The document as TOML 1.0. Values are texts, numbers, truth values, lists and tables; None is left out."""
    return "\n".join(_table(document, "")).lstrip("\n") + "\n"


def _table(table: Mapping[str, Any], path: str) -> Iterator[str]:
    later: list[tuple[str, Any]] = []
    for key, value in table.items():
        if value is None:
            continue
        if _is_table(key, value) or _is_tables(value):
            later.append((key, value))
        else:
            yield f"{_key(key)} = {_value(value)}"
    for key, value in later:
        name = f"{path}.{_key(key)}" if path else _key(key)
        for one in value if isinstance(value, list) else (value,):
            yield ""
            yield f"[[{name}]]" if isinstance(value, list) else f"[{name}]"
            yield from _table(one, name)


def _is_table(key: str, value: Any) -> bool:
    if not isinstance(value, Mapping) or key in _INLINE:
        return False
    return len(value) >= _SMALL or not value or any(isinstance(v, Mapping | list) for v in value.values())


def _is_tables(value: Any) -> bool:
    """A list of tables, of which not all are small enough to stand in a line."""
    return isinstance(value, list) and any(isinstance(one, Mapping) and len(one) > 1 for one in value)


def _key(key: str) -> str:
    return key if _BARE.match(key) else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items() if v is not None)
        return f"{{ {inside} }}" if inside else "{}"
    return f"[{', '.join(_value(one) for one in value)}]"


def _text(text: str) -> str:
    # A JSON string is a TOML one, but for the character DEL.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
