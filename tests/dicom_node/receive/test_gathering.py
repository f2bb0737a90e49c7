"""What a source sends on the association on which it was asked (C-GET) is stored as what it pushes is."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLosslessSV1
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.transport import ThreadedAssociationServer

from dicom_node.config import NodeConfig
from dicom_node.deliver.dimse import send
from dicom_node.deliver.study_root import FIND, GET
from dicom_node.peers import PeerSection
from dicom_node.receive import gathering as module
from dicom_node.receive.assembly import expect
from dicom_node.receive.completeness import AskTheSource, QuietTime
from dicom_node.receive.gathering import Gathering, offer
from storage import views
from storage.facts.errors import Rejected, Transient
from storage.facts.study import Instance
from storage.ledger import Ledger
from tests.dicom_node.deliver.making import ROOT, free_port, outgoing, to

STUDY, SERIES = f"{ROOT}.0.1", f"{ROOT}.0.1.0"
PEER = PeerSection(ae_title="PACS")
Hook = Callable[[int, Event], None]


class Archive:
    """A PACS that answers C-GET with the objects of one series; it may do something before each of them."""

    def __init__(self, objects: Sequence[Dataset], before: Hook | None = None, tells_classes: bool = True) -> None:
        self.objects, self.before, self.tells_classes = objects, before, tells_classes
        self.port = free_port()
        self.asked: list[tuple[str, int]] = []  #: level, UIDs named

    def find(self, _event: Event) -> Iterator[tuple[int, Dataset]]:
        for one in self.objects:
            answer = Dataset()
            answer.SOPInstanceUID = one.SOPInstanceUID
            if self.tells_classes:
                answer.SOPClassUID = one.SOPClassUID
            yield 0xFF00, answer

    def get(self, event: Event) -> Iterator[Any]:
        wanted = event.identifier.get("SOPInstanceUID") or []
        wanted = [wanted] if isinstance(wanted, str) else list(wanted)
        self.asked.append((event.identifier.QueryRetrieveLevel, len(wanted)))
        chosen = [one for one in self.objects if not wanted or one.SOPInstanceUID in wanted]
        yield len(chosen)
        for number, one in enumerate(chosen):
            if self.before is not None:
                self.before(number, event)
            yield 0xFF00, one

    @contextmanager
    def listening(self) -> Iterator[Archive]:
        ae = AE(ae_title="PACS")
        ae.add_supported_context(FIND)
        ae.add_supported_context(GET)
        for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLosslessSV1):
            ae.add_supported_context(CTImageStorage, syntax, scu_role=True, scp_role=True)
        handlers: Any = [(evt.EVT_C_FIND, self.find), (evt.EVT_C_GET, self.get)]
        server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)
        assert isinstance(server, ThreadedAssociationServer)
        try:
            yield self
        finally:
            server.shutdown()


def objects(folder: Path, count: int, syntax: str = ExplicitVRLittleEndian, first: int = 0) -> list[Dataset]:
    """The series' objects, each of another size."""
    folder.mkdir(exist_ok=True)
    written = ExplicitVRLittleEndian if syntax == JPEGLosslessSV1 else syntax
    files = [outgoing(folder, 2 * n, syntax=written, pixels=2048 * (n + 1)) for n in range(first, first + count)]
    made = [pydicom.dcmread(file.path) for file in files]
    for one in made:
        if syntax != written:  # nobody decodes it
            one.add_new("PixelData", "OB", encapsulate([one.PixelData]))
            one["PixelData"].is_undefined_length = True
            one.file_meta.TransferSyntaxUID = syntax
    return made


def gathering_of(ledger: Ledger, *, fails: int = 0, **receive: object) -> Gathering:
    """What fetches; its ledger is away for the first so many times that something is to be entered."""
    config = NodeConfig.model_validate({"node": {"data": str(ledger.data)}, "receive": receive})
    see_to = expect(AskTheSource(quiet=QuietTime(settings=config.receive), askable=frozenset({"PACS"})))
    left = [None] * fails

    def unless_away(tx: Any, touched: Sequence[str]) -> None:
        if left:
            left.pop()
            raise Transient("the ledger is away")
        see_to(tx, touched)

    return Gathering(config, ledger, unless_away)


