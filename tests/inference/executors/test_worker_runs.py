"""The way of a run through its slot, as the ledger tells it."""

from __future__ import annotations

from importlib import metadata

import pytest

from inference.packages.package import open_package
from storage.facts.prediction import Status
from storage.facts.release import KeptProof
from tests.inference.executors.rig import Rig

NETWORK = """
[network]
variants = ["channels-last"]
[[network.models]]
weights = "net"
format = "torchscript"
[network.output]
kind = "bare"
"""


def test_a_run_ends_in_a_prediction_and_a_report(rig: Rig) -> None:
    rig.package("good")
    rig.ask("1", "good")
    with rig.working():
        rig.wait_over(["1"])
    said = rig.said("1")
    assert (said.status, said.device) == (Status.SUCCEEDED, "cpu")
    assert said.mask is not None
    assert rig.states() == {"1": "done"}


def test_a_package_that_is_added_is_used_without_a_restart(rig: Rig) -> None:
    rig.package("good")
    with rig.working():
        rig.package("late")
        rig.ask("1", "late")
        rig.wait_over(["1"])
        rig.package("late", version="1.1.0")
        rig.ask_also("2", "late", like="1", version="1.1.0")
        rig.wait_over(["1", "2"])

    assert rig.states() == {"1": "done", "2": "done"}


@pytest.mark.parametrize(("torch", "used"), [(metadata.version("torch"), ("channels-last",)), ("0.1", ())])
def test_a_run_computes_as_the_proof_of_this_torch_allows(rig: Rig, torch: str, used: tuple[str, ...]) -> None:
    rig.package("fast", weights=b"net", do="variant")
    path = rig.models / "fast" / "1.0.0" / "model.toml"
    path.write_text(path.read_text(encoding="utf-8") + NETWORK, encoding="utf-8")
    document = {"digest": open_package(path.parent).digest, "torch": torch, "chosen": ["channels-last"]}
    with rig.working():
        with rig.ledger.begin("test") as tx:
            proof = KeptProof(device="cpu", passed=True, document=document)
            tx.catalogue.keep_proof("fast", "1.0.0", proof)
        rig.ask("1", "fast")
        rig.wait_over(["1"])

    assert rig.said("1").warnings == used
