"""Rules are edited on the command line: nothing is stored that could not work."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import pytest

from dicom_node.commands.opening import operator
from dicom_node.commands.rule_group import COMMANDS
from dicom_node.commands.rules import rules as full
from dicom_node.receive.landing import Origin
from storage.facts.arrival import Arrival
from storage.facts.errors import Misconfigured, Rejected
from storage.facts.routing import RegisteredPackage, Verdict
from storage.facts.study import Instance
from storage.ledger import Ledger
from storage.views import trail
from tests.dicom_node.commands.conftest import Run

CT_RULE = ("--when", 'Modality == "CT"', "--model", "ct-lung-densitometry", "--to", "pacs")
NEXT = (
    "in the draft. `dicom-node rules diff` shows it, `rules simulate` rehearses it, `rules apply --reason WHY` puts it "
    "in force\n"
)


def test_a_rule_is_added_listed_changed_switched_and_removed(run: Run, node_ledger: Ledger) -> None:
    assert "no rules" in run("rules", "list").output
    added = run("rules", "add", "chest", *CT_RULE, "--apply", "--reason", "first")
    assert (added.exit_code, "rule 'chest' is added: version 1 is in force" in added.output) == (0, True)
    assert "no worker has registered the package" in added.output

    thin = 'Modality == "CT" && SliceThickness <= 2'
    assert run("rules", "edit", "chest", "--urgency", "high", "--when", thin, "--apply").exit_code == 0
    assert run("rules", "disable", "chest", "--apply").exit_code == 0
    [shown] = [json.loads(line) for line in run("rules", "list", "--json").output.splitlines()]
    assert shown == {
        "position": 1, "name": "chest", "when": thin, "model": "ct-lung-densitometry", "to": ["pacs"],
        "urgency": "HIGH", "enabled": False, "shadow": False, "late": "rerun",
    }  # fmt: skip
    assert "off" in run("rules", "list").output
    assert run("rules", "enable", "chest", "--apply").exit_code == 0
    assert "on" in run("rules", "list").output
    assert run("rules", "remove", "chest", "--apply").exit_code == 0
    assert "no rules" in run("rules", "list").output

    with node_ledger.read() as session:
        changes = [row for row in trail(session) if row.action == "rules applied"]
    assert [row.details["reason"] for row in changes] == [
        "first", "rule 'chest' is changed", "rule 'chest' is off", "rule 'chest' is on", "rule 'chest' is removed",
    ]  # fmt: skip
    assert all(row.actor.startswith("operator ") for row in changes)
    assert changes[1].details["diff"]["changed"]["chest"]["when"] == ['Modality == "CT"', thin]


def test_a_change_is_a_draft_until_it_is_applied(run: Run) -> None:
    drafted = run("rules", "add", "chest", *CT_RULE)

    assert drafted.output.endswith(f"rule 'chest' is added {NEXT}")
    assert run("rules", "list").output == (
        f"no rules: no series reaches a model. `dicom-node rules add --help` says how to write one\n{_WAITS}"
    )
    assert "chest" in run("rules", "list", "--draft").output
    assert run("rules", "apply", "-m", "first").output.startswith("version 1 is in force")
    assert "chest" in run("rules", "list").output


_WAITS = (
    f"a draft of {operator()} is not in force yet: `dicom-node rules diff` shows it, `rules simulate` rehearses it, "
    "`rules apply --reason WHY` puts it in force\n"
)


def test_plain_options_make_a_rule_and_show_it(run: Run) -> None:
    made = run(
        "rules", "add", "chest", "--modality", "ct", "--body-part", "chest", "--body-part", "THORAX", "--max-thickness",
        "1.5", "--from", "CT1", "--model", "lung@1.2", "--to", "pacs", "--urgency", "stat", "--shadow",
    )  # fmt: skip

    assert made.exit_code == 0
    assert made.output.partition("name:")[2].partition("rule 'chest'")[0] == (
        """ chest
when: |-
  Modality == "CT"
  && BodyPartExamined in ["CHEST", "THORAX"]
  && SliceThickness <= 1.5
  && calling_ae == "CT1"
model: lung@1.2
to: [pacs]
urgency: STAT
enabled: true
shadow: true
late: rerun

