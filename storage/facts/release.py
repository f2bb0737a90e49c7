"""The life of a model package: its versions, the proofs that they work, and which one is in use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

WAIVED = "without self-test"  #: in the evidence of a release: why a version that brings none is used all the same


class Move(StrEnum):
    """Why the version in use changed."""

    FIRST = "first"  #: the first version of its package: there was nothing that it could have replaced
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"
    WITHDRAWN = "withdrawn"  #: the last version was retired: nothing is in use


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A change of the version that rules without a version get. Releases are added, never changed."""

    number: int  #: from 1, over all packages
    package: str
    version: str  #: empty when the package was withdrawn
    before: str  #: version that was in use until then; empty for none
    move: Move
    reason: str
    author: str
    evidence: Mapping[str, Any]  #: what was shown to whoever decided
    restores: int | None = None  #: the release that it put back
    at: float = 0.0  #: seconds since the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptProof:
    """What came of proving a package on one device."""

    device: str
    passed: bool
    document: Mapping[str, Any]  #: the self-test, the variants that may be used, memory (bytes) and time (seconds)
    at: float = 0.0  #: seconds since the epoch


class Trial(StrEnum):
    """What a version was put to at this installation, besides its proof."""

    VALIDATED = "validated"  #: on studies whose truth is known
    BENCHMARKED = "benchmarked"  #: its time and memory on a device


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTrial:
    """What came of a trial of a version. Trials are rows of the audit trail: added, never changed."""

    trial: Trial
    package: str
    version: str
    document: Mapping[str, Any]  #: what was found, as plain data
    author: str
    at: float  #: seconds since the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageVersion:
    """One version of a package, with everything that is known of it."""

    package: str
    version: str
    digest: str
    title: str
    manifest: Mapping[str, Any]
    registered_at: float  #: seconds since the epoch
    origin: str = ""  #: how it came: the file that was added, what it was imported from; empty: found by a worker
    signer: str = ""  #: name of the trusted key that signed it
    files: Mapping[str, str] | None = None  #: SHA-256 of each file, where it was added by command
    report: str = ""  #: text of the validation report in the package
    retired_at: float | None = None  #: seconds since the epoch; None while it may be used
    retired_reason: str = ""
    stable: bool = False  #: rules without a version get it
    proofs: tuple[KeptProof, ...] = ()

    @property
    def reference(self) -> str:
        """How rules name it."""
        return f"{self.package}@{self.version}"

    @property
    def has_self_test(self) -> bool:
        """Whether it brings a case whose answer is known."""
        return bool(self.manifest.get("selftest"))

    @property
    def doubt(self) -> str:
        """Why no self-test vouches for this very content at this installation; empty where one does."""
        if not self.has_self_test:
            return "it brings no self-test"
        if not self.proofs:
            return "its self-test was never run at this installation"
        current = [proof for proof in self.proofs if proof.document.get("digest") == self.digest]
        if not current:
            return "its self-test was run on other content than it has now"
        if not any(proof.passed and proof.document.get("tested") for proof in current):
            return f"its self-test did not pass on {', '.join(proof.device for proof in current)}"
        return ""
