"""A real PACS forwards by itself, gets the results back, and is asked what it has."""

from __future__ import annotations

import datetime
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from click.testing import CliRunner

from dicom_node.cli import cli
from dicom_node.deliver.destination import Destination
from dicom_node.deliver.dimse import send
from dicom_node.deliver.echo import echo
from dicom_node.deliver.query import counts
from dicom_node.demo.session import NODE, PACS, Session
from dicom_node.demo.studies import Study, of_folder
from storage import views
from storage.facts.errors import Transient
from tests.acceptance.conftest import wait_for
from tests.acceptance.making import put_rule, write_package, write_study
from tests.dicom_node.deliver.making import free_port

FORWARD = """
local IMAGES = {CT = true, MR = true}
function OnStableSeries(id, tags, metadata)
  if IMAGES[tags['Modality']] and metadata['RemoteAET'] ~= 'DICOM_NODE' then
    RestApiPost('/modalities/node/store', DumpJson({Resources = {id}, Asynchronous = true}, true))
  end
end
"""


class Archive:
    """An Orthanc, and a node that knows it."""

    def __init__(self, session: Session, orthanc: Destination) -> None:
        self.session, self.orthanc = session, orthanc

    def send(self, study: Study, *, calling: str, to_node: int = 0) -> None:
        """Store a study in the archive, or its first files in the node as if the archive had sent them."""
        files = study.files[:to_node] if to_node else study.files
        name, port = (NODE, self.session.port) if to_node else (self.orthanc.ae_title, self.orthanc.port)
        send(files, Destination(name=name, ae_title=name, host="127.0.0.1", port=port, calling_ae=calling))


@pytest.fixture
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Archive]:
    """Starts an Orthanc with a forwarding script, and a node beside it, which fetches by C-MOVE or as the test says."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("Orthanc is not installed")
    port, node_port = free_port(), free_port()
    write_package(tmp_path / "models")
    by = getattr(request, "param", "C-MOVE")
    more = f"""
[[receive.peers]]
ae_title = "ORTHANC"
query = "orthanc"
fetch = true
fetch_by = "{by}"
reconcile = "all"

[reconcile]
every_minutes = 0.03
settle_minutes = 0.03

[destinations.orthanc]
ae_title = "ORTHANC"
host = "127.0.0.1"
port = {port}
storage_commitment = true
"""
    session = Session(tmp_path / "node", tmp_path / "models", more=more, port=node_port)
    (tmp_path / "forward.lua").write_text(FORWARD, encoding="utf-8")
    settings = {
        "StorageDirectory": str(tmp_path / "db"), "IndexDirectory": str(tmp_path / "db"), "Plugins": [],
        "HttpServerEnabled": False, "DicomAet": "ORTHANC", "DicomPort": port, "StableAge": 1,
        "DicomAlwaysAllowMove": by == "C-MOVE", "DicomAlwaysAllowFind": True, "DicomAlwaysAllowGet": by == "C-GET",
        "StorageCommitmentReportsSize": 100,
        "LuaScripts": [str(tmp_path / "forward.lua")],
        "DicomModalities": {"node": {"AET": NODE, "Host": "127.0.0.1", "Port": node_port,
                                     "AllowMove": by == "C-MOVE", "AllowGet": by == "C-GET",
                                     "AllowStorageCommitment": True}},
    }  # fmt: skip
    (tmp_path / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
    orthanc = Destination(name="orthanc", ae_title="ORTHANC", host="127.0.0.1", port=port, calling_ae=NODE)
    with (tmp_path / "orthanc.log").open("wb") as log, session:
        put_rule(session, destinations=("orthanc",))
        with subprocess.Popen([program, str(tmp_path / "orthanc.json")], stdout=log, stderr=log) as process:
            try:
                _await(orthanc)
                yield Archive(session, orthanc)
            finally:
                process.terminate()


def _await(orthanc: Destination) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            echo(orthanc)
            return
        except Transient:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def a_study(tmp_path: Path, seed: int) -> Study:
    write_study(tmp_path / f"study{seed}", seed)
    for path in (tmp_path / f"study{seed}").rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.StudyDate = f"{datetime.datetime.now():%Y%m%d}"
        dataset.save_as(path)
    [study] = of_folder(tmp_path / f"study{seed}")
    return study


def wait_for_stages(session: Session) -> None:
    """They have looked at what the archive has: their libraries are loaded, which takes seconds with some."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with session.ledger.read() as reading:
            if views.looks(reading):
                return
        time.sleep(0.1)
    raise AssertionError("the stages did not begin")


