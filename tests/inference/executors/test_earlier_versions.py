"""An update of the product brings a newer version of a shipped package: the one in use goes on until it is replaced."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from inference.packages.earlier import KEPT
from inference.worker import Worker
from storage.facts.prediction import Status
from tests.inference.executors.rig import Rig, write_package


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the product ships."""
    folder = tmp_path / "product"
    for module in ("inference.packages.store", "inference.worker"):
        monkeypatch.setattr(f"{module}.SHIPPED", folder)
    return folder


def update(shipped: Path, version: str) -> None:
    """Another version of the product, in the place of the one before."""
    shutil.rmtree(shipped, ignore_errors=True)
    write_package(shipped, "good", version=version, weights=b"net")


def register(rig: Rig) -> list[str]:
    """What a worker that starts has to say."""
    return list(Worker(rig.config(), rig.ledger).register())


def in_use(rig: Rig) -> str:
    with rig.ledger.begin_reading() as tx:
        return tx.catalogue.package_version("good").version


def test_the_version_in_use_runs_after_an_update_that_ships_another(rig: Rig, shipped: Path) -> None:
    update(shipped, "1.0.0")
    assert register(rig) == []
    update(shipped, "1.1.0")
    rig.ask("1", "good")

    with rig.working():
        rig.wait_over(["1"])

    said = rig.said("1")
    assert (said.status, said.algorithm.version, in_use(rig)) == (Status.SUCCEEDED, "1.0.0", "1.0.0")
    with rig.ledger.begin_reading() as tx:
        assert [v.version for v in tx.catalogue.package_versions("good")] == ["1.0.0", "1.1.0"]
    assert sorted(path.name for path in (rig.ledger.data / KEPT / "good").iterdir()) == ["1.0.0", "1.1.0"]


def test_a_copy_counts_only_if_it_is_what_was_registered(rig: Rig, shipped: Path) -> None:
    update(shipped, "1.0.0")
    register(rig)
    update(shipped, "1.1.0")
    kept = rig.ledger.data / KEPT
    write_package(kept, "stranger")
    changed = kept / "good" / "1.0.0" / "model.toml"
    changed.write_text(changed.read_text(encoding="utf-8") + "\n# changed\n", encoding="utf-8")

    faults = register(rig)

    assert sorted(fault.split(" ")[0:2] for fault in faults) == [["package", "good@1.0.0"], ["there", "is"]]
    assert any("registered with other content" in fault for fault in faults)
    with rig.ledger.begin_reading() as tx:
        assert {v.package for v in tx.catalogue.package_versions()} == {"good"}


def test_a_copy_that_cannot_be_read_any_more_is_named_and_hides_no_other(rig: Rig, shipped: Path) -> None:
    update(shipped, "1.0.0")
    register(rig)
    update(shipped, "1.1.0")
    (rig.ledger.data / KEPT / "good" / "1.0.0" / "net.bin").write_bytes(b"other")

    (fault,) = register(rig)

    assert "other content than its manifest says" in fault
    assert "kept from before an update" in fault


def test_where_no_copy_can_be_kept_it_is_said_and_the_package_still_runs(rig: Rig, shipped: Path) -> None:
    (rig.ledger.data / KEPT).write_text("in the way", encoding="utf-8")
    update(shipped, "1.0.0")
    (fault,) = register(rig)
    assert "good@1.0.0 cannot be kept" in fault
    rig.ask("1", "good")

    with rig.working():
        rig.wait_over(["1"])

    assert rig.said("1").status is Status.SUCCEEDED