"""
    )


def test_a_condition_and_plain_options_are_joined_remarks_and_all(run: Run) -> None:
    written = "KVP > 100 || !has(KVP)  // any tube"
    assert run("rules", "add", "ct", "--when", written, "--modality", "CT", "--model", "m").exit_code == 0

    [shown] = [json.loads(line) for line in run("rules", "list", "--draft", "--json").output.splitlines()]
    assert shown["when"] == f'({written}\n)\n&& Modality == "CT"'


REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "a wrong keyword": (
        ("--when", 'Modality == "CT" && SliceThicknes < 2', "--model", "m"),
        "unknown name 'SliceThicknes'. Did you mean SliceThickness?\n"
        '  Modality == "CT" && SliceThicknes < 2\n'
        "                      ^",
    ),
    "a wrong type": (
        ("--when", 'SliceThickness <= "1.5"', "--model", "m"),
        'SliceThickness is a number (DS), but "1.5" is text: compare it with a number, without quotes\n'
        '  SliceThickness <= "1.5"\n'
        "                    ^",
    ),
    "a single equals sign": (
        ("--when", 'Modality = "CT"', "--model", "m"),
        "'=' cannot stand here: compare with ==\n  Modality = \"CT\"\n           ^",
    ),
    "a value that a fact never has": (
        ("--sequence", "T3", "--model", "m"),
        'mr_sequence is never "T3". '
        "It is one of T1, T2, T2*, FLAIR, STIR, PD, DWI, ADC, SWI, MRA, PERFUSION, FMRI, "
        'FIELDMAP.\n  mr_sequence == "T3"\n                 ^',
    ),
    "an unknown destination": (
        (*CT_RULE[:4], "--to", "pac"),
        "no destination is named 'pac' in node.toml; known: pacs. Did you mean pacs?",
    ),
    "a destination that is like none": (
        (*CT_RULE[:4], "--to", "archive"),
        "no destination is named 'archive' in node.toml; known: pacs. Add it there first, under [destinations.NAME]",
    ),
    "no condition": (
        ("--model", "m", "--to", "pacs"),
        "say when the rule matches: --when 'CONDITION', or options such as --modality CT --body-part CHEST "
        "--max-thickness 1.5",
    ),
    "a model without a version": (
        ("--when", "true", "--model", "m@"),
        "'m@' is no package: write identifier or identifier@version",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_rule_that_cannot_work_is_refused_in_words_that_help(run: Run, config: Path, name: str) -> None:
    options, message = REFUSED[name]

    result = run("rules", "add", "bad", *options)

    assert isinstance(result.exception, Misconfigured)
    assert str(result.exception) == message.replace("node.toml", str(config))
    assert "no rules" in run("rules", "list", path=config).output
    assert isinstance(run("rules", "list", "--draft").exception, Rejected)


def test_a_name_that_would_not_fit_a_command_line_is_refused(run: Run) -> None:
    result = run("rules", "add", "my rule", *CT_RULE)

    assert str(result.exception) == (
        "'my rule' is no name for a rule: use letters, digits, '-', '_' and '.', at most 64"
    )


def test_a_model_that_nobody_registered_is_remarked_on_with_the_nearest(run: Run, node_ledger: Ledger) -> None:
    with node_ledger.begin("test") as tx:
        tx.catalogue.register_package(package("ct-lung-densitometry"))

    result = run("rules", "add", "chest", *CT_RULE[:2], "--model", "ct-lung-density", "--to", "pacs")

    assert result.exit_code == 0
    assert result.output.startswith(
        "note: no worker has registered the package ct-lung-density yet: did you mean ct-lung-densitometry?\n"
    )


def test_adding_the_same_name_twice_is_refused_and_tells_how_to_change_it(run: Run) -> None:
    run("rules", "add", "chest", *CT_RULE)
    again = run("rules", "add", "chest", *CT_RULE)

    assert isinstance(again.exception, Rejected)
    assert str(again.exception) == "there is a rule 'chest' already: `dicom-node rules edit chest` changes it"


@pytest.mark.parametrize("command", ["show", "edit", "enable", "disable", "remove"])
def test_an_unknown_rule_is_said_to_be_unknown(run: Run, node_ledger: Ledger, command: str) -> None:
    assert node_ledger.data.is_dir()
    result = run("rules", command, "chest")

    assert isinstance(result.exception, Rejected)
    assert str(result.exception) == "there is no rule 'chest': see `dicom-node rules list`"


def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """Let $EDITOR be a program that replaces the file's text by what ``change`` makes of ``text``."""
    script = tmp_path / "editor.py"
    script.write_text(
        f"import pathlib, sys\npath = pathlib.Path(sys.argv[1])\ntext = path.read_text()\npath.write_text({change})\n"
    )
    monkeypatch.setenv("VISUAL", f"{sys.executable} {script}")


