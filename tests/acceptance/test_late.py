"""Objects that come after a series was analysed: a new run, a report that names the one it replaces."""

from __future__ import annotations

import time
from pathlib import Path

import pydicom

from dicom_node.demo.studies import of_folder
from storage import views
from tests.acceptance.conftest import OpenSession, wait_for
from tests.acceptance.making import write_study


def test_late_slices_make_a_new_report_that_names_the_one_it_replaces(
    open_session: OpenSession, tmp_path: Path
) -> None:
    write_study(tmp_path / "study", 1)
    [study] = of_folder(tmp_path / "study")
    by_height = sorted(study.files, key=lambda f: float(pydicom.dcmread(f.path).ImagePositionPatient[2]))
    with open_session() as session:
        session.send(by_height[:90])
        wait_for(session, study.study_uid)
        first = {s.sop_instance_uid for s in session.pacs.objects()}
        session.send(by_height[90:])
        time.sleep(0.3)
        assert wait_for(session, study.study_uid).failed == ()
        late = [s for s in session.pacs.objects() if s.sop_instance_uid not in first]
        with session.ledger.read() as reading:
            [series] = views.study_series(reading, study.study_uid)
            [live] = views.worklist(reading)

    assert (series.revision, series.instances) == (2, 100)
    assert live.prediction.revision == 2
    [report] = [pydicom.dcmread(s.path) for s in late if s.modality == "SR"]
    [replaced] = report.PredecessorDocumentsSequence
    named = replaced.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert named in first
