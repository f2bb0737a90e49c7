"""What an installation is set up to do: rules, their verdicts, model packages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from storage.facts.study import Urgency


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A routing rule as it is kept; what its expression means is the router's business."""

    name: str
    expression: str
    package: str  #: package identifier, or identifier@version
    destinations: tuple[str, ...]
    urgency: Urgency = Urgency.ROUTINE
    enabled: bool = True
    position: int = 0  #: order of evaluation; 0 when new: placed last


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Why a rule did or did not match one revision of a series."""

    rule: str
    matched: bool
    explanation: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredPackage:
    """A model package that a worker has verified."""

    package: str
    version: str
    digest: str
    title: str
    manifest: Mapping[str, Any]
