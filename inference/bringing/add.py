"""From what somebody sent to a verified package in the models folder: taken in, checked, signed, proved, then moved.

Nothing is seen by workers before all of it holds: the work is done in ``.incoming``, and the package appears under its
identifier and version by one rename.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.bringing.archive import Bounds, take_in
from inference.bringing.pins import pin
from inference.packages.package import MANIFEST, Package, open_package
from inference.packages.signature import SIGNATURE, listing, signer
from storage.facts.errors import Misconfigured, Transient

INCOMING = ".incoming"  #: below the models folder, on the same file system
_LONGEST_REPORT = 200_000  #: characters of a validation report that are kept with the registration

#: Proves the package in a folder, returns what came of it as plain data; raises Misconfigured when it does not work.
Prove = Callable[[Path], Mapping[str, Any]]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Whose packages are taken."""

    keys: Path | None = None  #: folder of public keys; None: signatures are not looked at
    required: bool = False  #: packages without a signature are refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """A package that is in the models folder now, as it is to be registered."""

    folder: Path
    package: Package
    origin: str
    signer: str
    files: Mapping[str, str]
    report: str
    proof: Mapping[str, Any]

    def document(self) -> dict[str, Any]:
        """As plain data for the command that registers it."""
        manifest = self.package.manifest
        return {
            "package": manifest.id,
            "version": manifest.version,
            "digest": self.package.digest,
            "title": manifest.title,
            "manifest": manifest.model_dump(mode="json"),
            "folder": str(self.folder),
            "origin": self.origin,
            "signer": self.signer,
            "files": dict(self.files),
            "report": self.report,
            "proof": dict(self.proof),
        }


def bring(source: Path, models: Path, trust: Trust, prove: Prove, say: Say = print) -> Brought:
    """Bring a package, folder or ZIP, into the models folder.

    Raises Misconfigured with what is wrong with it, Transient when the disk is full or cannot be written. In either
    case the models folder is as it was.
    """
    work = models / INCOMING / uuid.uuid4().hex
    try:
        folder = take_in(source, work / "package", Bounds())
        say(f"taken in: {source}")
        package, files, by = _checked(folder, source, trust, say)
        place = _place(models, package)
        proof = prove(folder)
        if not proof.get("passed"):
            faults = "\n  ".join(str(fault) for fault in proof.get("faults", ())) or "its self-test failed"
            raise Misconfigured(f"{source}: it does not work on {proof.get('device', 'this device')}:\n  {faults}")
        say(f"proved on {proof.get('device', 'cpu')}")
        if listing(folder) != files:
            raise Misconfigured(f"{source}: its files were changed while it was proved: it is not taken")
        return Brought(
            folder=_move(folder, place),
            package=open_package(place),
            origin=source.name,
            signer=by,
            files=files,
            report=_report(package, place),
            proof=proof,
        )
    except OSError as error:
        raise Transient(f"{models} cannot be written: {error.strerror or type(error).__name__}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _checked(folder: Path, source: Path, trust: Trust, say: Say) -> tuple[Package, dict[str, str], str]:
    """The opened package, its files, and who signed it."""
    if not (folder / MANIFEST).is_file():
        raise Misconfigured(f"{source}: there is no {MANIFEST} in it{_foreign(folder)}")
    is_signed = (folder / SIGNATURE).exists()
    if trust.required and not is_signed:
        raise Misconfigured(
            f"{source}: it is not signed, and workers.require_signature asks for it: let its maker sign it "
            "(`dicom-node models sign`)"
        )
    if not is_signed:
        for file in pin(folder):
            say(f"pinned: {file}")
    package = open_package(folder)
    files = listing(folder)
    by = signer(folder, trust.keys, files)
    if is_signed and not by:
        say("signed, but workers.trusted_keys names no keys to verify that with")
    if trust.required and not by:
        raise Misconfigured("workers.require_signature needs workers.trusted_keys: name the folder of trusted keys")
    say(f"checked: {package.manifest.id}@{package.manifest.version} {package.digest[:12]}{by and f', signed by {by}'}")
    return package, files, by


def _foreign(folder: Path) -> str:
    """What it may be instead."""
    if (folder / "plans.json").exists() and (folder / "dataset.json").exists():
        return ", but it is an nnU-Net folder: `dicom-node models import` makes a package of it"
    if (folder / "configs" / "metadata.json").exists():
        return ", but it is a MONAI bundle: `dicom-node models import` makes a package of it"
    return ": see docs/models.md"


def _place(models: Path, package: Package) -> Path:
    manifest = package.manifest
    for place in (models / manifest.id / manifest.version, models / manifest.id):
        if not (place / MANIFEST).is_file():
            continue
        try:
            there = open_package(place, models)
        except Misconfigured as error:
            raise Misconfigured(f"{place} is there already and is faulty: mend or remove it first ({error})") from error
        if there.manifest.version == manifest.version:
            same = "the same" if there.digest == package.digest else "other"
            raise Misconfigured(
                f"{manifest.id}@{manifest.version} is in {place} already, with {same} content: "
                + ("there is nothing to do" if same == "the same" else "give the changed package a new version")
            )
    place = models / manifest.id / manifest.version
    if place.exists():
        raise Misconfigured(f"{place} is there already, without {MANIFEST}: remove it first")
    return place


def _move(folder: Path, place: Path) -> Path:
    """The one step that makes it visible."""
    place.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(place)
    handle = os.open(place.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    return place


def _report(package: Package, place: Path) -> str:
    """Text of the validation report that the manifest names, or that has the usual name."""
    for name in (getattr(package.manifest, "validation", None), "validation.md", "VALIDATION.md"):
        path = place / str(name)
        if name and path.resolve().is_relative_to(place.resolve()) and path.is_file():
            return path.read_text(encoding="utf-8", errors="replace")[:_LONGEST_REPORT]
    return ""
