"""Writes the digests of weights into a ``model.toml`` that does not give them, and leaves its other lines alone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inference.packages.package import MANIFEST
from storage.facts.errors import Misconfigured
from storage.settings import read_toml

_TABLE = re.compile(r"^\s*\[\[?\s*([A-Za-z0-9_.\"-]+)\s*\]\]?\s*(#.*)?$")
_CHUNK = 1 << 20


def pin(folder: Path) -> tuple[str, ...]:
    """Pin the weights that have no ``sha256``; returns their files. Raises Misconfigured when one is not there."""
    path = folder / MANIFEST
    entries = read_toml(path).get("weights", [])
    if not isinstance(entries, list) or not any(_open(entry) for entry in entries):
        return ()
    lines = path.read_text(encoding="utf-8").splitlines()
    heads = _heads(lines)
    if len(heads) != len(entries):
        raise Misconfigured(f"{path}: write each file of weights as a table of its own: [[weights]]")
    pinned = []
    for head, entry in sorted(zip(heads, entries, strict=True), key=lambda pair: -pair[0]):
        if _open(entry):
            lines.insert(head + 1, f'sha256 = "{_digest(folder, str(entry["file"]))}"')
            pinned.append(str(entry["file"]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tuple(reversed(pinned))


def _open(entry: Any) -> bool:
    return isinstance(entry, dict) and "file" in entry and not entry.get("sha256")


def _heads(lines: Sequence[str]) -> list[int]:
    """Numbers of the lines that begin a table of weights."""
    found = [(number, _TABLE.match(line)) for number, line in enumerate(lines)]
    return [n for n, match in found if match and match[1] == "weights" and lines[n].strip().startswith("[[")]


def _digest(folder: Path, file: str) -> str:
    path = folder / file
    if not path.resolve().is_relative_to(folder.resolve()):
        raise Misconfigured(f"weights {file} are outside of the package: put them beside {MANIFEST}")
    digest = hashlib.sha256()
    try:
        with path.open("rb") as content:
            while chunk := content.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise Misconfigured(f"weights {file} cannot be read: {error.strerror}: put them into the package") from error
    return digest.hexdigest()
