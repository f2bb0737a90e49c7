"""Choices on the command line: written by options and in YAML, tried on files, explained, rehearsed."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import ShellComplete

from dicom_node.cli import cli
from dicom_node.commands.rules import rules as group
from dicom_node.config import load
from dicom_node.stages import handlers_of
from dicom_node.wiring import gathering_of
from storage.facts.errors import Misconfigured
from storage.facts.routing import RegisteredPackage
from storage.facts.task import Kind, Next
from storage.ledger import Ledger
from storage.stage import Stage
from tests import builders
from tests.dicom_node.commands.conftest import Run
from tests.storage.series import arrive

ADD = ("rules", "add", "best", "--modality", "CT", "--model", "m", "--to", "pacs")


def shown(run: Run) -> dict[str, Any]:
    [line] = [json.loads(line) for line in run("rules", "list", "--draft", "--json").output.splitlines()]
    return dict(line)


def test_orders_and_inputs_are_given_by_options_and_spelled_out(run: Run) -> None:
    added = run(
        *ADD, "--prefer", "soft", "--prefer", "least  SliceThickness", "--input", 'pet=Modality == "PT"',
        "--prior", "before=is_image", "--wait", "20m", "--settle", "1m",
    )  # fmt: skip

    assert added.exit_code == 0, added.exception
    assert '- kernel_class == "soft"\n- least SliceThickness\ninputs:\n- role: pet\n' in added.output
    rule = shown(run)
    assert rule["prefer"] == ['kernel_class == "soft"', "least SliceThickness"]
    assert rule["inputs"] == [
        {"role": "pet", "when": 'Modality == "PT"', "from": "study"},
        {"role": "before", "when": "is_image", "from": "prior"},
    ]
    assert (rule["wait"], rule["settle"]) == ("20m", "1m")
    assert '; one of a study: kernel_class == "soft", least SliceThickness; with pet, before' in " ".join(
        run("rules", "list", "--draft").output.split()
    )


def test_a_choice_is_changed_and_taken_back(run: Run) -> None:
    run(*ADD, "--prefer", "thinnest")
    assert run("rules", "edit", "best", "--prefer", "largest", "--wait", "5m").exit_code == 0
    assert (shown(run)["prefer"], shown(run)["wait"]) == (["greatest number_of_frames"], "5m")

    assert run("rules", "edit", "best", "--every").exit_code == 0
    assert "prefer" not in shown(run)
    assert "wait" not in shown(run)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--prefer", "thinest"),
            "prefer, line 1: there is no order 'thinest'. Did you mean thinnest?\n  thinest\n  ^",
        ),
        (
            ("--prefer", "thinnest", "--prefer", "least StudyDate"),
            "prefer, line 2: least wants a number, and this is a date: write earliest or latest\n"
            "  least StudyDate\n        ^",
        ),
        (
            ("--input", "flair"),
            "'flair' names no role: write ROLE=CONDITION, such as 'flair=mr_sequence == \"FLAIR\"'",
        ),
        (
            ("--input", 'Modality == "PT"'),
            "'Modality == \"PT\"' names no role: write ROLE=CONDITION, such as 'flair=mr_sequence == \"FLAIR\"'",
        ),
        (
            ("--input", 'pet=Modalty == "PT"'),
            "input pet: unknown name 'Modalty'. Did you mean Modality?\n  Modalty == \"PT\"\n  ^",
        ),
        (
            ("--input", "pet=true", "--prior", "pet=true"),
            "'pet' cannot name one role: use small letters, digits and '_', each name once",
        ),
        (("--wait", "5m"), "wait and settle mean something only where a rule has prefer or inputs"),
    ],
)
def test_what_cannot_work_is_refused_in_words(run: Run, options: tuple[str, ...], message: str) -> None:
    refused = run(*ADD, *options)

    assert isinstance(refused.exception, Misconfigured)
    assert str(refused.exception) == message


def test_a_span_that_is_none_is_refused_by_the_option(run: Run) -> None:
    refused = run(*ADD, "--prefer", "thinnest", "--wait", "5 min")

    assert refused.exit_code == 2
    assert "'5 min' is no time span: write 30s, 10m, 2h or 1d" in refused.output


def test_the_shell_offers_orders_and_keywords() -> None:
    complete = ShellComplete(cli, {}, "dicom-node", "_X")

    found = {item.value for item in complete.get_completions(["rules", "add", "x", "--prefer"], "th")}
    assert {"thinnest", "thickest"} <= found
    assert "least SliceThickness" in {
        item.value for item in complete.get_completions(["rules", "add", "x", "--prefer"], "least SliceTh")
    }
    assert "pet=Modality" in {
        item.value for item in complete.get_completions(["rules", "add", "x", "--input"], "pet=Modal")
    }
    assert set(group.commands) >= {"add", "edit", "explain", "simulate"}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A folder with a thin and a thick series of one study."""
    folder = tmp_path / "study"
    folder.mkdir()
    for number, thickness in ((1, 5.0), (2, 1.0)):
        for ds in builders.slices():
            ds.SliceThickness, ds.SeriesInstanceUID, ds.SeriesNumber = thickness, f"{builders.ROOT}.{number}", number
            ds.SOPInstanceUID = f"{ds.SOPInstanceUID}.{number}"
            ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
            ds.save_as(folder / f"{ds.SOPInstanceUID}.dcm", enforce_file_format=True)
    return folder