def fetched(gathering: Gathering, archive: Archive, *uids: str, peer: PeerSection = PEER) -> tuple[int, int]:
    return gathering.retrieve(peer, to(archive.port), STUDY, SERIES, uids)


def here(ledger: Ledger) -> dict[str, Instance]:
    with ledger.begin_reading() as tx:
        return {one.sop_instance_uid: one for one in tx.studies.instances(SERIES)}


def actions(ledger: Ledger) -> list[str]:
    with ledger.read() as session:
        return [row.action for row in views.trail(session)]


def is_intact(ledger: Ledger, sent: Sequence[Dataset]) -> bool:
    """Whether each file says what was sent, bears the digest that the ledger has, and incoming is empty."""
    known = here(ledger)
    for one in sent:
        path = ledger.data / known[one.SOPInstanceUID].path
        read = pydicom.dcmread(path)
        if read.PixelData != one.PixelData or read.file_meta.TransferSyntaxUID != one.file_meta.TransferSyntaxUID:
            return False
        if read.file_meta.SendingApplicationEntityTitle != "PACS":
            return False
    return not list((ledger.data / "incoming").iterdir())


@pytest.mark.parametrize("tells_classes", [True, False], ids=["classes told", "classes not told"])
def test_a_series_comes_on_the_association_that_asks(any_ledger: Ledger, tmp_path: Path, tells_classes: bool) -> None:
    sent = objects(tmp_path / "sent", 12)
    with Archive(sent, tells_classes=tells_classes).listening() as archive:
        assert fetched(gathering_of(any_ledger), archive) == (12, 0)

    assert is_intact(any_ledger, sent)
    assert archive.asked == [("SERIES", 0)]
    assert actions(any_ledger)[-1] == "association ended"
    with any_ledger.begin_reading() as tx:
        evidence = tx.studies.evidence(SERIES)
    assert evidence is not None
    assert (evidence.series.calling_ae, evidence.series.called_ae) == ("PACS", "DICOM_NODE")
    with any_ledger.read() as session:
        assert [(t.kind, t.series_uid) for t in views.tasks(session)] == [("assemble", SERIES)]


