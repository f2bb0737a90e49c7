"""A package made of a foreign model: what its files state is taken over, what they do not state is marked to be read.

A draft is a valid package for research. What it is for, which series it may see and what its numbers may be, nobody can
take from weights: the head of its ``model.toml`` lists what a person has to decide.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inference.bringing.organs import segment_entry
from inference.bringing.toml import toml_of
from inference.packages.manifest import Manifest
from inference.packages.package import MANIFEST
from storage.facts.errors import Misconfigured, Transient
from storage.settings import parse

_LARGEST_ML = 20_000.0  #: no structure of a person is larger
_HEAD = """\
# Made by `dicom-node models import` from {source}.
# Before you add it, read and correct:
#   intended_use, licence        what it is for, in whom it was tested, on which terms it may be used
#   [accepts]                    which series it may see; everything else is refused
#   [[segments]]                 codes; those of 99LOCAL say no more than a name
#   [[measurements]] plausible   a published range instead of the widest possible one
#   [selftest]                   one case whose answer you know: nothing else proves the orientation
{notes}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What an importer has found out."""

    identifier: str
    version: str
    title: str
    manufacturer: str
    modality: str
    licence: str
    intended_use: str
    labels: Sequence[str]  #: of the segments 1, 2, 3 …
    network: dict[str, Any]  #: the ``[network]`` table, without ``measures``
    parameters: Mapping[str, str]  #: where it comes from
    weights: Mapping[str, Path]  #: files by the name that the network uses, already in the package's folder
    roles: Sequence[str] = ()  #: of further input series
    notes: Sequence[str] = field(default_factory=tuple)  #: for whoever reads the draft


def write_draft(draft: Draft, folder: Path, source: str) -> Manifest:
    """Write ``model.toml`` into the folder that has the weights already.

    Raises Misconfigured when what was found makes no valid package, Transient when it cannot be written.
    """
    document = _document(draft, folder)
    manifest = parse(Manifest, document, source=f"{source} as a package")
    notes = "\n".join(f"# Note: {note}" for note in draft.notes)
    text = _HEAD.format(source=source, notes=notes).rstrip() + "\n\n" + toml_of(document)
    try:
        (folder / MANIFEST).write_text(text, encoding="utf-8")
    except OSError as error:
        raise Transient(f"{folder} cannot be written: {error.strerror}") from error
    return manifest


def identifier_of(name: str) -> str:
    """A package identifier made of a name."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:64].strip("-")
    if not plain:
        raise Misconfigured(f"{name!r} makes no package identifier: give one with --id")
    return plain


def _document(draft: Draft, folder: Path) -> dict[str, Any]:
    keys = [f"volume_{number}" for number in range(1, len(draft.labels) + 1)]
    output = dict(draft.network["output"])
    output["measures"] = [{"key": key, "segments": [number]} for number, key in enumerate(keys, 1)]
    document: dict[str, Any] = {
        "id": draft.identifier,
        "version": draft.version,
        "title": draft.title[:64],
        "manufacturer": draft.manufacturer[:64] or "unknown",
        "intended_use": draft.intended_use,
        "research": True,
        "licence": draft.licence,
        "algorithm": "network",
        "parameters": dict(draft.parameters),
        "weights": [_weights(name, path, folder) for name, path in draft.weights.items()],
        "accepts": {"modality": [draft.modality]},
        "segments": [segment_entry(number, label) for number, label in enumerate(draft.labels, 1)],
        "measurements": [_volume(number, key) for number, key in enumerate(keys, 1)],
        "network": {**draft.network, "output": output},
    }
    if draft.roles:
        document["inputs"] = [{"role": role} for role in draft.roles]
    return document


def _weights(name: str, path: Path, folder: Path) -> dict[str, str]:
    return {
        "name": name,
        "file": path.relative_to(folder).as_posix(),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "source": "part of the package",
    }


def _volume(number: int, key: str) -> dict[str, Any]:
    return {
        "key": key,
        "name": {"value": "118565006", "scheme": "SCT", "meaning": "Volume"},
        "unit": {"value": "ml", "scheme": "UCUM", "meaning": "milliliter"},
        "digits": 1,
        "segment": number,
        "method": "Voxels of the segment times the voxel volume",
        "plausible": [0.0, _LARGEST_ML],
        "plausible_source": "Nothing in a person is larger; set at import, to be replaced by a published range",
    }
