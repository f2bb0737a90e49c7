"""Reads a TOML file into a frozen settings model, and says what is wrong in words that an administrator can act on."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from storage.facts.errors import Misconfigured


class Settings(BaseModel):
    """A frozen table of settings: unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


S = TypeVar("S", bound=BaseModel)


def read_toml(path: Path) -> dict[str, Any]:
    """The file as plain data. Raises Misconfigured when it is missing or not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise Misconfigured(f"{path}: there is no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured(f"{path}: not valid TOML: {error}") from error


def parse(model: type[S], data: Mapping[str, Any], *, source: str) -> S:
    """Validate ``data``; raises Misconfigured with every fault at once, each with its key and the nearest known one."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        faults = "\n".join(f"  {line}" for line in _faults(model, error))
        raise Misconfigured(f"{source}:\n{faults}") from error


def _faults(model: type[BaseModel], error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_url=False):
        where = [str(part) for part in fault["loc"]]
        key = ".".join(where)
        if fault["type"] == "extra_forbidden":
            known = _keys(model, where[:-1])
            near = difflib.get_close_matches(where[-1], known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(known))}"
            yield f"{key}: unknown key; {hint}"
        elif fault["type"] == "missing":
            yield f"{key}: must be given"
        else:
            yield f"{key}: {fault['msg'].removeprefix('Value error, ')}"


def _keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """The keys that are known at a place in the model; names of table entries and list indices are walked over."""
    here: Any = model
    for part in path:
        fields = getattr(here, "model_fields", None)
        if fields is not None and part in fields:
            here = _inner(fields[part].annotation)
    return list(getattr(here, "model_fields", {}))


def _inner(annotation: Any) -> Any:
    """The settings model inside of ``dict[str, M]``, ``tuple[M, ...]`` or ``M | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for a in get_args(annotation) if (found := _inner(a)) is not None), None)


def describe(config: Settings, *, comments: bool = True) -> str:
    """A configuration of tables as TOML, each key under its unit, default and why.

    Tables that may stand there any number of times and do not stand there yet are shown as comments, to be filled in.
    """
    lines: list[str] = []
    for name, field in type(config).model_fields.items():
        section = getattr(config, name)
        if isinstance(section, Mapping):
            for key, one in section.items():
                lines += [*_table(f"{name}.{key}", one, comments), ""]
            if comments and not section and (inner := _inner(field.annotation)) is not None:
                lines += [*_blank(f"[{name}.NAME]", inner), ""]
        else:
            lines += [*_table(name, section, comments), ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(title: str, section: Settings, comments: bool) -> list[str]:
    lines = [f"[{title}]"]
    nested: list[str] = []
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        if isinstance(value, tuple) and value and isinstance(value[0], Settings):
            for item in value:
                nested += ["", f"[[{title}.{key}]]", *_table("", item, comments)[1:]]
            continue
        inner = _inner(field.annotation) if value == () else None
        if inner is not None:  # an empty list would forbid tables of that name further down
            nested += ["", *_said(field), *_blank(f"[[{title}.{key}]]", inner)] if comments else []
            continue
        if comments:
            lines += _said(field)
        lines.append(_line(key, value))
    return lines + nested


def _blank(head: str, model: type[BaseModel]) -> list[str]:
    """A table to be filled in, all of it a comment."""
    lines = [head]
    for key, field in model.model_fields.items():
        lines += _said(field)
        default = field.get_default(call_default_factory=True)
        lines.append(f"{key} = (must be given)" if field.is_required() else _line(key, default))
    return [f"# {line}" for line in lines]


def _said(field: FieldInfo) -> list[str]:
    return [f"# {line.strip()}" for line in (field.description or "").splitlines()]


def _line(key: str, value: Any) -> str:
    return f"# {key} = (not set)" if value is None else f"{key} = {_toml(value)}"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    text = os.fspath(value) if isinstance(value, Path) else str(value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
