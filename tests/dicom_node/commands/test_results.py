"""``dicom-node results`` and ``dicom-node validate``, on real objects in a real ledger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from dicom_node.cli import cli
from dicom_node.results.profiles import PROFILES
from storage import views
from storage.facts.errors import Rejected
from storage.facts.prediction import Prediction, Presence
from storage.ledger import Ledger
from tests import builders
from tests.dicom_node.results.keeping import predict, receive, reported
from tests.dicom_node.results.making import labels_on, ordered

STUDY = f"{builders.ROOT}.0"
SECOND = """
profile = "classic-pacs"
[destinations.viewer]
ae_title = "VIEWER"
host = "127.0.0.1"
port = 1
"""


@pytest.fixture
def config(config: Path) -> Path:
    """The configuration with a second destination, the first being an older archive."""
    config.write_text(config.read_text(encoding="utf-8") + SECOND, encoding="utf-8")
    return config


@pytest.fixture
def kept(config: Path) -> Iterator[tuple[Ledger, Prediction]]:
    """A node that made a result for two destinations."""
    ledger = Ledger(config.parent / "data")
    sources = builders.slices()
    for ds in sources:
        ds.PixelSpacing = [0.5, 0.5]  # else the viewer's report has no outlines
    labels = labels_on(sources)
    receive(ledger, sources)
    prediction = predict(ledger, builders.prediction(sources, labels), labels)
    reported(ledger, prediction, {"viewer": PROFILES["orthanc-ohif"], "pacs": PROFILES["classic-pacs"]})
    yield ledger, prediction
    ledger.close()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


@pytest.mark.usefixtures("kept")
def test_a_report_is_read_out_from_the_object_that_was_sent(config: Path) -> None:
    shown = run("results", "show", STUDY, "-c", str(config))
    assert shown.exit_code == 0, shown.output
    for said in (
        "Lung test model", "sr-comprehensive", "Imaging Measurement Report", "Right lung:", "Volume: 2210.4 mL",
        "Pulmonary emphysema: Present", "Probability (Pulmonary emphysema): 0.83", "Analysis Performed: Succeeded",
        "Research software: not for diagnosis.", "What is not named in this report was not looked for.",
    ):  # fmt: skip
        assert said in shown.output
    assert "Test^Person" not in shown.output
    assert max(len(line) for line in shown.output.splitlines()) <= 110


@pytest.mark.usefixtures("kept")
def test_a_study_without_results_is_said_to_have_none(config: Path) -> None:
    for command in ("show", "render", "resend"):
        result = run("results", command, "1.2.3", "-c", str(config))
        assert isinstance(result.exception, Rejected)
        assert "there is no result of study 1.2.3" in str(result.exception)


@pytest.mark.usefixtures("kept")
def test_results_are_drawn_as_pictures(config: Path, tmp_path: Path) -> None:
    result = run("results", "render", STUDY, "--out", str(tmp_path / "out"), "-c", str(config))
    assert result.exit_code == 0, result.output
    [file] = (tmp_path / "out").iterdir()
    assert str(file) in result.output
    with Image.open(file) as image:
        assert (image.format, image.width) == ("PNG", 512)


def test_objects_are_sent_again_to_where_they_were_sent(config: Path, kept: tuple[Ledger, Prediction]) -> None:
    ledger, prediction = kept
    with ledger.begin("test") as tx:
        objects = tx.predictions.objects(prediction.key)
        tx.predictions.record_delivery("viewer", {o.sop_instance_uid: 0 for o in objects}, STUDY)
    result = run("results", "resend", STUDY, "-c", str(config))
    assert result.output.splitlines() == [
        "pacs: pdf, sc, sr-comprehensive will be sent again", "viewer: seg, sr will be sent again",
    ]  # fmt: skip
    with ledger.begin_reading() as tx:
        left = tx.predictions.delivered(prediction.key, "viewer")
    assert left == {o.sop_instance_uid for o in objects if o.kind not in ("seg", "sr")}
    with ledger.read() as session:
        again = [t for t in views.tasks(session, study=STUDY) if "#" in t.key]
    assert {t.key.partition("#")[0] for t in again} == {f"{prediction.key}>{n}" for n in ("pacs", "viewer")}


@pytest.mark.usefixtures("kept")
def test_an_unknown_destination_is_named(config: Path) -> None:
    result = run("results", "resend", STUDY, "--to", "mars", "-c", str(config))
    assert isinstance(result.exception, Rejected)
    assert "no destination is named mars" in str(result.exception)
    assert "known: pacs, viewer" in str(result.exception)


def test_a_negative_reads_as_one(config: Path) -> None:
    ledger = Ledger(config.parent / "data")
    sources = builders.slices()
    receive(ledger, sources)
    absent = builders.finding(Presence.ABSENT, text="")
    reported(ledger, predict(ledger, builders.prediction(sources, findings=(absent,)), None), {})
    ledger.close()
    shown = run("results", "show", STUDY, "-c", str(config)).output
    assert "Looked for Pulmonary emphysema: not found." in shown
    assert "Made by software; not reviewed by a physician." in shown


def test_valid_objects_pass_and_spoilt_ones_are_told_without_the_patient(tmp_path: Path) -> None:
    sources = builders.slices()
    labels = labels_on(sources)
    objects = ordered(builders.prediction(sources, labels), labels, sources)
    for kind, ds in objects.items():
        ds.save_as(tmp_path / f"{kind}.dcm", enforce_file_format=True)
    passed = run("validate", *(str(tmp_path / f"{kind}.dcm") for kind in objects))
    assert (passed.exit_code, f"{len(objects)} object(s), 0 with faults" in passed.output) == (0, True), passed.output

    (tmp_path / "notes.txt").write_text("no object")
    alone = run("validate", str(tmp_path))
    assert alone.exit_code == 1
    assert alone.output.count("Missing SOPInstanceUID that was referenced") == len(sources)

    spoilt = objects["sr"]
    spoilt.VerificationFlag = "VERIFIED"
    builders.put(spoilt, "PatientSex", "unknown-to-us")
    spoilt.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    failed = run("validate", str(tmp_path / "sr.dcm"), "--warnings")
    assert failed.exit_code == 1
    assert "VerificationFlag" in failed.output
    assert "unknown-to-us" not in failed.output


def test_what_is_no_dicom_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no object")
    result = run("validate", str(tmp_path / "notes.txt"))
    assert isinstance(result.exception, Rejected)
    assert "cannot be read as DICOM" in str(result.exception)
    assert run("validate", str(tmp_path)).exit_code == 1
