"""Finds the model packages of an installation: shipped ones, those in its models folder, and earlier shipped ones."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from inference.config import WorkerConfig
from inference.packages.earlier import KEPT
from inference.packages.package import MANIFEST, Package, open_package
from inference.packages.signature import SIGNATURE, signer
from storage.facts.errors import Misconfigured

SHIPPED = Path(__file__).resolve().parents[1] / "shipped"


class PackageStore:
    """All packages that can be run, and what is wrong with the others.

    ``packages``: verified packages, ordered by identifier and version. ``faults``: one text for each other one. With
    ``trusted``, a folder of public keys, a package of the models folder must be signed by one of them; what is shipped
    is part of the product and needs no signature. ``kept`` holds copies of what was shipped, for the versions that are
    nowhere else, and for weights that a new version shares with them; only the ledger can tell whether the versions are
    what was registered.
    """

    def __init__(
        self, models: Path, shipped: Path = SHIPPED, trusted: Path | None = None, kept: Path | None = None
    ) -> None:
        self.packages: tuple[Package, ...]
        self.faults: tuple[str, ...]
        found: dict[tuple[str, str], Package] = {}
        faults: list[str] = []
        for folder in (*_folders(shipped), *_folders(models)):
            try:
                if trusted is not None and not folder.is_relative_to(shipped):
                    _require_signature(folder, trusted)
                package = open_package(folder, models, kept)
                key = (package.manifest.id, package.manifest.version)
                if key in found:
                    raise Misconfigured(f"{folder}: package {key[0]} {key[1]} is there twice: remove one of them")
            except Misconfigured as error:
                faults.append(str(error))
                continue
            found[key] = package
        for package in _earlier(kept, models, found, faults):
            found[package.manifest.id, package.manifest.version] = package
        self.packages = tuple(found[key] for key in sorted(found))
        self.faults = tuple(faults)

    def get(self, package: str, version: str | None = None) -> Package:
        """A package, by default its highest version. Raises Misconfigured when it is not there."""
        found = [p for p in self.packages if p.manifest.id == package and version in (None, p.manifest.version)]
        if not found:
            known = ", ".join(f"{p.manifest.id}@{p.manifest.version}" for p in self.packages) or "none"
            raise Misconfigured(f"there is no package {package}{f'@{version}' if version else ''} (there: {known})")
        return max(found, key=lambda p: tuple(map(int, p.manifest.version.split("."))))


def store_of(config: WorkerConfig) -> PackageStore:
    """The packages of a worker."""
    return PackageStore(config.models, SHIPPED, trusted=config.required_keys, kept=config.data / KEPT)


def _earlier(
    kept: Path | None, models: Path, found: Collection[tuple[str, str]], faults: list[str]
) -> Iterator[Package]:
    """Copies of shipped packages whose versions are not there otherwise."""
    for folder in () if kept is None else _folders(kept):
        named = (folder.parent.name, folder.name)
        if named in found:
            continue
        try:
            package = open_package(folder, models, kept)
            if (package.manifest.id, package.manifest.version) != named:
                raise Misconfigured(f"{folder} holds {package.manifest.id} {package.manifest.version}: remove it")
        except Misconfigured as error:
            faults.append(f"{error} (kept from before an update: remove {folder} where no rule needs it)")
            continue
        yield package


def _folders(root: Path) -> Iterator[Path]:
    """Folders below the root, or one level deeper (package/version), that hold a manifest; not those with a dot."""
    for pattern in (f"[!.]*/{MANIFEST}", f"[!.]*/[!.]*/{MANIFEST}"):
        yield from (path.parent for path in sorted(root.glob(pattern)))


def _require_signature(folder: Path, trusted: Path) -> None:
    if not (folder / SIGNATURE).is_file():
        raise Misconfigured(
            f"{folder}: the package is not signed, and workers.require_signature asks for it: let its maker sign it, "
            "or remove it"
        )
    signer(folder, trusted)
