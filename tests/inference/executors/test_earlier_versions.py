"""An update of the product brings a newer version of a shipped package: the one in use goes on until it is replaced."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from inference.packages.earlier import KEPT
from inference.worker import Worker
from storage.facts.prediction import Status
from tests.inference.executors.rig import Rig, write_package
from tests.inference.series import REAL_WEIGHTS

DEMO = Path(__file__).resolve().parents[3] / "demo"  #: where `make demo` leaves what it downloads


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


def update_apart(shipped: Path, version: str, weights: bytes, file: str = "net.bin") -> None:
    """Another version whose weights are not shipped with it."""
    shutil.rmtree(shipped, ignore_errors=True)
    write_package(shipped, "good", version=version, weights=weights)
    folder = shipped / "good" / version
    (folder / "net.bin").unlink()
    manifest = folder / "model.toml"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace("net.bin", file), encoding="utf-8")


def put(path: Path, content: bytes) -> Path:
    """What an administrator does with weights."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


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


def test_the_version_in_use_keeps_its_weights_when_those_of_the_next_take_their_place(rig: Rig, shipped: Path) -> None:
    update_apart(shipped, "1.0.0", b"old net")
    put(rig.models / "good" / "net.bin", b"old net")
    assert register(rig) == []
    update_apart(shipped, "1.1.0", b"new net")

    (fault,) = register(rig)
    assert fault.startswith("good 1.1.0: net.bin has other content")
    place = rig.models / "good" / "net.bin"
    assert fault.endswith(
        f"Get the makers and put it at {place}, then restart the node (other versions keep copies of their own)"
    )
    assert in_use(rig) == "1.0.0"

    put(place, b"new net")
    assert register(rig) == []
    rig.ask("1", "good")
    with rig.working():
        rig.wait_over(["1"])
    assert (rig.said("1").status, rig.said("1").algorithm.version) == (Status.SUCCEEDED, "1.0.0")
    kept = rig.ledger.data / KEPT / "good"
    assert [(kept / version / "net.bin").read_bytes() for version in ("1.0.0", "1.1.0")] == [b"old net", b"new net"]


def test_weights_that_a_new_version_shares_are_carried_over_to_it(rig: Rig, shipped: Path) -> None:
    update_apart(shipped, "1.0.0", b"net")
    old = put(rig.models / "net.bin", b"net")
    assert register(rig) == []
    update_apart(shipped, "1.1.0", b"net", file="nets/best.bin")
    old.unlink()

    assert register(rig) == []

    assert (rig.ledger.data / KEPT / "good" / "1.1.0" / "nets" / "best.bin").read_bytes() == b"net"
    rig.ask("1", "good")
    rig.ask_also("2", "good", like="1", version="1.1.0")
    with rig.working():
        rig.wait_over(["1", "2"])
    assert [rig.said(key).algorithm.version for key in "12"] == ["1.0.0", "1.1.0"]
    assert {rig.said(key).status for key in "12"} == {Status.SUCCEEDED}


def test_a_copy_that_was_made_without_its_weights_is_completed_before_they_are_replaced(
    rig: Rig, shipped: Path
) -> None:
    update_apart(shipped, "1.0.0", b"old net")
    place = put(rig.models / "good" / "net.bin", b"old net")
    register(rig)
    copy = rig.ledger.data / KEPT / "good" / "1.0.0" / "net.bin"
    copy.unlink()
    update_apart(shipped, "1.1.0", b"new net")
    register(rig)

    assert copy.read_bytes() == b"old net"

    copy.write_bytes(b"spoilt")
    put(place, b"new net")
    (fault,) = register(rig)
    assert f"Get the makers and put it at {copy}" in fault, "never in the place of those that the new version needs"
    copy.unlink()
    (fault,) = register(rig)
    assert f"Get the makers and put it at {copy}" in fault


def test_the_real_weights_outlive_the_update_that_replaces_them(rig: Rig) -> None:
    weights = [DEMO / "models" / "brain-t1" / name for name in REAL_WEIGHTS]
    if not all(path.is_file() for path in weights):
        pytest.skip("the weights of deepbet are not here")
    for path in weights:
        put(rig.models / "brain-t1" / path.name, path.read_bytes())
    assert register(rig) == []
    shutil.rmtree(rig.models)

    assert register(rig) == []
