"""Questions about rules on the command line: of files, of stored series, of a week of traffic."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click
import pytest
from click.shell_completion import ShellComplete

from dicom_node.cli import cli
from dicom_node.commands import rule_completion
from dicom_node.commands.rules import rules as group
from storage.facts.errors import Misconfigured, Rejected
from storage.facts.routing import RegisteredPackage, Rule, RuleSet, Verdict
from storage.ledger import Ledger
from tests import builders
from tests.dicom_node.commands.conftest import Run
from tests.storage.series import arrive

NOW = time.time()
CHEST = {"KVP": 120.0, "BodyPartExamined": "CHEST", "SeriesDescription": "Thorax Miller", "PatientName": "Miller^A"}


def enact(ledger: Ledger, *rules: Rule) -> None:
    with ledger.begin("test") as tx:
        tx.catalogue.enact(RuleSet().of(list(rules)), "why")


def rule(name: str, when: str = 'Modality == "CT"', **more: Any) -> Rule:
    return Rule(**({"name": name, "expression": when, "package": "lung", "destinations": ("pacs",)} | more))


def record(ledger: Ledger, number: int, header: dict[str, Any], at: float = NOW, study: str = "1.2") -> None:
    with ledger.begin("test") as tx:
        arrive(tx, f"1.2.3.{number}", study, header, count=3, at=at)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A folder with two series, and a file that is none."""
    folder = tmp_path / "study"
    folder.mkdir()
    radiograph = builders.radiograph()
    radiograph.SeriesInstanceUID = f"{builders.ROOT}.2"
    radiograph.SOPInstanceUID = radiograph.file_meta.MediaStorageSOPInstanceUID = f"{builders.ROOT}.2.1"
    for ds in [*builders.slices(), radiograph]:
        ds.save_as(folder / f"{ds.SOPInstanceUID}.dcm", enforce_file_format=True)
    (folder / "LICENSE").write_text("free", encoding="utf-8")
    (folder / "notes.txt").write_text("no image", encoding="utf-8")
    return folder


def test_rules_are_tried_on_files_before_anything_was_received(run: Run, study: Path) -> None:
    run("rules", "add", "ct", "--modality", "CT", "--min-images", "3", "--model", "m", "--to", "pacs")

    tried = run("rules", "test", "ct", str(study))

    assert tried.exit_code == 0, tried.exception
    assert "note: 1 file(s) cannot be read as DICOM, e.g. " in tried.output
    heads = [line for line in tried.output.splitlines() if line.startswith("series ")]
    assert [head.partition(" (")[2] for head in heads] == [
        'CT, 8 images, "Thin slices")',
        'CR, 1 image, "Thin slices")',
    ]
    assert tried.output.count("\nmatch   ") == 1
    assert 'FALSE    Modality == "CT"    [Modality is "CR"]  <- decides' in tried.output
    assert "Person" not in tried.output, "the patient's name"


def test_one_file_is_a_series_of_one_and_may_come_from_anywhere(run: Run, study: Path) -> None:
    file = next(p for p in sorted(study.iterdir()) if p.suffix == ".dcm")

    assert run("rules", "test", str(file), "--when", 'calling_ae == "CT7"', "--from", "CT7").exit_code == 0
    tried = run("rules", "test", str(file), "--when", "number_of_frames >= 2", "--json")
    assert tried.exit_code == 1
    assert json.loads(tried.output)["clauses"] == [
        {"text": "number_of_frames >= 2", "verdict": "false", "actual": "number_of_frames is 1 (counted)"}
    ]


def test_what_cannot_be_tried_is_said(run: Run, study: Path, node_ledger: Ledger) -> None:
    assert node_ledger.data.is_dir()
    text = str(study / "notes.txt")
    for arguments, kind, message in (
        ((text,), Rejected, f"{text} holds no DICOM file that can be read"),
        (("9.9",), Rejected, "series 9.9 is not stored here: `dicom-node status STUDY` lists the series of a study"),
        (("a", "b", "c"), Misconfigured, "give one rule at most, then one file, folder, study or series"),
        (("none", str(study)), Rejected, "there is no rule 'none': see `dicom-node rules list`"),
        ((str(study), "--when", "Modality"), Misconfigured, None),
    ):
        result = run("rules", "test", *arguments)
        assert isinstance(result.exception, kind)
        assert message in (None, str(result.exception))
    assert run("rules", "test", str(study)).output.endswith("no rules to test\n")