@pytest.fixture
def dcmtk(tmp_path: Path) -> Iterator[int]:
    """The port of DCMTK's own archive, which is empty."""
    program = shutil.which("dcmqrscp")
    if program is None:
        pytest.skip("DCMTK is not installed")
    port = free_port()
    (tmp_path / "archive").mkdir()
    settings = tmp_path / "dcmqrscp.cfg"
    settings.write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 4\nHostTable BEGIN\nHostTable END\n"
        f"VendorTable BEGIN\nVendorTable END\nAETable BEGIN\nPACS {tmp_path}/archive RW (9, 100mb) ANY\nAETable END\n",
        encoding="utf-8",
    )
    with subprocess.Popen(
        [program, "-c", str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    ) as archive:
        until = time.monotonic() + 20
        while archive.poll() is None and time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield port
        archive.terminate()


def test_dcmtk_sends_on_the_association_that_asks(dcmtk: int, ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "sent").mkdir()
    files = [outgoing(tmp_path / "sent", 2 * n, pixels=2048 * (n + 1)) for n in range(8)]
    assert {answer.status for answer in send(files, to(dcmtk))} == {0}
    gathering, named = gathering_of(ledger), [files[3].sop_instance_uid, files[5].sop_instance_uid]

    assert gathering.retrieve(PEER, to(dcmtk), STUDY, SERIES, named) == (2, 0)
    assert set(here(ledger)) == set(named)
    assert gathering.retrieve(PEER, to(dcmtk), STUDY, SERIES, ()) == (8, 0)
    assert is_intact(ledger, [pydicom.dcmread(file.path) for file in files])


def test_objects_are_named_and_come_in_the_syntax_that_the_archive_has(ledger: Ledger, tmp_path: Path) -> None:
    sent = [
        *objects(tmp_path / "a", 2),
        *objects(tmp_path / "b", 2, JPEGLosslessSV1, first=2),
        *objects(tmp_path / "c", 2, ImplicitVRLittleEndian, first=4),
    ]
    wanted = [str(one.SOPInstanceUID) for one in sent[1:5]]
    with Archive(sent).listening() as archive:
        assert fetched(gathering_of(ledger), archive, *wanted) == (4, 0)

    assert archive.asked == [("IMAGE", 4)]
    assert set(here(ledger)) == set(wanted)
    assert is_intact(ledger, sent[1:5])


def test_what_comes_twice_is_entered_once(ledger: Ledger, tmp_path: Path) -> None:
    sent = objects(tmp_path / "sent", 3)
    with Archive(sent).listening() as archive:
        gathering = gathering_of(ledger)
        assert [fetched(gathering, archive) for _ in range(2)] == [(3, 0), (3, 0)]

    assert is_intact(ledger, sent)
    assert len(here(ledger)) == 3


def test_an_object_that_cannot_be_taken_costs_itself_alone(ledger: Ledger, tmp_path: Path) -> None:
    sent = objects(tmp_path / "sent", 4)
    del sent[2].SeriesInstanceUID
    with Archive(sent).listening() as archive:
        assert fetched(gathering_of(ledger), archive) == (3, 1)

    assert set(here(ledger)) == {str(sent[n].SOPInstanceUID) for n in (0, 1, 3)}
    assert actions(ledger).count("object refused") == 1
    assert not list((ledger.data / "incoming").iterdir())


def test_a_full_disk_is_told_to_the_archive(ledger: Ledger, tmp_path: Path) -> None:
    with (
        Archive(objects(tmp_path / "sent", 2)).listening() as archive,
        pytest.raises(Transient, match="did not send series"),
    ):
        fetched(gathering_of(ledger, refuse_below_mb=10**9), archive)

    assert here(ledger) == {}
    assert actions(ledger).count("object refused") == 2


def test_what_came_before_the_archive_went_away_stays(ledger: Ledger, tmp_path: Path) -> None:
    def before(number: int, event: Event) -> None:
        if number == 5:
            event.assoc.abort()

    sent = objects(tmp_path / "sent", 8)
    with Archive(sent, before).listening() as archive, pytest.raises(Transient):
        fetched(gathering_of(ledger), archive)

    assert set(here(ledger)) == {str(one.SOPInstanceUID) for one in sent[:5]}
    assert is_intact(ledger, sent[:5])
    with ledger.read() as session:
        [ended] = [row for row in views.trail(session) if row.action == "association ended"]
    assert (ended.details["ending"], ended.details["carried"]) == ("aborted", [SERIES])


def test_objects_are_entered_while_others_still_come(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 3)
    monkeypatch.setattr(module, "BATCH_SECONDS", 3600.0)
    seen: list[int] = []
    with Archive(objects(tmp_path / "sent", 9), lambda _n, _e: seen.append(len(here(ledger)))).listening() as archive:
        assert fetched(gathering_of(ledger), archive) == (9, 0)

    assert seen[0] == 0
    assert 3 <= seen[-1] < 9
    assert len(here(ledger)) == 9


def test_what_the_ledger_did_not_take_is_entered_with_the_next_retrieval(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ENTER_SECONDS", 0.0)
    gathering = gathering_of(ledger, fails=100)
    sent = objects(tmp_path / "sent", 3)
    with Archive(sent[:2]).listening() as archive:
        assert fetched(gathering, archive) == (2, 0)
    assert here(ledger) == {}
    assert len(list((ledger.data / "incoming").iterdir())) == 2

    working = gathering_of(ledger)
    gathering._expect = working._expect
    with Archive(sent[2:]).listening() as archive:
        assert fetched(gathering, archive) == (1, 0)
    assert is_intact(ledger, sent)
    with ledger.begin_reading() as tx:
        assert tx.studies.lose_associations() == ()


def test_more_than_the_ledger_is_behind_with_is_refused(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ENTER_SECONDS", 0.0)
    monkeypatch.setattr(module, "BACKLOG", 4)
    with Archive(objects(tmp_path / "sent", 8)).listening() as archive:
        stored, refused = fetched(gathering_of(ledger, fails=100), archive)

    assert stored + refused == 8
    assert 0 < stored <= 4
    assert len(list((ledger.data / "incoming").iterdir())) == stored


def fetch_slowly(data: Path, port: int) -> None:
    """In a process of its own, which enters nothing before the end."""
    module.BATCH_SECONDS = 3600.0
    ledger = Ledger(data)
    gathering = gathering_of(ledger)
    gathering.retrieve(PEER, to(port), STUDY, SERIES, ())


def test_what_was_acknowledged_before_the_process_was_killed_is_entered_by_its_successor(
    ledger: Ledger, tmp_path: Path
) -> None:
    killed = threading.Event()
    child = multiprocessing.get_context("spawn").Process

    def before(number: int, _event: Event) -> None:
        if number == 6:
            assert running.pid is not None
            os.kill(running.pid, signal.SIGKILL)
            running.join()
            killed.set()

    sent = objects(tmp_path / "sent", 9)
    with Archive(sent, before).listening() as archive:
        running = child(target=fetch_slowly, args=(ledger.data, archive.port))
        running.start()
        assert killed.wait(60)
    (ledger.data / "incoming" / "1.2.get-1f-0.part").write_bytes(b"half")
    (ledger.data / "incoming" / "1.2.1f-0.part").write_bytes(b"the receiver's")
    acknowledged = len(list((ledger.data / "incoming").glob("*.dcm"))) + len(here(ledger))

    gathering_of(ledger).resume()

    assert acknowledged == 6
    assert set(here(ledger)) == {str(one.SOPInstanceUID) for one in sent[:6]}
    assert [path.name for path in (ledger.data / "incoming").iterdir()] == ["1.2.1f-0.part"]
    with ledger.begin_reading() as tx:
        assert tx.studies.lose_associations() == (), "none is open any more"


def test_a_successor_leaves_open_what_the_receiver_has_open(ledger: Ledger) -> None:
    with ledger.begin("test") as tx:
        tx.studies.open_association("AcceptorThread-1", "PACS", "N", "127.0.0.1", time.time())
        tx.studies.open_association("get-1", "PACS", "N", "127.0.0.1", time.time())
    gathering_of(ledger).resume()

    with ledger.read() as session:
        ended = [row for row in views.trail(session) if row.action == "association ended"]
    assert [row.details["ending"] for row in ended] == ["lost"]


def test_a_few_classes_are_offered_in_every_syntax_alone_and_many_in_all_at_once() -> None:
    few = offer([CTImageStorage], PEER)
    many = offer([], PEER)

    assert all(len(one.transfer_syntaxes) == 1 for one in few)
    assert [one.transfer_syntaxes[0] for one in few[:2]] == [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    assert len(many) <= 127
    assert {one.abstract_syntax for one in many} >= {CTImageStorage}
    assert all(JPEGLosslessSV1 in one.transfer_syntaxes for one in many)
    assert all(one.scp_role and not one.scu_role for one in (*few, *many))


def test_what_a_peer_may_not_push_it_may_not_send_either() -> None:
    peer = PeerSection(
        ae_title="PACS", sop_classes=("1.2.840.10008.5.1.4.1.1.4",), transfer_syntaxes=("1.2.840.10008.1.2.1",)
    )

    assert [(one.abstract_syntax, one.transfer_syntaxes) for one in offer([], peer)] == [
        ("1.2.840.10008.5.1.4.1.1.4", ("1.2.840.10008.1.2.1",))
    ]
    with pytest.raises(Rejected, match="not among the sop_classes of peer PACS"):
        offer([CTImageStorage], peer)
