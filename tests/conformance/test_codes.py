"""A code means what we say it means: compared with the context groups of PS3.16, as pydicom has them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydicom.sr import _concepts_dict

from dicom_node.results import coding
from inference.bringing import organs
from storage.facts.prediction import Code

ROOT = Path(__file__).parents[2]
#: SNOMED CT concepts that no context group of PS3.16 lists, with their fully specified names.
ELSEWHERE = {
    "3341006": "Right lung structure (body structure)",
    "44029006": "Left lung structure (body structure)",
    "9846003": "Right kidney structure (body structure)",
    "18639004": "Left kidney structure (body structure)",
    "87433001": "Pulmonary emphysema (disorder)",
    "441457006": "Cyst (disorder)",
}
#: The same concept in other words than those of the context groups.
SYNONYMS = {"276214006", "260870009", "260753009", "64957009", "69748006", "89837001"}


def known() -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for scheme, names in _concepts_dict.concepts.items():
        for codes in names.values():
            for value, (meaning, *_) in codes.items():
                found.setdefault((scheme, value), set()).add(meaning.casefold())
    return found


def of_manifest(node: Any) -> Iterator[Code]:
    if isinstance(node, Mapping):
        if {"value", "scheme", "meaning"} <= set(node):
            yield Code(value=node["value"], scheme=node["scheme"], meaning=node["meaning"])
        for each in node.values():
            yield from of_manifest(each)
    elif isinstance(node, list):
        for each in node:
            yield from of_manifest(each)


def used() -> Iterator[tuple[str, Code]]:
    for name, value in vars(coding).items():
        if isinstance(value, Code):
            yield f"coding.{name}", value
    for name in (*organs._STRUCTURES, *organs._LESIONS):
        for code in of_manifest(organs.segment_entry(1, name)):
            yield f"organs, {name}", code
    for path in sorted((ROOT / "inference" / "shipped").glob("*/model.toml")):
        for code in of_manifest(tomllib.loads(path.read_text(encoding="utf-8"))):
            yield path.parent.name, code


def public() -> list[Any]:
    found = {(code.scheme, code.value, code.meaning): (where, code) for where, code in used()}
    return [
        pytest.param(code, id=f"{where}-{code.value}")
        for where, code in found.values()
        if code.scheme in ("SCT", "DCM", "LN")
    ]


@pytest.mark.parametrize("code", public())
def test_a_public_code_means_what_we_say(code: Code) -> None:
    meanings = known().get((code.scheme, code.value))
    if meanings is None:
        assert code.scheme == "SCT"
        assert ELSEWHERE[code.value].casefold().startswith(code.meaning.casefold())
    elif code.value in SYNONYMS:
        assert any(set(code.meaning.casefold().split()) & set(each.split()) for each in meanings)
    else:
        assert code.meaning.casefold() in meanings


def test_our_own_codes_say_that_they_are_ours() -> None:
    for where, code in used():
        assert code.scheme in ("SCT", "DCM", "LN", "UCUM", "IBSI") or code.scheme.startswith("99"), (where, code)
