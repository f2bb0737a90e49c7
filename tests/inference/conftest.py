"""What the tests of the model wing share."""

from __future__ import annotations

from pathlib import Path

import pytest

from inference.packages.package import Package, open_package
from inference.packages.store import SHIPPED
from tests.inference.series import REAL_WEIGHTS, Studies, small_networks


@pytest.fixture(scope="session")
def small_brain(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """The shipped brain package with two small networks in place of its weights, and coarse voxels allowed."""
    folder = tmp_path_factory.mktemp("models") / "brain-t1"
    digests = small_networks(folder)
    text = (SHIPPED / "brain-t1" / "model.toml").read_text(encoding="utf-8")
    for name, digest in REAL_WEIGHTS.items():
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


@pytest.fixture(scope="session")
def studies(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Studies:
    """The real studies, unpacked when first asked for."""
    return Studies(shared_data, tmp_path_factory.mktemp("studies"))