def test_explain_says_what_was_decided_under_which_version_and_what_would_be_now(run: Run, node_ledger: Ledger) -> None:
    enact(node_ledger, rule("thin", "SliceThickness <= 2"))
    record(node_ledger, 1, CHEST)
    unrouted = run("rules", "explain", "1.2").output
    assert unrouted.startswith(
        'series 1.2.3.1 (CT, 3 images, "Thorax …"): not routed yet; would be decided now under version 1 of the rules\n'
        "no match  thin -> lung: SliceThickness <= 2 cannot be told: SliceThickness is missing\n"
    )
    told = {"why": "all 1 clause(s) hold", "package": "lung", "clauses": [], "position": 1}
    with node_ledger.begin("test") as tx:
        verdict = Verdict(rule="old", matched=True, explanation=told, shadow=True)
        tx.catalogue.record_decisions("1.2", "1.2.3.1", 1, [verdict], 7)

    assert run("rules", "explain", "1.2.3.1").output == (
        'series 1.2.3.1 (CT, 3 images, "Thorax …"): decided under version 7 of the rules\n'
        "match     old -> lung (shadow): all 1 clause(s) hold\n"
    )
    assert "thin" in run("rules", "explain", "1.2.3.1", "--now").output
    assert json.loads(run("rules", "explain", "1.2", "--json").output)["rule"] == "old"


def test_a_study_whose_files_are_gone_is_still_explained(run: Run, node_ledger: Ledger) -> None:
    enact(node_ledger, rule("thick", "number_of_frames == 3 && slice_spacing_mm == 1"))
    record(node_ledger, 1, CHEST)
    run("rules", "simulate", "--rules", str(empty_sheet(node_ledger)))  # derives the facts
    with node_ledger.begin("test") as tx:
        tx.studies.forget_files("1.2")

    explained = run("rules", "explain", "1.2", "--now")

    assert explained.exit_code == 0, explained.exception
    assert "match     thick -> lung: all 2 clause(s) hold" in explained.output


def empty_sheet(ledger: Ledger) -> Path:
    """A sheet without rules."""
    sheet = ledger.data / "empty.yaml"
    sheet.write_text("rules: []", encoding="utf-8")
    return sheet


def test_simulate_says_what_the_draft_would_change(run: Run, node_ledger: Ledger) -> None:
    enact(node_ledger, rule("thin", "SliceThickness <= 2"))
    for n in range(6):
        record(node_ledger, n, CHEST | {"SliceThickness": 1.0 if n % 3 else 5.0}, NOW - 3600 * n, f"1.2.{n // 2}")
    record(node_ledger, 99, CHEST, NOW - 30 * 86400)
    run("rules", "edit", "thin", "--when", "SliceThickness <= 5")

    rehearsed = run("rules", "simulate")

    lines = rehearsed.output.splitlines()
    assert lines[0].startswith("6 series of 3 studies in 0.2 days, rehearsed in ")
    assert lines[0].endswith("the draft against version 1, in force")
    assert lines[2:6] == [
        "RULE  SERIES NOW  THEN  GAINED  LOST",
        "thin  4           6     +2",
        '  + thin: 1.2.3.3 (CT, 3 images, "Thorax …")',
        '  + thin: 1.2.3.0 (CT, 3 images, "Thorax …")',
    ]
    assert "?: this node has not run the model yet, so that there is nothing to reckon with" in lines
    assert "no model sees 2 series now, 0 then" in lines
    assert lines[-1] == "the facts of 6 series were derived anew, as this version of the node derives them"
    again = run("rules", "simulate", "--json")
    told = json.loads(again.output)
    assert (told["rules"]["thin"]["gained"], told["changes_nothing"]) == (2, False)
    with node_ledger.begin_reading() as tx:
        assert tx.catalogue.live().number == 1, "a rehearsal puts nothing in force"


def test_simulate_takes_a_sheet_and_a_time_span(run: Run, node_ledger: Ledger, tmp_path: Path) -> None:
    enact(node_ledger, rule("thin"))
    record(node_ledger, 1, CHEST)
    sheet = tmp_path / "rules.yaml"
    sheet.write_text("rules: []", encoding="utf-8")

    assert "thin  1           0             -1" in run("rules", "simulate", "--rules", str(sheet)).output
    run("rules", "export", str(sheet))
    assert "every series goes where it went" in run("rules", "simulate", "--rules", str(sheet), "--since", "2w").output
    assert "'soon' is no time span: write 90m, 24h, 7d or 2w" in run("rules", "simulate", "--since", "soon").output
    empty = run("rules", "simulate", "--rules", str(sheet), "--since", "0.0001m").output
    assert "nothing was recorded in this time" in empty


