"""Looks through a ``torch.export`` archive before it is loaded, and refuses one that could run code.

``torch.export.load`` (torch 2.13) trusts its file: it unpickles what an entry marks as pickled, falls back to unsafe
unpickling for sample inputs, evaluates size expressions as Python, resolves operators by name from all of torch,
executes stored guards, and starts compiled kernels. An archive of a plain network needs none of these. What is left
after this sieve is tensors in raw bytes and a graph of arithmetic operators.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any

import torch

from storage.facts.errors import Misconfigured

_PLACES = re.compile(
    r"^[^/]+/(models/[^/]+\.json|data/(weights|constants)/[^/]+|data/sample_inputs/[^/]+\.pt|extra/[^/]+|"
    r"archive_format|archive_version|version|byteorder|\.data/[^/]+|\.format_version|\.storage_alignment)$"
)
_OPERATOR = re.compile(r"^(torch\.ops\.aten\.\w+\.\w+|torch\.sym_\w+|_operator\.\w+|math\.\w+)$")
_HIGHER = {f"torch.ops.higher_order.{name}" for name in ("wrap_with_set_grad_enabled", "wrap_with_autocast")}
_FORBIDDEN = re.compile(r"^(torch\.ops\.aten\.from_file\.|_operator\.(call|methodcaller|attrgetter)$)")
_SYMBOL = re.compile(r"Symbol\('[A-Za-z]\w*'(?:, (?:positive|integer|nonnegative|real)=True)*\)")
_WORDS = re.compile(r"[^\W\d]\w*")
_SIZES = re.compile(
    r"^([su]\d+|Max|Min|Mod|PythonMod|FloorDiv|CeilDiv|CleanDiv|ModularIndexing|Eq|Ne|Lt|Le|Gt|Ge|And|Or|Not|floor|"
    r"ceiling|Integer|Rational|Add|Mul|Pow|True|False|true|false|oo|int_oo)$"
)
_EXPRESSION = re.compile(r"^[\w\s+\-*/%(),<>=!&|~]*$")


def sift(content: bytes, name: str) -> None:
    """Raises Misconfigured unless the archive holds nothing but raw tensors and a graph of known operators."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for fault in _faults(archive):
                raise Misconfigured(f"weights {name} are refused: {fault}. Export the network again with torch.export")
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Misconfigured(f"weights {name} are no archive of torch.export ({type(error).__name__})") from error


def _faults(archive: zipfile.ZipFile) -> Iterator[str]:
    names = archive.namelist()
    if len({entry.partition("/")[0] for entry in names}) != 1 or len(set(names)) != len(names):
        yield "the archive has several roots"
    for entry in names:
        if not _PLACES.match(entry) or (entry.endswith(".pt") and "/sample_inputs/" not in entry):
            yield f"it holds {entry[:80]!r}, which a plain network does not need"
    for entry in names:
        if entry.endswith("_config.json"):
            yield from _payload_faults(json.loads(archive.read(entry)))
        elif "/sample_inputs/" in entry:
            yield from _sample_faults(archive.read(entry))
        elif "/models/" in entry:
            yield from _graph_faults(json.loads(archive.read(entry)))


def _payload_faults(config: dict[str, Any]) -> Iterator[str]:
    for key, entry in config["config"].items():
        if entry.get("use_pickle") or not re.match(r"^(weight|tensor)_\d+$", entry["path_name"]):
            yield f"{str(key)[:80]!r} is stored as a pickle"


def _sample_faults(content: bytes) -> Iterator[str]:
    if not content:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.load(io.BytesIO(content), weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, LookupError, TypeError, AttributeError):
        yield "its sample inputs are no plain tensors"


def _graph_faults(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for item in node:
            yield from _graph_faults(item)
    elif isinstance(node, dict):
        if node.get("guards_code"):
            node = {**node, "guards_code": []}  # never executed: the module is made without its guards
        target = node.get("target")
        if isinstance(target, str) and "inputs" in node and not _is_known(target):
            yield f"it calls {target[:80]!r}"
        text = node.get("expr_str")
        if text is not None and not _is_size(text):
            yield f"it sizes something by {str(text)[:80]!r}"
        for item in node.values():
            yield from _graph_faults(item)


def _is_known(target: str) -> bool:
    return target in _HIGHER or (bool(_OPERATOR.match(target)) and not _FORBIDDEN.match(target))


def _is_size(text: Any) -> bool:
    if not isinstance(text, str):
        return False
    bare = _SYMBOL.sub("s0", text)
    return bool(_EXPRESSION.match(bare)) and all(map(_SIZES.match, _WORDS.findall(bare)))
