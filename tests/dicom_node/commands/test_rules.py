"""Rules are edited on the command line: nothing is stored that could not work."""

from __future__ import annotations

import json

from dicom_node.receive.landing import Origin
from storage.facts.arrival import Arrival
from storage.facts.errors import Misconfigured, Rejected
from storage.facts.study import Instance
from storage.ledger import Ledger
from storage.views import trail
from tests.dicom_node.commands.conftest import Run

CT_RULE = ("--when", 'Modality == "CT"', "--model", "ct-lung-densitometry", "--to", "pacs")


def test_a_rule_is_added_listed_changed_switched_and_removed(run: Run, node_ledger: Ledger) -> None:
    assert "no rules" in run("rules", "list").output
    added = run("rules", "add", "chest", *CT_RULE)
    assert (added.exit_code, "rule 'chest' is added" in added.output) == (0, True)
    assert "no worker has registered the package" in added.output

    assert (
        run(
            "rules", "edit", "chest", "--urgency", "high", "--when", 'Modality == "CT" && SliceThickness <= 2'
        ).exit_code
        == 0
    )
    assert run("rules", "disable", "chest").exit_code == 0
    [shown] = [json.loads(line) for line in run("rules", "list", "--json").output.splitlines()]
    assert (shown["urgency"], shown["enabled"], shown["destinations"]) == ("HIGH", False, ["pacs"])
    assert shown["expression"] == 'Modality == "CT" && SliceThickness <= 2'
    assert run("rules", "enable", "chest").exit_code == 0
    assert "on" in run("rules", "list").output
    assert run("rules", "remove", "chest").exit_code == 0
    assert "no rules" in run("rules", "list").output

    with node_ledger.read() as session:
        changes = [row for row in trail(session) if row.action.startswith("rule")]
    assert [row.action for row in changes] == ["rule changed"] * 4 + ["rule removed"]
    assert all(row.actor.startswith("operator ") for row in changes)
    assert changes[1].details["before"]["expression"] == 'Modality == "CT"'


def test_a_rule_that_does_not_compile_is_refused_with_the_nearest_name(run: Run) -> None:
    result = run("rules", "add", "bad", "--when", "SliceThicknes < 2", "--model", "m", "--to", "pacs")

    assert isinstance(result.exception, Misconfigured)
    assert "SliceThickness" in str(result.exception)
    assert "no rules" in run("rules", "list").output


def test_a_rule_to_an_unknown_destination_is_refused(run: Run) -> None:
    result = run("rules", "add", "bad", "--when", 'Modality == "CT"', "--model", "m", "--to", "archive")

    assert isinstance(result.exception, Misconfigured)
    assert "known: pacs" in str(result.exception)


def test_adding_the_same_name_twice_is_refused_and_tells_how_to_change_it(run: Run) -> None:
    run("rules", "add", "chest", *CT_RULE)
    again = run("rules", "add", "chest", *CT_RULE)

    assert isinstance(again.exception, Rejected)
    assert "rules edit chest" in str(again.exception)


def test_a_rule_is_tried_on_a_stored_series_clause_by_clause(run: Run, node_ledger: Ledger) -> None:
    header = {"Modality": "CT", "SliceThickness": 5.0, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}
    with node_ledger.begin("test") as tx:
        tx.studies.record([_arrival(header)])
        tx.studies.complete("1.2.3.1", header)
    run("rules", "add", "thin", "--when", 'Modality == "CT" && SliceThickness <= 2', "--model", "m", "--to", "pacs")

    missed = run("rules", "test", "1.2.3.1")
    tried = run("rules", "test", "1.2.3.1", "--when", 'Modality == "CT"')

    assert (missed.exit_code, tried.exit_code) == (1, 0)
    assert "SliceThickness is 5" in missed.output
    assert "TRUE" in missed.output
    assert "FALSE" in missed.output
    assert tried.output.startswith("match")


def test_an_unknown_series_is_said_to_be_unknown(run: Run, node_ledger: Ledger) -> None:
    assert node_ledger.data.is_dir()
    result = run("rules", "test", "9.9")

    assert isinstance(result.exception, Rejected)
    assert "9.9 is not stored here" in str(result.exception)


def _arrival(header: dict[str, object]) -> Arrival:
    instance = Instance(
        sop_instance_uid="1.2.3.1.1",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        series_uid="1.2.3.1",
        study_uid="1.2.3",
        path="instances/x.dcm",
        size=1,
        digest="00",
        header=header,
    )
    origin = Origin(association="a", calling_ae="PACS", called_ae="DICOM_NODE", address="127.0.0.1")
    return Arrival(
        instance=instance, association=None, calling_ae=origin.calling_ae, called_ae="DICOM_NODE", received_at=1.0
    )
