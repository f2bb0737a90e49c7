"""The doctor says which rules get no version, or one that nothing vouches for, and whether slots can be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.commands.model_checks import examine_models, examine_rules
from dicom_node.config import load, worker_settings
from dicom_node.doctor import Verdict
from inference.config import SlotsSection, WorkerConfig
from inference.executors.inspection import slots
from storage.facts.errors import Misconfigured
from storage.facts.routing import Rule
from storage.facts.study import Urgency
from storage.ledger import Ledger
from tests.dicom_node.commands.conftest import NODE_TOML, Run
from tests.dicom_node.commands.test_models import registered


def rule(ledger: Ledger, name: str, package: str) -> None:
    with ledger.begin("test") as tx:
        tx.catalogue.put_rule(
            Rule(
                name=name, expression='Modality == "CT"', package=package, destinations=("pacs",),
                urgency=Urgency.ROUTINE,
            )
        )  # fmt: skip


def test_rules_that_name_a_version_that_is_missing_retired_or_unproven_are_told(
    node_ledger: Ledger, config: Path
) -> None:
    registered(node_ledger, "1.0.0", "1.1.0")
    registered(node_ledger, "1.2.0", proved=False)
    with node_ledger.begin("test") as tx:
        tx.catalogue.retire("lung", "1.1.0", "recalled")
    named = {
        "a": "lung", "b": "lung@1.1.0", "c": "lung@1.2.0", "d": "lung@9.9.9", "e": "liver", "f": "lung@1.0.0",
    }  # fmt: skip
    for name, package in named.items():
        rule(node_ledger, name, package)

    found = {check.what: check for check in examine_rules(load(config))}

    assert found["rule a"].verdict is found["rule f"].verdict is Verdict.OK
    assert found["rule b"].found == "lung@1.1.0 is retired (recalled): its runs fail"
    assert found["rule c"].found == "lung@1.2.0 is unproven: its self-test was never run at this installation"
    assert found["rule c"].todo == "`dicom-node models prove lung@1.2.0`"
    assert found["rule d"].found == "lung@9.9.9 is not registered (there: 1.0.0, 1.2.0): its runs fail"
    assert found["rule e"].found == "liver is not registered: its runs fail"
    assert {found[f"rule {name}"].verdict for name in "bcde"} == {Verdict.WARNING}


def test_a_version_in_use_whose_folder_is_gone_is_a_fault(node_ledger: Ledger, config: Path) -> None:
    registered(node_ledger, "1.0.0")
    rule(node_ledger, "a", "lung")
    assert [check.verdict for check in examine_rules(load(config), {"lung@1.0.0"})] == [Verdict.OK]
    (found,) = examine_rules(load(config), {"lung@1.1.0", "liver@1.0.0"})
    assert found.verdict is Verdict.FAULT
    assert found.found == "lung@1.0.0 is registered, but not there any more (there: lung@1.1.0): its runs fail"
    assert "`dicom-node models promote lung@1.1.0`" in found.todo


def test_a_version_that_came_with_an_update_is_told_to_wait(node_ledger: Ledger, config: Path) -> None:
    registered(node_ledger, "1.0.0", "1.1.0")
    rule(node_ledger, "a", "lung")
    rule(node_ledger, "b", "lung@1.0.0")

    found = {check.what: check for check in examine_rules(load(config), {"lung@1.0.0", "lung@1.1.0"})}

    assert {check.verdict for check in found.values()} == {Verdict.OK}
    assert found["rule a"].found.startswith("lung@1.0.0 (1.1.0 waits: ")
    assert found["rule b"].found == "lung@1.0.0"  # asks for that very version
    with node_ledger.begin("test") as tx:
        tx.catalogue.promote("lung", "1.1.0", "validated", {})
    found = {check.what: check for check in examine_rules(load(config), {"lung@1.0.0", "lung@1.1.0"})}
    assert found["rule a"].found == "lung@1.1.0"


def test_somebody_who_answers_for_a_version_quiets_the_doctor(node_ledger: Ledger, config: Path, run: Run) -> None:
    registered(node_ledger, "1.0.0", tested=False)
    rule(node_ledger, "a", "lung")

    def said() -> list[str]:
        return [check.found for check in examine_rules(load(config))]

    assert said() == ["lung@1.0.0 is unproven: it brings no self-test"]
    why = ("--reason", "in use since the start", "--without-self-test", "known for years", "--yes")
    assert run("models", "promote", "lung@1.0.0", *why).exit_code == 0
    assert said() == ["lung@1.0.0"]


def test_slots_are_read_from_the_configuration_of_the_node(config: Path) -> None:
    config.write_text(NODE_TOML + "[slots]\nnumber = 3\nmemory_mb = 500\n", encoding="utf-8")
    settings = worker_settings(load(config))
    assert (settings["slots.processors"], settings["slots.memory_mb"], settings["slots.devices"]) == (3, 500, [])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[slots]\ndevices = ["gpu"]\n', "slots.devices"),
        ('[slots]\ndevices = ["cpu"]\n[workers]\ndevice = "cpu"\n', "leave out slots.number and workers.device"),
        ('[slots]\ndevices = ["cpu"]\nnumber = 2\n', "leave out slots.number and workers.device"),
        ("[slots]\nnumber = 0\n", "slots.number"),
    ],
)
def test_slots_that_cannot_be_are_refused_by_their_key(config: Path, text: str, words: str) -> None:
    config.write_text(NODE_TOML + text, encoding="utf-8")
    with pytest.raises(Misconfigured, match=words):
        load(config)


def test_slots_are_opened_and_their_memory_is_held_against_the_machine(tmp_path: Path) -> None:
    def seen(**given: object) -> list[str]:
        section = SlotsSection.model_validate(given)
        config = WorkerConfig(data=tmp_path, models=tmp_path, slots=section, device="cpu")
        return [one.fault or f"{one.device} {one.memory >> 20}" for one in slots(config)]

    assert seen(processors=2, memory_mb=100) == ["cpu 100", "cpu 100"]
    assert "slots.devices: there is no device cuda:63" in seen(devices=("cuda:63",))[0]
    assert (
        "slots.memory_mb: 2 slots of 9000000 MB are more than this machine's"
        in seen(processors=2, memory_mb=9_000_000)[2]
    )


def test_the_doctor_opens_the_slots_that_workers_would_have(config: Path) -> None:
    config.write_text(NODE_TOML + '[slots]\ndevices = ["cpu", "cuda:63"]\n', encoding="utf-8")
    found = [(check.what, check.verdict, check.found) for check in examine_models(load(config))]
    assert any(what == "slot" and text.startswith("cpu ") for what, _, text in found)
    assert any(verdict is Verdict.FAULT and "there is no device cuda:63" in text for _, verdict, text in found)
    assert any(what == "model" and text.startswith("ct-lung-densitometry@") for what, _, text in found)
