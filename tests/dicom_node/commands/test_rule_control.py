"""Change control on the command line: what is in force, who changed it, and how it is taken back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dicom_node.commands.opening import operator
from storage.facts.errors import Misconfigured, Rejected
from storage.ledger import Ledger
from tests.dicom_node.commands.conftest import Run

CT = ("--when", 'Modality == "CT"', "--model", "lung", "--to", "pacs")
MR = ("--when", 'Modality == "MR"', "--model", "brain", "--to", "pacs")


def messages(run: Run, *commands: tuple[str, ...]) -> list[str]:
    """What each command is refused with."""
    found = []
    for command in commands:
        result = run("rules", *command)
        assert isinstance(result.exception, Misconfigured | Rejected), (command, result.output, result.exception)
        found.append(str(result.exception))
    return found


def test_a_version_is_drafted_looked_at_applied_and_taken_back_in_one_command(run: Run) -> None:
    run("rules", "add", "chest", *CT)
    run("rules", "apply", "-m", "the lungs come")
    run("rules", "add", "brain", *MR)
    run("rules", "edit", "chest", "--urgency", "stat")

    shown = run("rules", "diff").output
    assert shown.startswith("--- version 1, in force\n+++ draft\n")
    assert "-urgency: ROUTINE\n+urgency: STAT\n" in shown
    assert "@@ rule brain, added @@\n+name: brain\n" in shown
    assert json.loads(run("rules", "diff", "--json").output)["changed"] == {"chest": {"urgency": ["ROUTINE", "STAT"]}}
    assert run("rules", "apply", "-m", "brains, too").output == (
        "version 2 is in force; `dicom-node rules rollback --reason WHY` takes it back\n"
    )

    back = run("rules", "rollback", "-m", "wrong")
    assert back.output.startswith("--- version 2\n+++ version 3\n")
    assert back.output.endswith("version 3 is in force; it says what version 1 said\n")
    assert [json.loads(line)["name"] for line in run("rules", "list", "--json").output.splitlines()] == ["chest"]


def test_the_history_says_who_changed_what_and_why(run: Run) -> None:
    assert run("rules", "history").output == "no rules were ever in force\n"
    run("rules", "add", "chest", *CT, "--apply", "-m", "the lungs come")
    run("rules", "edit", "chest", "--urgency", "stat", "--apply", "-m", "hurry")
    run("rules", "rollback", "-m", "too loud")

    newest, *_ = [json.loads(line) for line in run("rules", "history", "--json").output.splitlines()]
    rows = [line.split("  ") for line in run("rules", "history").output.splitlines()[1:]]
    assert [[cell.strip() for cell in row if cell.strip()][-2:] for row in rows] == [
        ["~chest (as version 1)", "too loud"], ["~chest", "hurry"], ["+chest", "the lungs come"],
    ]  # fmt: skip
    assert (newest["number"], newest["restores"], newest["author"]) == (3, 1, operator())
    assert newest["diff"] == {"changed": {"chest": {"urgency": ["STAT", "ROUTINE"]}}}
    assert "+urgency: STAT" in run("rules", "diff", "1", "2").output
    assert run("rules", "diff", "1").output == "version 1 and version 3 are the same\n"


def test_where_a_second_person_is_needed_the_first_cannot_do_it_alone(run: Run, node_ledger: Ledger) -> None:
    run("rules", "add", "chest", *CT, "--apply")
    run("rules", "settings", "--approval", "--apply")
    run("rules", "disable", "chest")
    proposed = run("rules", "apply", "-m", "it stands still").output
    digest = proposed.split()[2].rstrip(".")

    assert proposed == (
        f"proposed as {digest}. It is not in force: another person looks at `dicom-node rules diff`, then "
        f"`dicom-node rules approve {digest}`\n"
    )
    assert messages(run, ("approve", digest), ("approve", "123456"), ("enable", "chest", "--apply")) == [
        "you took part in this change: another person must approve it",
        f"the proposal is {digest}, not 123456: look at `dicom-node rules diff` again",
        "there is a draft already, which --apply would pass over: `dicom-node rules apply` puts all of it in force, "
        "`rules discard` drops it",
    ]
    assert f"waits for another person: `dicom-node rules diff`, then `dicom-node rules approve {digest}`" in (
        run("rules", "list").output
    )
    with node_ledger.begin("operator somebody else") as tx:
        tx.catalogue.approve(digest)
    assert " off " in run("rules", "list").output
    assert messages(run, ("enable", "chest", "--apply")) == [
        "a change of the rules needs a second person here: draft it, `dicom-node rules apply` proposes it and somebody "
        "else approves it"
    ]


def test_the_settings_of_the_set_are_shown(run: Run) -> None:
    assert run("rules", "settings").output == "match: all\napproval: not needed\n"
    run("rules", "settings", "--match", "first")
    assert run("rules", "settings").output == "match: first\napproval: not needed\n"


def test_what_is_exported_is_imported_as_a_draft(run: Run, tmp_path: Path) -> None:
    run("rules", "add", "chest", *CT, "--apply")
    sheet = tmp_path / "rules.yaml"
    assert run("rules", "export", str(sheet)).exit_code == 0
    assert sheet.read_text(encoding="utf-8") == run("rules", "export").output

    assert "there is no draft" in run("rules", "import", str(sheet)).output
    sheet.write_text(sheet.read_text(encoding="utf-8").replace("ROUTINE", "HIGH", 2), encoding="utf-8")
    imported = run("rules", "import", str(sheet))
    assert "+urgency: HIGH" in imported.output
    assert "1 rule(s) are imported in the draft" in imported.output
    assert run("rules", "export", "--draft").output == sheet.read_text(encoding="utf-8").replace(
        "urgency   HIGH", "urgency   ROUTINE"
    )
    assert run("rules", "discard").output == "the draft is dropped; version 1 is in force as before\n"


def test_an_import_that_cannot_work_is_refused_by_the_name_of_its_rule(run: Run, tmp_path: Path) -> None:
    sheet = tmp_path / "rules.yaml"
    sheet.write_text("rules: [{name: a, when: 'Modalty == 1', model: m}]", encoding="utf-8")
    missing = tmp_path / "none.yaml"
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")

    assert messages(run, ("import", str(sheet)), ("import", str(missing)), ("import", str(binary))) == [
        "rule 'a': unknown name 'Modalty'. Did you mean Modality?\n  Modalty == 1\n  ^",
        f"{missing} cannot be read: No such file or directory",
        f"{binary} is no text in UTF-8",
    ]


def test_every_command_that_wants_a_draft_says_that_there_is_none(run: Run, node_ledger: Ledger) -> None:
    assert node_ledger.data.is_dir()
    none = "there is no draft: nothing was changed since the rules were applied"

    assert messages(
        run, ("apply", "-m", "x"), ("approve", "x"), ("discard",), ("list", "--draft"), ("export", "--draft")
    ) == [none] * 5  # fmt: skip
    assert run("rules", "diff").output == "there is no draft; version 0 is in force\n"
    assert messages(run, ("simulate",), ("rollback", "-m", "x"), ("diff", "7"), ("export", "--version", "7")) == [
        "there is no draft to rehearse: change a rule first (`dicom-node rules edit`), or give a sheet with --rules",
        "there is nothing to roll back: no rule set was ever applied",
        "there is no version 7 of the rules: see `dicom-node rules history`",
        "there is no version 7 of the rules: see `dicom-node rules history`",
    ]


@pytest.mark.parametrize("command", [("apply",), ("rollback",)])
def test_a_change_without_a_reason_is_refused(run: Run, command: tuple[str, ...]) -> None:
    run("rules", "add", "chest", *CT)

    assert "Missing option '--reason' / '-m'" in run("rules", *command).output
    assert messages(run, (*command, "-m", "  ")) == [
        "say why: the reason is what others read in `dicom-node rules history`"
    ]
