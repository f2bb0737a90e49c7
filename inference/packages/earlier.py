"""Keeps a copy of each shipped package, so that a version in use outlives the update of the product that replaces it.

A newer version waits until somebody promotes it. Without the copy the runs of the older one would fail until then. The
copy has its weights too, wherever they lie: those that a new version needs may have to be put in their place.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from inference.packages.package import Package, has_content
from storage.facts.errors import Misconfigured, Transient

KEPT = "shipped"  #: folder of the copies, below the data folder


def keep_copy(package: Package, kept: Path) -> Iterator[str]:
    """Copy a package to ``kept``/identifier/version, where it is not there yet; it appears by one rename.

    A copy without its weights, as earlier releases made them, is completed. Where it cannot be written that is said:
    the package runs all the same, until an update.
    """
    manifest = package.manifest
    place = kept / manifest.id / manifest.version
    try:
        if not place.is_dir():
            _copy(package, place, kept)
        _add_weights(package, place)
    except OSError as error:
        yield (
            f"{place}: {manifest.id}@{manifest.version} cannot be kept ({error.strerror or type(error).__name__}): "
            "after an update that brings another version its runs would fail"
        )
    except (Misconfigured, Transient) as error:  # its weights were changed since they were verified
        yield str(error)


def _copy(package: Package, place: Path, kept: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=kept) as folder:
        made = Path(folder, package.manifest.version)
        shutil.copytree(package.folder, made, ignore=shutil.ignore_patterns("__pycache__"))
        made.chmod(0o755)
        try:
            os.rename(made, place)
        except OSError:
            if not place.is_dir():  # else another worker was quicker
                raise


def _add_weights(package: Package, folder: Path) -> None:
    """Those that the folder does not have; each appears by one rename."""
    for entry in package.manifest.weights:
        path = folder / entry.file
        if has_content(path, entry):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as made:
            whole = Path(made, "weights")
            with whole.open("wb") as file:
                file.write(package.read_weights(entry.name))
                file.flush()
                os.fsync(file.fileno())
            os.replace(whole, path)
