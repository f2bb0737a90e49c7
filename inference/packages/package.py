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


def open_package(folder: Path, models: Path | None = None) -> Package:
    """Read and verify the package in a folder; weights that are not beside it are looked for in the models folder.

    Raises Misconfigured when the manifest is wrong, or weights are missing or have other content.
    """
    path = folder / MANIFEST
    manifest = load_manifest(path)
    weights = {entry.name: _find(manifest, entry, folder, models) for entry in manifest.weights}
    digest = hashlib.sha256(path.read_bytes())
    for entry in manifest.weights:
        _verify(manifest, entry, weights[entry.name].read_bytes())
        digest.update(f"\n{entry.name} {entry.sha256}".encode())
    return Package(manifest=manifest, digest=digest.hexdigest(), weights=weights, folder=folder)


def _find(manifest: Manifest, entry: Weights, folder: Path, models: Path | None) -> Path:
    places = [folder / entry.file]
    if models is not None:
        places += [models / manifest.id / entry.file, models / entry.file]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise Misconfigured(
            f"{manifest.id} {manifest.version}: its weights are missing. Get {entry.source} and put it at {places[-1]}"
        )
    return found


def _verify(manifest: Manifest, entry: Weights, content: bytes) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != entry.sha256:
        raise Misconfigured(
            f"{manifest.id} {manifest.version}: {entry.file} has other content than its manifest says (SHA-256 "
            f"{found[:12]}…, should be {entry.sha256[:12]}…). Get {entry.source}"
        )
