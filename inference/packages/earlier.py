"""Keeps a copy of each shipped package, so that a version in use outlives the update of the product that replaces it.

A newer version waits until somebody promotes it. Without the copy the runs of the older one would fail until then.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from inference.packages.package import Package

KEPT = "shipped"  #: folder of the copies, below the data folder


def keep_copy(package: Package, kept: Path) -> Iterator[str]:
    """Copy a package to ``kept``/identifier/version, where it is not there yet; it appears by one rename.

    Where it cannot be written that is said: the package runs all the same, until an update.
    """
    manifest = package.manifest
    place = kept / manifest.id / manifest.version
    if place.is_dir():
        return
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=kept) as folder:
            made = Path(folder, manifest.version)
            shutil.copytree(package.folder, made, ignore=shutil.ignore_patterns("__pycache__"))
            made.chmod(0o755)
            os.rename(made, place)
    except OSError as error:
        if place.is_dir():  # another worker was quicker
            return
        yield (
            f"{place}: {manifest.id}@{manifest.version} cannot be kept ({error.strerror or type(error).__name__}): "
            "after an update that brings another version its runs would fail"
        )
