"""The way of a run through its slot, as the ledger tells it."""

from __future__ import annotations

from storage.facts.prediction import Status
from tests.inference.executors.rig import Rig


def test_a_run_ends_in_a_prediction_and_a_report(rig: Rig) -> None:
    rig.package("good")
    rig.ask("1", "good")
    with rig.working():
        rig.wait_over(["1"])
    said = rig.said("1")
    assert (said.status, said.device) == (Status.SUCCEEDED, "cpu")
    assert said.mask is not None
    assert rig.states() == {"1": "done"}
