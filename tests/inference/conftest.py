"""What the tests of the model wing share."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from inference.packages.package import Package, open_package
from inference.packages.store import SHIPPED
from tests.inference.series import small_networks

REAL = {
    "bbox_model.pt": "39a7b2b5f799faa1391ea97bfcdc0b9299f20d84f2316a4ff8918dc4685e40aa",
    "model.pt": "de8ee7c69654d0dd3935dc4a5d84571d8ecf4637a6bfc01df399c4c2bc86e0fd",
}


@pytest.fixture(scope="session")
def small_brain(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """The shipped brain package with two small networks in place of its weights, and coarse voxels allowed."""
    folder = tmp_path_factory.mktemp("models") / "brain-t1"
    digests = small_networks(folder)
    text = (SHIPPED / "brain-t1" / "model.toml").read_text(encoding="utf-8")
    for name, digest in REAL.items():
        assert digest in text
        text = text.replace(digest, digests[name])
    for limit in ("max = 3.0 }", "max = 2.0 }"):
        text = text.replace(limit, "max = 5.0 }")
    (folder / "model.toml").write_text(text, encoding="utf-8")
    return open_package(folder)


@pytest.fixture(scope="session")
def lung_package() -> Package:
    """The shipped lung package, which has no weights."""
    return open_package(SHIPPED / "ct-lung-densitometry")


class Studies:
    """Files of a real study by the name of its archive."""

    def __init__(self, data: Path, folder: Path) -> None:
        self._data, self._folder = data, folder

    def __call__(self, name: str) -> list[Path]:
        """Its DICOM files."""
        folder = self._folder / name
        if not folder.exists():
            with zipfile.ZipFile(self._data / "studies" / f"{name}.zip") as archive:
                archive.extractall(folder)
        return [path for path in sorted(folder.rglob("*")) if path.is_file() and _is_dicom(path)]


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


@pytest.fixture(scope="session")
def studies(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Studies:
    """The real studies, unpacked when first asked for."""
    return Studies(shared_data, tmp_path_factory.mktemp("studies"))