def test_the_editor_opens_a_rule_as_yaml(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("rules", "add", "chest", *CT_RULE, "--apply")

    editor(tmp_path, monkeypatch, "text.replace('ROUTINE', 'stat').replace('name: chest', 'name: thorax')")
    changed = run("rules", "edit", "chest")
    [shown] = [json.loads(line) for line in run("rules", "list", "--draft", "--json").output.splitlines()]
    assert changed.output.endswith(f"rule 'chest' is changed {NEXT}")
    assert (shown["name"], shown["urgency"], shown["when"]) == ("thorax", "STAT", 'Modality == "CT"')

    editor(tmp_path, monkeypatch, "text")
    assert run("rules", "edit", "thorax").output == "nothing changed\n"

    editor(tmp_path, monkeypatch, "text.replace('urgency: STAT', 'urgent: yes')")
    refused = run("rules", "edit", "thorax")
    assert str(refused.exception) == ("what you wrote:\n  rule 'thorax': there is no 'urgent'. Did you mean urgency?")


def test_without_a_name_the_editor_opens_the_whole_set(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("rules", "add", "chest", *CT_RULE, "--apply")
    editor(tmp_path, monkeypatch, "text.replace('match: all', 'match: first')")

    assert run("rules", "edit", "--apply").exit_code == 0
    assert "the first rule that matches routes the series" in run("rules", "list").output


def test_showing_a_rule_says_what_it_has_done_lately(run: Run, node_ledger: Ledger) -> None:
    run("rules", "add", "chest", *CT_RULE, "--apply")
    with node_ledger.begin("test") as tx:
        tx.catalogue.register_package(package("ct-lung-densitometry"))
        tx.studies.record([_arrival({"Modality": "CT"})])
        tx.catalogue.record_decisions("1.2.3", "1.2.3.1", 1, [Verdict(rule="chest", matched=True, explanation={})], 1)

    shown = run("rules", "show", "chest")
    assert shown.exit_code == 0, shown.exception
    assert shown.output.splitlines()[-1] == ("# place 1; model: Title, 1.0; series matched in the last 7 days: 1")


def test_a_rule_is_tried_on_a_stored_series_clause_by_clause(run: Run, node_ledger: Ledger) -> None:
    header = {"Modality": "CT", "SliceThickness": 5.0, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}
    with node_ledger.begin("test") as tx:
        tx.studies.record([_arrival(header)])
        tx.studies.complete("1.2.3.1", header)
    run("rules", "add", "thin", "--when", 'Modality == "CT" && SliceThickness <= 2', "--model", "m", "--to", "pacs")

    missed = run("rules", "test", "1.2.3.1")
    tried = run("rules", "test", "1.2.3.1", "--when", 'Modality == "CT"')

    assert (missed.exit_code, tried.exit_code) == (1, 0)
    assert missed.output == (
        "no match  thin -> m: SliceThickness <= 2 does not hold: SliceThickness is 5\n"
        '            TRUE     Modality == "CT"    [Modality is "CT"]\n'
        "            FALSE    SliceThickness <= 2    [SliceThickness is 5]  <- decides\n"
    )
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


def package(name: str) -> RegisteredPackage:
    """A package that a worker has registered."""
    return RegisteredPackage(package=name, version="1.0", digest="00", title="Title", manifest={})


def test_the_quick_list_of_commands_says_what_the_commands_say() -> None:
    context = click.Context(full)
    said = {name: full.get_command(context, name) for name in full.list_commands(context)}
    assert {name: command.get_short_help_str(200) for name, command in said.items() if command} == COMMANDS