def test_a_choice_is_tried_on_files(run: Run, study: Path) -> None:
    run(*ADD, "--prefer", "thinnest", "--input", 'flair=mr_sequence == "FLAIR"')

    tried = run("rules", "test", "best", str(study))

    assert tried.exit_code == 0, tried.exception
    assert f"study {builders.ROOT}.0, if this is all of it:\ntakes     best: {builders.ROOT}.2\n" in tried.output
    assert "of 2 that match, `least SliceThickness` decides: SliceThickness is 1; in the next best" in tried.output
    assert "flair: none, no series matches" in tried.output
    assert "Person" not in tried.output
    last = json.loads(run("rules", "test", str(study), "--json").output.splitlines()[-1])
    assert last["choice"]["picks"][0]["series"] == f"{builders.ROOT}.2"
    assert last["choice"]["missing"] == ["flair"]


def received(ledger: Ledger, config: Path, number: int, thickness: float, *, at: float) -> None:
    """A series is stored, and everything is done that is due."""
    uid = f"1.2.{number}"
    with ledger.begin("test") as tx:
        tx.catalogue.register_package(RegisteredPackage(package="m", version="1", digest="", title="", manifest={}))
        arrive(tx, uid, "1.2", {"KVP": 120.0, "SliceThickness": thickness, "PatientName": "Miller^A"}, count=3, at=at)
        tx.queue.enqueue(
            Next(kind=Kind.ROUTE, key=f"{uid}/1", series_uid=uid, study_uid="1.2", payload={"revision": 1})
        )
    settings = load(config)
    handlers = handlers_of(settings, ledger, gathering_of(settings, ledger))
    mine = {kind: handlers[kind] for kind in (Kind.ROUTE, Kind.CHOOSE)}
    stage = Stage(ledger=ledger, handlers=mine, actor="test", stop=threading.Event())
    while stage.step():
        pass


def test_a_choice_is_explained_while_it_waits_and_when_it_is_made(run: Run, node_ledger: Ledger, config: Path) -> None:
    run(*ADD, "--prefer", "thinnest", "--settle", "1h", "--wait", "2h", "--apply")
    received(node_ledger, config, 0, 5.0, at=time.time())
    waits = run("rules", "explain", "1.2")
    assert "waits     best: not chosen yet (waiting): 3600 s without a new object show" in waits.output
    assert "it is a candidate, for the rule takes one series of a study" in waits.output

    run("rules", "edit", "best", "--settle", "0s", "--apply")
    received(node_ledger, config, 1, 1.0, at=time.time())
    made = run("rules", "explain", "1.2.0")

    assert "study 1.2: chosen after " in made.output
    assert "under version 2 of the rules" in made.output
    assert "chose     best: 1.2.1: of 2 that match, `least SliceThickness` decides" in made.output
    assert "1. 1.2.1 (CT, 3 images)    [SliceThickness is 1]" in made.output
    assert "Miller" not in made.output
    told = json.loads(run("rules", "explain", "1.2", "--json").output.splitlines()[-1])
    assert (told["choice"]["outcome"], told["choice"]["series"]) == ("chosen", "1.2.1")
    now = run("rules", "explain", "1.2", "--now")
    assert "takes     best: 1.2.1" in now.output


def test_a_rehearsal_says_what_is_chosen(run: Run, node_ledger: Ledger, config: Path) -> None:
    for number, thickness in enumerate((5.0, 1.0)):
        received(node_ledger, config, number, thickness, at=time.time())
    run(*ADD, "--prefer", "thinnest", "--input", 'pet=Modality == "PT"')

    said = run("rules", "simulate")

    assert said.exit_code == 0, said.exception
    assert (
        "rule best, once all of a study is there: one series of each of 1 studies, out of 2 candidates" in said.output
    )
    assert "for 1 of them no recorded series is pet: see the package for what follows" in said.output
    assert "+ best: 1.2.1" in said.output
    assert json.loads(run("rules", "simulate", "--json").output)["choices"]["best"] == {
        "studies": 1, "candidates": 2, "missing": {"pet": 1},
    }  # fmt: skip


def test_what_is_wrong_with_a_choice_is_linted(run: Run) -> None:
    run(*ADD, "--prefer", "thinnest", "--prefer", "thickest")

    assert "prefer, line 2 decides nothing: line 1 has decided it" in run("rules", "lint").output


def test_a_choice_goes_through_export_and_import(run: Run, tmp_path: Path) -> None:
    run(*ADD, "--prefer", "thinnest", "--input", 'pet=Modality == "PT"', "--apply")
    sheet = tmp_path / "rules.yaml"
    run("rules", "export", str(sheet))
    text = sheet.read_text(encoding="utf-8")
    sheet.write_text(text.replace("- least SliceThickness", "- thickest"), encoding="utf-8")

    imported = run("rules", "import", str(sheet))

    assert imported.exit_code == 0, imported.exception
    assert "+- greatest SliceThickness" in imported.output
    assert shown(run)["prefer"] == ["greatest SliceThickness"]
