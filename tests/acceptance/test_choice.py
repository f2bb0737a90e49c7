"""Choices within a study, over DICOM: one of several series is analysed, and further ones go along by role."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import pydicom
from click.testing import CliRunner
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from dicom_node.cli import cli
from dicom_node.demo import phantom
from dicom_node.demo.session import Session
from dicom_node.demo.studies import of_folder
from storage import views
from storage.facts.prediction import Prediction, Status
from storage.facts.routing import Role, Rule
from tests.acceptance.conftest import OpenSession, wait_for
from tests.acceptance.making import COARSE, PACKAGE, write_package

SCAN = dataclasses.replace(COARSE, matrix=96, step=5.0, slices=60)
SHARP = (Role(name="sharp", expression='kernel_class == "sharp"'),)
BEST = ('kernel_class != "sharp"', "least SliceThickness")


def write_scan(folder: Path, seed: int) -> phantom.PhantomTruth:
    return phantom.write(folder, seed=200 + seed, scan=SCAN)


def another(folder: Path, name: str, change: Callable[[Dataset], None], every: int = 1) -> str:
    """Write a further series of the study in ``folder / thin`` beside it; its UID."""
    uid = generate_uid(entropy_srcs=[name, str(folder)])
    (folder / name).mkdir()
    paths = sorted((folder / "thin").iterdir())
    by_height = sorted((pydicom.dcmread(path) for path in paths), key=lambda d: float(d.ImagePositionPatient[2]))
    for number, dataset in enumerate(by_height[::every], 1):
        dataset.SeriesInstanceUID, dataset.InstanceNumber = uid, number
        instance = generate_uid(entropy_srcs=[uid, str(number)])
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = instance
        change(dataset)
        dataset.save_as(folder / name / f"{number}.dcm", enforce_file_format=True)
    return str(uid)


def sharpened(dataset: Dataset) -> None:
    dataset.ConvolutionKernel, dataset.SeriesNumber = "LUNG", 8


def thickened(dataset: Dataset) -> None:
    dataset.SliceThickness, dataset.SeriesNumber = 2 * float(dataset.SliceThickness), 7


def put(session: Session, rule: Rule) -> None:
    with session.ledger.begin("test") as tx:
        for each in tx.catalogue.rules():
            tx.catalogue.remove_rule(each.name)
        tx.catalogue.put_rule(rule)


def predictions(session: Session, study_uid: str) -> list[Prediction]:
    with session.ledger.read() as reading:
        return [item.prediction for item in views.worklist(reading) if item.study_uid == study_uid]


def test_one_of_three_series_is_analysed_and_explain_says_why(open_session: OpenSession, tmp_path: Path) -> None:
    thin = write_scan(tmp_path / "thin", 1)
    thick = another(tmp_path, "thick", thickened, every=2)
    sharp = another(tmp_path, "sharp", sharpened)
    with open_session() as session:
        put(session, Rule(
            name="best", expression='Modality == "CT"', package=PACKAGE, destinations=("pacs",), prefer=BEST, settle=2.0
        ))  # fmt: skip
        for name in ("thick", "sharp", "thin"):
            [study] = of_folder(tmp_path / name)
            session.send(study.files)
        assert wait_for(session, thin.study_uid).failed == ()
        [said] = predictions(session, thin.study_uid)
        results = sorted(s.modality for s in session.pacs.objects())
        explained = CliRunner().invoke(cli, ["rules", "explain", thin.study_uid, "-c", str(session.path)])

    assert (said.series_uid, said.status) == (thin.series_uid, Status.SUCCEEDED)
    assert results.count("SR") == results.count("SEG") == 1
    assert explained.exit_code == 0, explained.exception
    assert f"chose     best: {thin.series_uid}: of 3 that match, `least SliceThickness` decides" in explained.output
    places = [line.strip().partition(" (")[0] for line in explained.output.splitlines() if line.startswith(" " * 14)]
    assert places == [f"1. {thin.series_uid}", f"2. {thick}", f"3. {sharp}"]


def _takes_a_sharp_one_too(models: Path) -> None:
    manifest = models / PACKAGE / "model.toml"
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text + '\n[[inputs]]\nrole = "sharp"\nmissing = "refuse"\n', encoding="utf-8")


def test_a_model_of_two_series_waits_for_both_and_says_so_when_one_is_missing(tmp_path: Path) -> None:
    write_package(tmp_path / "models")
    _takes_a_sharp_one_too(tmp_path / "models")
    both = write_scan(tmp_path / "both" / "thin", 2)
    sharp = another(tmp_path / "both", "sharp", sharpened)
    alone = write_scan(tmp_path / "alone", 3)
    rule = Rule(
        name="two", expression='kernel_class == "standard"', package=PACKAGE, destinations=("pacs",), inputs=SHARP,
        settle=0.0, wait=300.0,
    )  # fmt: skip
    with Session(tmp_path / "demo", tmp_path / "models") as session:
        put(session, rule)
        [study] = of_folder(tmp_path / "both" / "thin")
        session.send(study.files)
        _until_it_waits(session, both.study_uid)
        [study] = of_folder(tmp_path / "both" / "sharp")
        session.send(study.files)
        assert wait_for(session, both.study_uid).failed == ()
        put(session, dataclasses.replace(rule, wait=1.0))
        [study] = of_folder(tmp_path / "alone")
        session.send(study.files)
        assert wait_for(session, alone.study_uid).failed == ()
        [complete], [incomplete] = (predictions(session, each.study_uid) for each in (both, alone))
        reports = [pydicom.dcmread(s.path) for s in session.pacs.objects() if s.modality == "SR"]

    assert complete.status is Status.SUCCEEDED
    assert ("Input sharp", f"Series {sharp}, revision 1") in complete.algorithm.parameters
    assert incomplete.status is Status.NOT_ATTEMPTED
    assert incomplete.reason is not None
    assert incomplete.reason.text.startswith("The input sharp is missing: no series of that kind was there after ")
    texts = {str(report.StudyInstanceUID): report.to_json() for report in reports}
    assert f"Series {sharp}" in texts[both.study_uid]
    assert "The input sharp is missing" in texts[alone.study_uid]


def _until_it_waits(session: Session, study_uid: str) -> None:
    until = time.monotonic() + 90
    while time.monotonic() < until:
        with session.ledger.read() as reading:
            tasks = [t for t in views.tasks(reading, study=study_uid) if t.kind == "choose"]
        if tasks and "no series yet for sharp" in (tasks[0].reason or ""):
            return
        time.sleep(0.05)
    raise AssertionError(f"nothing waits: {tasks}")
