"""Takes a foreign model, folder or ZIP, and writes the package that it makes into an empty folder."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from inference.bringing import bundle, nnunet
from inference.bringing.archive import take_in
from inference.packages.manifest import Manifest
from inference.packages.package import open_package
from storage.facts.errors import Misconfigured, Transient


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a person adds to what the model's files say; empty where they say it."""

    identifier: str = ""
    version: str = ""
    modality: str = ""
    licence: str = ""
    orientation: str = ""  #: of an nnU-Net's training images
    folds: tuple[str, ...] = ()


def import_model(source: Path, target: Path, wishes: Wishes) -> Manifest:
    """Write the package of a MONAI bundle or an nnU-Net v2 folder into ``target``, which must not exist.

    Raises Misconfigured when the source is neither, or cannot be said in our form; then ``target`` does not exist.
    """
    if target.exists():
        raise Misconfigured(f"{target} is there already: name a folder that is not")
    with tempfile.TemporaryDirectory(prefix="import-") as place:
        found = _found(take_in(source, Path(place, "source")), source)
        made = Path(place, "package")
        made.mkdir()
        if bundle.is_bundle(found):
            asked = bundle.Asked(
                identifier=wishes.identifier, version=wishes.version, modality=wishes.modality, licence=wishes.licence
            )
            manifest = bundle.import_bundle(found, made, asked)
        else:
            manifest = nnunet.import_nnunet(
                found,
                made,
                nnunet.Asked(
                    orientation=wishes.orientation,
                    identifier=wishes.identifier,
                    version=wishes.version or "1.0.0",
                    modality=wishes.modality,
                    folds=wishes.folds,
                    licence=wishes.licence,
                ),
            )
        open_package(made)
        try:
            shutil.move(made, target)
        except OSError as error:
            raise Transient(f"{target} cannot be written: {error.strerror}") from error
    return manifest


def _found(folder: Path, source: Path) -> Path:
    """The one model below the folder."""
    there = [path.parent.parent for path in sorted(folder.rglob("configs/metadata.json"))]
    there += [path.parent for path in sorted(folder.rglob("plans.json")) if nnunet.is_nnunet(path.parent)]
    if not there:
        raise Misconfigured(f"{source}: no MONAI bundle (configs/metadata.json) and no nnU-Net v2 folder (plans.json)")
    if len(there) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in there)
        raise Misconfigured(f"{source} holds several models: name the folder of one of them ({names})")
    return there[0]