def test_what_reached_no_model_is_reported_in_groups(run: Run, node_ledger: Ledger) -> None:
    for n in range(3):
        record(node_ledger, n, CHEST)
    record(node_ledger, 4, {"Modality": "SR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.33"})
    record(node_ledger, 5, CHEST)
    with node_ledger.begin("test") as tx:
        tx.catalogue.record_decisions("1.2", "1.2.3.5", 1, [Verdict(rule="a", matched=True, explanation={})], 1)

    assert run("rules", "unmatched").exit_code == 0, run("rules", "unmatched").exception
    rows = [json.loads(line) for line in run("rules", "unmatched", "--since", "1h", "--json").output.splitlines()]
    assert [(r["series_count"], r["modality"], r["body_part"], r["from"]) for r in rows] == [
        (3, "CT", "CHEST", "CT1"), (1, "SR", "", "CT1"),
    ]  # fmt: skip
    shown = run("rules", "unmatched").output
    assert shown.splitlines()[-1] == "`dicom-node rules explain SERIES` says what each rule missed"
    assert "Miller" not in shown


def test_everything_matched_is_said(run: Run, node_ledger: Ledger) -> None:
    assert node_ledger.data.is_dir()
    assert run("rules", "unmatched").output == "no series that was complete in this time was left without a model\n"


def test_lint_looks_at_the_draft_and_fails_on_errors_alone(run: Run, node_ledger: Ledger) -> None:
    with node_ledger.begin("test") as tx:
        tx.catalogue.register_package(RegisteredPackage(package="lung", version="1", digest="", title="", manifest={}))
    enact(node_ledger, rule("a"))
    assert (run("rules", "lint").output, run("rules", "lint").exit_code) == (
        "1 rule(s), nothing to find fault with\n",
        0,
    )

    run("rules", "add", "b", "--when", 'Modality == "CT" && SliceThickness < 1', "--model", "lung", "--to", "pacs")
    warned = run("rules", "lint")
    assert (warned.output, warned.exit_code) == (
        "warning  b: it adds nothing: rule a takes all of its series, for the same model\n", 0,
    )  # fmt: skip
    run("rules", "settings", "--match", "first")
    failed = run("rules", "lint")
    assert (failed.output, failed.exit_code) == (
        "error    b: it never gets its turn: rule a comes first and takes all its series\n", 1,
    )  # fmt: skip
    assert run("rules", "lint", "--live").exit_code == 0
    assert json.loads(run("rules", "lint", "--json").output)["severity"] == "error"


def completed(config: Path, *words: str) -> list[str]:
    """What the shell offers for the last word of a command line."""
    *arguments, incomplete = words
    found = ShellComplete(cli, {}, "dicom-node", "_X").get_completions(
        ["rules", arguments[0], "-c", str(config), *arguments[1:]], incomplete
    )
    return [item.value for item in found]


def test_the_shell_offers_names_of_rules_models_destinations_and_attributes(
    run: Run, config: Path, node_ledger: Ledger
) -> None:
    with node_ledger.begin("test") as tx:
        tx.catalogue.register_package(RegisteredPackage(package="lung", version="1", digest="", title="", manifest={}))
    run("rules", "add", "chest", "--when", "true", "--model", "lung", "--to", "pacs")

    assert completed(config, "show", "ch") == ["chest"]
    assert completed(config, "add", "x", "--model", "l") == ["lung", "lung@1"]
    assert completed(config, "add", "x", "--to", "") == ["pacs"]
    assert completed(config, "add", "x", "--when", "Modality == 'CT' && slicethick") == [
        "Modality == 'CT' && SliceThickness"
    ]
    assert "is_localizer" in completed(config, "add", "x", "--when", "is_loc")
    assert completed(config, "add", "x", "--when", "PatientNam") == [], "a rule may not ask for it"


def test_completion_never_disturbs_the_prompt(tmp_path: Path) -> None:
    context = click.Context(group, info_name="rules")
    context.params["path"] = tmp_path / "none.toml"
    parameter = click.Argument(["name"])

    for complete in (rule_completion.rule_names, rule_completion.model_names, rule_completion.destination_names):
        assert complete(context, parameter, "") == []