def completion(session: Session, study: Study) -> tuple[str, float]:
    """Why the series was closed, and how long after its last object."""
    with session.ledger.read() as reading:
        rows = views.trail(reading, study=study.study_uid)
        [series] = views.study_series(reading, study.study_uid)
    [closed] = [row for row in rows if row.action == "series complete"]
    [done] = [row for row in rows if row.action == "task finish" and row.details.get("kind") == "assemble"]
    return str(done.details["why"]), closed.at - series.last_at


def test_a_pacs_forwards_by_itself_and_gets_the_results_once(start: Archive, tmp_path: Path) -> None:
    study = a_study(tmp_path, 1)
    wait_for_stages(start.session)
    start.send(study, calling=PACS)
    wait_for_arrival(start.session, study)
    wait_for(start.session, study.study_uid)
    time.sleep(3)  # the archive's own stable age: results must not be forwarded again

    [series] = {str(s): n for s, n in counts(start.orthanc, study.study_uid).items() if n == len(study.files)}
    assert sorted(counts(start.orthanc, study.study_uid).values()) == [1, 1, len(study.files)]
    with start.session.ledger.read() as reading:
        assert [s.series_uid for s in views.study_series(reading, study.study_uid)] == [series]
    why, seconds = completion(start.session, study)
    assert why == "the source has 100 objects of it, all are here"
    assert seconds < 1.0


def send_with_a_gap(start: Archive, study: Study, to_node: int) -> None:
    """All of it to the archive, only so many objects to the node, and wait for its result."""
    start.send(study, calling=NODE)  # not forwarded: it seems to come from the node
    start.send(study, calling="ORTHANC", to_node=to_node)
    wait_for(start.session, study.study_uid)


BOTH = pytest.mark.parametrize("start", ["C-MOVE", "C-GET"], indirect=True)


@BOTH
def test_what_the_pacs_has_and_the_node_lacks_is_fetched(start: Archive, tmp_path: Path) -> None:
    study = a_study(tmp_path, 2)
    send_with_a_gap(start, study, 70)
    with start.session.ledger.read() as reading:
        [series] = views.study_series(reading, study.study_uid)
    assert series.instances == 100
    assert series.revision == 1
    why, _ = completion(start.session, study)
    assert "has 100 objects of it, all are here" in why


@BOTH
def test_a_few_objects_that_lack_are_fetched_alone(start: Archive, tmp_path: Path) -> None:
    study = a_study(tmp_path, 5)
    send_with_a_gap(start, study, 97)
    with start.session.ledger.read() as reading:
        [series] = views.study_series(reading, study.study_uid)
        received = [row for row in views.trail(reading, study=study.study_uid) if row.action == "instances received"]
    assert (series.instances, series.revision) == (100, 1)
    assert sum(len(row.details["instances"]) for row in received) == 100, "nothing came twice"
    assert not any("known" in row.details["fates"] for row in received)


def test_what_was_forwarded_while_the_node_was_down_is_fetched_and_analysed_once(
    start: Archive, tmp_path: Path
) -> None:
    session = start.session
    study, known = a_study(tmp_path, 3), a_study(tmp_path, 4)
    start.send(known, calling=PACS)
    wait_for_arrival(session, known)
    wait_for(session, known.study_uid)
    session.stop_node()
    start.send(study, calling=PACS)
    time.sleep(3)  # the archive tries to forward it, once
    session.start_node()

    wait_for_arrival(session, study)
    assert wait_for(session, study.study_uid).failed == ()
    time.sleep(5)  # more looks: nothing lacks any more

    with session.ledger.read() as reading:
        [series] = views.study_series(reading, study.study_uid)
        trail = views.trail(reading, study=study.study_uid)
        results = [item for item in views.worklist(reading) if item.study_uid == study.study_uid]
        [look] = views.looks(reading)
    assert (series.revision, series.instances) == (1, len(study.files))
    assert len(results) == 1
    actions = [row.action for row in trail]
    assert [a for a in actions if "lacking" in a or "fetched" in a] == [
        "objects lacking", "lacking objects asked for", "objects fetched", "lacking objects here",
    ]  # fmt: skip
    assert (look.lacking, look.why) == (0, "")
    shown = CliRunner().invoke(cli, ["status", "-c", str(session.path)]).output
    assert "ORTHANC" in shown


def wait_for_arrival(session: Session, study: Study) -> None:
    until = time.monotonic() + 30
    while session.progress(study.study_uid).received == 0:
        assert time.monotonic() < until, "nothing was forwarded"
        time.sleep(0.05)
