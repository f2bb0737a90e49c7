"""A bundle's configuration as data: references are followed, expressions and functions are not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

#: Expressions that are known to be a network's device or a class without arguments; they are ignored or named.
_CLASS = re.compile(r"^\$?\s*(torch\.nn\.(?:modules\.\w+\.)?[A-Z]\w+)$")
_WHOLE = re.compile(r"^@([A-Za-z_][\w#:.]*)$")
_DEVICE = re.compile(r"\.to\(\s*@device\s*\)\s*$")
_DEPTH = 8
ADVICE = "write the package by hand (docs/models.md)"


class Unread(Exception):
    """Parts of a configuration that are not understood, each with its place."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


class Config:
    """The configuration and what was noticed on the way."""

    def __init__(self, root: Mapping[str, Any], name: str) -> None:
        self.root, self.name = root, name
        self.notes: list[str] = []

    def value(self, value: Any, place: str, depth: int = 0) -> Any:
        """A plain value, with references followed. Raises Unread for expressions."""
        if depth > _DEPTH:
            raise self.unread(place, value, "references lead in a circle")
        if isinstance(value, str):
            reference = _WHOLE.match(value.strip())
            if reference:
                key = reference[1].replace("::", "#")
                return self.value(self._at(key, place), key, depth + 1)
            if value.lstrip().startswith("$"):
                raise self.unread(place, value, "an expression is Python, and Python is not run")
            if "%" in value[:1]:
                raise self.unread(place, value, "a macro names another file")
            return value
        if isinstance(value, list):
            return [self.value(one, f"{place}#{n}", depth) for n, one in enumerate(value)]
        if isinstance(value, Mapping):
            return {key: self.value(one, f"{place}#{key}", depth) for key, one in value.items()}
        return value

    def part(self, *names: str) -> tuple[str, Any]:
        """The first of the named parts that is there, with its place, one reference followed."""
        for name in names:
            if name in self.root:
                found = self.root[name]
                reference = _WHOLE.match(found.strip()) if isinstance(found, str) else None
                if reference:
                    return reference[1], self._at(reference[1], name)
                return name, found
        raise Unread([f"{self.name}: there is none of {', '.join(names)}: {ADVICE}"])

    def transforms(self, *names: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """The transforms of a Compose: place, name of the class, and arguments as they stand."""
        place, found = self.part(*names)
        listed = found.get("transforms") if isinstance(found, Mapping) else found
        if isinstance(listed, str) and (reference := _WHOLE.match(listed)):
            place, listed = reference[1], self._at(reference[1], place)
        if not isinstance(listed, list):
            raise self.unread(place, listed, "a list of transforms is wanted")
        for number, entry in enumerate(listed):
            where = f"{place}#transforms#{number}"
            name, arguments = self.target(entry, where)
            if name:
                yield where, name, arguments

    def target(self, entry: Any, place: str) -> tuple[str, dict[str, Any]]:
        """The class that an entry names, without its package, and its arguments; an empty name where it is disabled."""
        if not isinstance(entry, Mapping) or not isinstance(entry.get("_target_"), str):
            raise self.unread(place, entry, "an entry with a _target_ is wanted")
        off = entry.get("_disabled_", False)
        if off in (True, "true", "True"):
            return "", {}
        if off not in (False, "false", "False"):
            raise self.unread(f"{place}#_disabled_", off, "whether it is there must be plain")
        arguments = {key: value for key, value in entry.items() if not (key.startswith("_") and key.endswith("_"))}
        if entry.get("_mode_", "default") != "default":
            raise self.unread(f"{place}#_mode_", entry["_mode_"], "it is not known here")
        full = entry["_target_"]
        if "." in full and not full.startswith("monai."):
            raise self.unread(f"{place}#_target_", full, "only MONAI's own classes are known by name")
        return full.rpartition(".")[2], arguments

    def network(self) -> dict[str, Any]:
        """The network by its name in MONAI, with plain arguments."""
        place, found = self.part("network_def", "network")
        if isinstance(found, str) and _DEVICE.search(found):  # "$@network_def.to(@device)"
            raise self.unread(place, found, "the network itself must stand under network_def")
        name, arguments = self.target(found, place)
        faults: list[str] = []
        plain: dict[str, Any] = {}
        for key, value in arguments.items():
            try:
                plain[key] = self._argument(value, f"{place}#{key}")
            except Unread as error:
                faults += error.faults
        if faults:
            raise Unread(faults)
        return {"name": f"monai.{name}", "arguments": {k: v for k, v in plain.items() if v is not None}}

    def _argument(self, value: Any, place: str) -> Any:
        if isinstance(value, str) and (named := _CLASS.match(value)):
            return named[1]
        return self.value(value, place)

    def _at(self, key: str, place: str) -> Any:
        found: Any = self.root
        for part in key.replace("::", "#").split("#"):
            try:
                found = found[int(part)] if isinstance(found, list) else found[part]
            except (KeyError, IndexError, ValueError, TypeError):
                raise Unread([f"{self.name}, {place}: @{key} leads nowhere"]) from None
        return found

    def unread(self, place: str, value: Any, why: str) -> Unread:
        """A fault with its place and what stands there."""
        shown = value if isinstance(value, str) else repr(value)
        return Unread([f"{self.name}, {place}: {shown[:120]!r}: {why}: {ADVICE}"])
