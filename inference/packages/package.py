"""An opened model package: its manifest, its verified weights, and one digest over both."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from inference.packages.manifest import Manifest, Weights, load_manifest
from storage.facts.errors import Misconfigured, Transient
from storage.facts.prediction import Algorithm

MANIFEST = "model.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """What a run needs to know about its model."""

    manifest: Manifest
    digest: str  #: SHA-256 over the manifest's bytes and the weights' digests, hexadecimal
    weights: Mapping[str, Path]  #: by the name that the algorithm uses
    folder: Path  #: where its manifest lies

    def read_weights(self, name: str) -> bytes:
        """One weights file, whose digest is verified on the very bytes that are returned.

        Raises Misconfigured when the manifest names no such weights or they changed on disk, Transient when they
        cannot be read now.
        """
        entry = next((w for w in self.manifest.weights if w.name == name), None)
        if entry is None:
            raise Misconfigured(f"{self.manifest.id}: its algorithm needs weights named {name}: add them to {MANIFEST}")
        try:
            content = self.weights[name].read_bytes()
        except OSError as error:
            raise Transient(f"{self.weights[name]} cannot be read: {error.strerror}") from error
        _verify(self.manifest, entry, content)
        return content

    def algorithm(self) -> Algorithm:
        """Who computed it, for the report (TID 4019)."""
        manifest = self.manifest
        weights = tuple((f"{w.name} weights SHA-256", w.sha256) for w in manifest.weights)
        return Algorithm(
            package=manifest.id,
            version=manifest.version,
            name=manifest.title,
            manufacturer=manifest.manufacturer,
            family=manifest.family.code(),
            digest=self.digest,
            parameters=(*manifest.parameters.items(), *weights),
            research=manifest.research,
            intended_use=manifest.intended_use,
        )


def open_package(folder: Path, models: Path | None = None, kept: Path | None = None) -> Package:
    """Read and verify the package in a folder.

    Weights that are not beside it are looked for in the models folder, then among the copies ``kept`` of versions that
    were shipped before: an update often brings a version with the same weights. Only the pinned content counts. Raises
    Misconfigured when the manifest is wrong, or weights are missing, cannot be read or have other content.
    """
    path = folder / MANIFEST
    manifest = load_manifest(path)
    weights = {}
    digest = hashlib.sha256(path.read_bytes())
    for entry in manifest.weights:
        weights[entry.name] = _find(manifest, entry, folder, (models, kept))
        digest.update(f"\n{entry.name} {entry.sha256}".encode())
    return Package(manifest=manifest, digest=digest.hexdigest(), weights=weights, folder=folder)


def has_content(path: Path, entry: Weights) -> bool:
    """Whether the file is there with the content that the manifest pins. Raises OSError when it cannot be read."""
    return path.is_file() and _digest_of(path) == entry.sha256


def _find(manifest: Manifest, entry: Weights, folder: Path, others: tuple[Path | None, Path | None]) -> Path:
    models, kept = others
    places = [folder / entry.file]
    if models is not None:
        places += [models / manifest.id / entry.file, models / entry.file]
    earlier = [] if kept is None else _files_kept(kept / manifest.id, entry)
    try:
        found = next((place for place in (*places, *earlier) if has_content(place, entry)), None)
        wrong = None if found else next((place for place in places if place.is_file()), None)
        digest = _digest_of(wrong) if wrong else ""
    except OSError as error:
        raise Misconfigured(
            f"{manifest.id} {manifest.version}: weights at {error.filename} cannot be read: {error.strerror}"
        ) from error
    if found is not None:
        return found
    if models is None:
        todo = f"put it beside {MANIFEST} as {entry.file}"
    else:  # of a copy beside it: in the models folder may be what a later version needs
        is_copy = kept is not None and folder.is_relative_to(kept)
        todo = f"put it at {places[0] if is_copy else wrong or places[1]}, then restart the node"
    if any(path.name == Path(entry.file).name and not path.is_relative_to(folder) for path in earlier):
        todo += " (other versions keep copies of their own)"
    if wrong is not None:
        raise _other_content(manifest, entry, digest, f" and {todo}")
    raise Misconfigured(f"{manifest.id} {manifest.version}: its weights are missing. Get {entry.source} and {todo}")


def _files_kept(folder: Path, entry: Weights) -> list[Path]:
    """What the copies of a package's versions hold besides their manifests; first the files that have its name."""
    files = [path for path in sorted(folder.glob("[!.]*/**/*")) if path.is_file() and path.name != MANIFEST]
    return sorted(files, key=lambda path: path.name != Path(entry.file).name)


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify(manifest: Manifest, entry: Weights, content: bytes) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != entry.sha256:
        raise _other_content(manifest, entry, found)


def _other_content(manifest: Manifest, entry: Weights, found: str, more: str = "") -> Misconfigured:
    return Misconfigured(
        f"{manifest.id} {manifest.version}: {entry.file} has other content than its manifest says (SHA-256 "
        f"{found[:12]}…, should be {entry.sha256[:12]}…). Get {entry.source}{more}"
    )
