"""The part of a rule's sheet that says which series of a study it takes: preferences, further inputs, patience."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dicom_node.route.texts import closest
from storage.facts.routing import Origin, span_of

MAX_INPUTS = 12  #: further series of one rule
ROLE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")  #: as packages name their inputs

_ROLE_KEYS = ("role", "when", "prefer", "from")
_SPANS = ("wait", "settle")


def faults(document: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the form of a rule's choice. Conditions are not compiled here."""
    yield from _wrong_lines(document, "")
    given = document.get("inputs") or []
    if not isinstance(given, list):
        yield "inputs is a list: each further series begins with '- role:'"
        given = []
    for at, each in enumerate(given, 1):
        yield from _faults_of_role(each, f"input {at}")
    names = [each["role"] for each in given if isinstance(each, Mapping) and isinstance(each.get("role"), str)]
    yield from (f"two inputs have the role {name!r}" for name in dict.fromkeys(names) if names.count(name) > 1)
    if len(given) > MAX_INPUTS:
        yield f"a rule has at most {MAX_INPUTS} inputs"
    for key in _SPANS:
        if key in document and not (document.get("prefer") or given):
            yield f"{key} means something only where the rule has prefer or inputs"
        try:
            span_of(str(document.get(key, "1s")))
        except ValueError as error:
            yield f"{key}: {error}"


def _faults_of_role(document: Any, place: str) -> Iterator[str]:
    if not isinstance(document, Mapping):
        yield f"{place} is no input: it has no role and when"
        return
    yield from unknown(document, _ROLE_KEYS, f"{place}: ")
    for key in ("role", "when"):
        if not isinstance(document.get(key), str) or not document[key].strip():
            yield f"{place}: {key} is a text"
    if isinstance(document.get("role"), str) and not ROLE_NAME.fullmatch(document["role"]):
        yield f"{place}: a role is named in small letters, digits and '_', such as flair"
    if document.get("from", Origin.STUDY.value) not in [origin.value for origin in Origin]:
        yield f"{place}: from is one of {', '.join(Origin)}, not {document['from']!r}"
    yield from _wrong_lines(document, f"{place}: ")


def _wrong_lines(document: Mapping[str, Any], place: str) -> Iterator[str]:
    prefer = document.get("prefer") or []
    if isinstance(prefer, str):
        return
    if not isinstance(prefer, list) or not all(isinstance(each, str) and each.strip() for each in prefer):
        yield f"{place}prefer is a list of texts; put what has a colon or begins with '!' in quotes"


def unknown(document: Mapping[str, Any], known: Sequence[str], place: str) -> Iterator[str]:
    """Keys that a sheet does not have, with the one that was probably meant."""
    for key in document:
        if key not in known:
            close = closest(str(key), known)
            hint = f"Did you mean {close}?" if close else f"Known: {', '.join(known)}."
            yield f"{place}there is no {key!r}. {hint}"


def listed(document: Mapping[str, Any]) -> dict[str, Any]:
    """The choice of a sheet without faults as ``rule_document`` has it."""
    inputs = [
        dict(role) | {"prefer": _lines(role), "when": role["when"].strip()} for role in document.get("inputs") or ()
    ]
    return {"prefer": _lines(document), "inputs": inputs}


def _lines(document: Mapping[str, Any]) -> list[str]:
    given = document.get("prefer") or []
    return [given] if isinstance(given, str) else list(given)
