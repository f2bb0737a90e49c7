"""The stand-in PACS, called by pynetdicom's own SCU."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE

from dicom_node.deliver.dimse import Interrupted, send
from dicom_node.deliver.echo import echo
from dicom_node.demo.pacs import STUDY_ROOT_FIND, StandInPacs
from storage.facts.errors import Transient
from tests.dicom_node.deliver.making import outgoing, to


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[StandInPacs]:
    with StandInPacs(tmp_path / "pacs") as running:
        yield running


def find(port: int, **keys: str | None) -> list[Dataset]:
    ae = AE("NODE")
    ae.add_requested_context(STUDY_ROOT_FIND)
    association = ae.associate("127.0.0.1", port)
    query = Dataset()
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    found = [answer for _, answer in association.send_c_find(query, STUDY_ROOT_FIND) if answer is not None]
    association.release()
    return found


def test_it_counts_what_it_holds_for_who_asks(tmp_path: Path, pacs: StandInPacs) -> None:
    files = [outgoing(tmp_path, n) for n in range(5)]  # one study, two series
    send(files, to(pacs.port))
    study = pacs.objects()[0].study_uid

    series = find(pacs.port, QueryRetrieveLevel="SERIES", StudyInstanceUID=study, SeriesInstanceUID="",
                  NumberOfSeriesRelatedInstances=None, Modality="")  # fmt: skip
    studies = find(pacs.port, QueryRetrieveLevel="STUDY", StudyInstanceUID="", PatientID="4711",
                   NumberOfStudyRelatedInstances=None, NumberOfStudyRelatedSeries=None)  # fmt: skip
    others = find(pacs.port, QueryRetrieveLevel="STUDY", StudyInstanceUID="", PatientID="nobody")

    assert sorted(s.NumberOfSeriesRelatedInstances for s in series) == [2, 3]
    assert {s.Modality for s in series} == {"CT"}
    assert [(s.NumberOfStudyRelatedInstances, s.NumberOfStudyRelatedSeries) for s in studies] == [(5, 2)]
    assert others == []


def test_it_is_down_and_up_again_with_what_it_had(tmp_path: Path, pacs: StandInPacs) -> None:
    file, port = outgoing(tmp_path, 1), pacs.port
    send([file], to(port))

    pacs.stop()
    with pytest.raises(Interrupted, match="nothing listens"):
        send([file], to(port))
    pacs.start()

    assert pacs.port == port
    assert [o.sop_instance_uid for o in pacs.objects()] == [file.sop_instance_uid]
    assert send([file], to(port))[0].status == 0


def test_it_lists_what_a_viewer_would_show(tmp_path: Path, pacs: StandInPacs) -> None:
    file = outgoing(tmp_path, 1)
    send([file], to(pacs.port))

    [held] = pacs.objects()

    assert (held.modality, held.description, held.sop_class_uid) == ("CT", "synthetic", file.sop_class_uid)
    assert held.size == held.path.stat().st_size > 2048


def test_it_leaves_no_half_written_file(tmp_path: Path, pacs: StandInPacs) -> None:
    pacs.misbehaviour.abort_every = 2

    with pytest.raises(Interrupted):
        send([outgoing(tmp_path, n, pixels=1 << 20) for n in range(3)], to(pacs.port))

    assert [p.suffix for p in (pacs.folder / "objects").iterdir()] == [".dcm"]


def test_it_runs_as_a_process_that_ends_when_told(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dicom_node.demo.pacs", "--folder", str(tmp_path), "--aet", "OTHER"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        port = int(line.rpartition(":")[2])

        assert line.startswith("OTHER listens on 127.0.0.1:")
        assert echo(to(port)) > 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0

    with pytest.raises(Transient):
        echo(to(port))
