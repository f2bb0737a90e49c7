"""A package comes into the models folder whole, checked and proved, or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from inference.bringing.add import Trust, bring
from inference.bringing.pins import pin
from inference.packages.package import open_package
from inference.packages.signature import sign
from inference.packages.store import PackageStore
from storage.facts.errors import Misconfigured
from tests.inference.bringing.making import WEIGHTS, key_pair, of_version, package


def works(_folder: Path) -> Mapping[str, Any]:
    return {"device": "cpu", "passed": True}


def quiet(_text: str) -> None:
    pass


def left(models: Path) -> list[str]:
    """Files of the models folder."""
    return sorted(p.relative_to(models).as_posix() for p in models.rglob("*") if p.is_file())


def test_a_package_lands_under_its_identifier_and_version_and_can_be_found(tmp_path: Path) -> None:
    models = tmp_path / "models"
    brought = bring(package(tmp_path / "sent"), models, Trust(), works, quiet)
    bring(package(tmp_path / "newer", change=of_version("1.1.0")), models, Trust(), works, quiet)

    assert left(models) == [
        "small/1.0.0/model.toml", "small/1.0.0/net.bin", "small/1.1.0/model.toml", "small/1.1.0/net.bin",
    ]  # fmt: skip
    store = PackageStore(models, shipped=tmp_path / "none")
    assert store.packages[0].digest == brought.package.digest
    assert not store.faults
    assert brought.document()["files"]["net.bin"] == hashlib.sha256(WEIGHTS).hexdigest()


def test_what_is_not_pinned_is_pinned_and_the_rest_of_the_manifest_stays(tmp_path: Path) -> None:
    folder = package(tmp_path / "sent", pinned=False)
    before = (folder / "model.toml").read_text()

    assert pin(folder) == ("net.bin",)

    after = (folder / "model.toml").read_text()
    assert [line for line in after.splitlines() if "sha256" not in line] == before.splitlines()
    assert open_package(folder).read_weights("net") == WEIGHTS
    assert pin(folder) == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("modality =", "modalty ="), "did you mean modality"),
        (lambda text: text.replace('file = "net.bin"', 'file = "other.bin"'), "weights are missing"),
        (lambda text: text.replace("plausible = [0.0, 100.0]", "plausible = [1.0, 0.0]"), "least, greatest"),
    ],
)
def test_a_faulty_package_leaves_nothing_behind(tmp_path: Path, change: Any, words: str) -> None:
    with pytest.raises(Misconfigured, match=words):
        bring(package(tmp_path / "sent", change=change), tmp_path / "models", Trust(), works, quiet)
    assert left(tmp_path / "models") == []


def test_a_package_whose_proof_fails_is_not_taken(tmp_path: Path) -> None:
    def fails(_folder: Path) -> Mapping[str, Any]:
        return {"device": "cpu", "passed": False, "faults": ["segment 1: Dice 0.2"]}

    def meddles(folder: Path) -> Mapping[str, Any]:
        (folder / "more.py").write_text("print()")
        return works(folder)

    for prove, words in ((fails, "Dice 0.2"), (meddles, "changed while it was proved")):
        with pytest.raises(Misconfigured, match=words):
            bring(package(tmp_path / words[:4]), tmp_path / "models", Trust(), prove, quiet)
    assert left(tmp_path / "models") == []


def test_a_version_is_never_replaced(tmp_path: Path) -> None:
    models = tmp_path / "models"
    bring(package(tmp_path / "a"), models, Trust(), works, quiet)
    with pytest.raises(Misconfigured, match="with the same content: there is nothing to do"):
        bring(package(tmp_path / "b"), models, Trust(), works, quiet)
    with pytest.raises(Misconfigured, match="with other content: give the changed package a new version"):
        bring(package(tmp_path / "c", change=lambda t: t + "# x\n"), models, Trust(), works, quiet)
    (tmp_path / "empty").mkdir()
    with pytest.raises(Misconfigured, match=r"there is no model\.toml in it"):
        bring(tmp_path / "empty", models, Trust(), works, quiet)


def test_signatures_are_asked_for_verified_and_refused(tmp_path: Path) -> None:
    key, trusted = key_pair(tmp_path / "keys", "site")
    stranger, _ = key_pair(tmp_path / "elsewhere", "stranger")
    models, trust = tmp_path / "models", Trust(keys=trusted, required=True)

    with pytest.raises(Misconfigured, match="not signed"):
        bring(package(tmp_path / "bare"), models, trust, works, quiet)
    foreign = package(tmp_path / "foreign")
    sign(foreign, stranger)
    with pytest.raises(Misconfigured, match="made by no trusted key"):
        bring(foreign, models, trust, works, quiet)
    altered = package(tmp_path / "altered")
    sign(altered, key)
    (altered / "model.toml").write_text((altered / "model.toml").read_text() + "# more\n")
    with pytest.raises(Misconfigured, match="changed after it was signed"):
        bring(altered, models, trust, works, quiet)
    assert left(models) == []

    good = package(tmp_path / "good")
    sign(good, key)
    assert bring(good, models, trust, works, quiet).signer == "site"


def test_where_signatures_are_asked_for_a_worker_takes_no_package_without(tmp_path: Path) -> None:
    key, trusted = key_pair(tmp_path / "keys", "site")
    models = tmp_path / "models"
    sign(package(models / "good"), key)
    package(models / "bare", change=lambda text: text.replace('id = "small"', 'id = "bare"'))
    package(models / ".incoming" / "half", change=lambda text: text.replace('id = "small"', 'id = "half"'))

    store = PackageStore(models, shipped=tmp_path / "none", trusted=trusted)

    assert [p.manifest.id for p in store.packages] == ["small"]
    assert len(store.faults) == 1
    assert "bare: the package is not signed" in store.faults[0]
