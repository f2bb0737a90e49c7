"""Real studies through the whole node: the right numbers, the right refusals, objects that validators accept."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from dicom_node.demo.pacs import Stored
from dicom_node.demo.session import Session
from dicom_node.demo.studies import Study, of_folder
from storage import views
from storage.facts.prediction import Prediction, Status
from tests.acceptance.conftest import wait_for
from tests.conftest import ROOT

MEASURED = ("mr_t1_studyforrest", "ct_chest_full_ricord1a")
REFUSED = {
    "ct_abdomen_no_lungs_acrin001": "110531",
    "ct_chest_lower_b10f_acrin013": "110531",
    "ct_head_tilt_varspacing_ge": "110522",
}

pytestmark = [pytest.mark.shared_data, pytest.mark.timeout(300)]


class Outcome:
    """What became of one study."""

    def __init__(self, session: Session, study: Study) -> None:
        self.study = study
        with session.ledger.read() as reading:
            [item] = [i for i in views.worklist(reading) if i.study_uid == study.study_uid]
        self.prediction: Prediction = item.prediction
        self.objects: dict[str, Stored] = {
            s.modality: s for s in session.pacs.objects() if s.study_uid == study.study_uid
        }


@pytest.fixture(scope="module")
def outcomes(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Outcome]]:
    """All of them through one node, as a PACS would send them."""
    models = next((m for m in (ROOT / "demo" / "models", shared_data / "models") if (m / "brain-t1").is_dir()), None)
    if models is None:
        pytest.skip("the brain model's weights are not here: `make demo` fetches them")
    folder = tmp_path_factory.mktemp("real")
    studies: dict[str, Study] = {}
    with Session(folder / "node", models) as session:
        for name in (*MEASURED, *REFUSED):
            with zipfile.ZipFile(shared_data / "studies" / f"{name}.zip") as archive:
                archive.extractall(folder / name)
            [studies[name]] = of_folder(folder / name)
            session.send(studies[name].files)
        for study in studies.values():
            assert wait_for(session, study.study_uid, 200).failed == ()
        yield {name: Outcome(session, study) for name, study in studies.items()}


def test_the_intracranial_volume_of_a_real_head_is_the_known_one(outcomes: dict[str, Outcome]) -> None:
    prediction = outcomes["mr_t1_studyforrest"].prediction

    [brain] = prediction.segments
    assert brain.measurements[0].value == pytest.approx(1791.7, rel=0.005)


def test_the_segmentation_lies_exactly_on_the_source_planes(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["mr_t1_studyforrest"]
    headers = [pydicom.dcmread(file.path, stop_before_pixels=True) for file in outcome.study.files]
    sources = {str(header.SOPInstanceUID): header for header in headers}
    seg = pydicom.dcmread(outcome.objects["SEG"].path)

    shared = seg.SharedFunctionalGroupsSequence[0]
    first = next(iter(sources.values()))
    assert [float(v) for v in shared.PlaneOrientationSequence[0].ImageOrientationPatient] == pytest.approx(
        [float(v) for v in first.ImageOrientationPatient], abs=1e-6
    )
    assert (seg.Rows, seg.Columns) == (first.Rows, first.Columns)
    for frame in seg.PerFrameFunctionalGroupsSequence:
        uid = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        place = [float(v) for v in frame.PlanePositionSequence[0].ImagePositionPatient]
        assert place == pytest.approx([float(v) for v in sources[uid].ImagePositionPatient], abs=1e-4)


def test_lung_density_of_a_real_chest_leaves_out_stomach_and_airways(outcomes: dict[str, Outcome]) -> None:
    prediction = outcomes["ct_chest_full_ricord1a"].prediction
    values = {m.name.value: m.value for m in prediction.measurements}

    assert prediction.status is Status.SUCCEEDED
    # A plain threshold gives 3001 mL, -786 HU, 6.1 % and -886 HU, with a scrap of stomach and the airways in it.
    assert 2400 < values["118565006"] < 3001
    assert -800 < values["112181"] < -750
    assert values["LAA-950"] < 6.1
    assert -890 < values["PERC15"] < -840


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_outside_of_the_package_is_not_analysed_and_gets_no_number(
    outcomes: dict[str, Outcome], name: str
) -> None:
    outcome = outcomes[name]

    assert outcome.prediction.status is Status.NOT_ATTEMPTED
    assert outcome.prediction.reason is not None
    assert outcome.prediction.reason.code.value == REFUSED[name]
    assert set(outcome.objects) == {"SR"}
    report = pydicom.dcmread(outcome.objects["SR"].path)
    assert "Not analysed" in "".join(_texts(report))
    assert not [item for item in _items(report) if item.ValueType == "NUM"]


def _items(dataset: pydicom.Dataset) -> Iterator[pydicom.Dataset]:
    for item in dataset.get("ContentSequence", ()):
        yield item
        yield from _items(item)


def _texts(dataset: pydicom.Dataset) -> list[str]:
    return [str(item.TextValue) for item in _items(dataset) if item.ValueType == "TEXT"]


@pytest.mark.parametrize("name", [*MEASURED, *REFUSED])
def test_validators_accept_every_object(outcomes: dict[str, Outcome], name: str) -> None:
    validator = Path(sys.executable).with_name("dciodvfy")
    for stored in outcomes[name].objects.values():
        done = subprocess.run([validator, stored.path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "Error" not in done.stderr
        if stored.modality == "SR" and shutil.which("dsrdump"):
            dumped = subprocess.run(["dsrdump", stored.path], capture_output=True, text=True, check=False)
            assert dumped.returncode == 0, dumped.stderr
