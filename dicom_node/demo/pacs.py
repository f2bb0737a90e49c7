"""A stand-in PACS for demonstrations and tests: keeps what is sent, and misbehaves on request.

Storage, C-ECHO, C-FIND at study and series level, Storage Commitment, UPS Push. It is no archive: its index lives in
memory and is rebuilt from the folder.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import struct
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import write_file_meta_info
from pydicom.multival import MultiValue
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.presentation import build_context
from pynetdicom.transport import AssociationServer

from dicom_node.deliver.association import EXPLICIT, IMPLICIT
from dicom_node.deliver.commitment import send_report
from dicom_node.deliver.destination import Destination
from dicom_node.receive import contexts, landing
from dicom_node.receive.stream import SharedContexts
from dicom_node.unreadable import UNREADABLE
from dicom_node.worklist import ups
from storage.facts.errors import Transient

log = logging.getLogger(__name__)

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_KEPT = (
    "SOPClassUID", "SOPInstanceUID", "Modality", "SeriesDescription", "SeriesInstanceUID", "SeriesNumber",
    "StudyInstanceUID", "StudyDate", "StudyDescription", "AccessionNumber", "PatientID", "PatientName",
    "SpecificCharacterSet",
)  # fmt: skip
_MATCHED = ("StudyInstanceUID", "SeriesInstanceUID", "AccessionNumber", "PatientID", "Modality", "StudyDate")
_ABORT = struct.pack(">BxLBBBB", 7, 4, 0, 0, 0, 0)


@dataclass(slots=True)
class Misbehaviour:
    """What goes wrong; may be changed while the PACS runs. Counts are of C-STORE requests, from the start."""

    refuse: frozenset[str] = frozenset()  #: SOP classes whose presentation contexts are refused
    silent_every: int = 0  #: every nth object is stored, but the answer never comes
    abort_every: int = 0  #: the association is aborted in the middle of every nth object
    status: int = 0x0000  #: answered instead of storing
    status_every: int = 1  #: to every nth object


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An object that the PACS holds."""

    path: Path
    sop_instance_uid: str
    sop_class_uid: str
    series_uid: str
    study_uid: str
    modality: str
    description: str  #: SeriesDescription
    size: int  #: bytes of the file
    header: Dataset = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workitem:
    """A workitem that was pushed."""

    sop_instance_uid: str
    priority: str  #: HIGH, MEDIUM or LOW
    label: str
    worklist: str
    study_uid: str
    dataset: Dataset = field(repr=False, compare=False)


class StandInPacs:
    """Use as a context manager, or call start and stop. ``node`` is told of storage commitments."""

    def __init__(
        self,
        folder: Path,
        ae_title: str = "PACS",
        port: int = 0,
        node: Destination | None = None,
        misbehaviour: Misbehaviour | None = None,
    ) -> None:
        self.folder, self.ae_title, self.port, self.node = folder, ae_title, port, node
        self.misbehaviour = misbehaviour or Misbehaviour()
        self.received = 0  #: C-STORE requests that reached the store, duplicates included
        self._lock = threading.Lock()
        self._begun = 0
        self._objects: dict[str, Stored] = {}
        self._workitems: dict[str, Workitem] = {}
        self._reports: list[threading.Thread] = []
        self._links: dict[str, socket.socket] = {}
        self._stopping = threading.Event()
        self._server: AssociationServer | None = None

    def __enter__(self) -> StandInPacs:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Listen on 127.0.0.1; after a stop, on the same port again."""
        for name in ("objects", "workitems"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self._objects = {p.stem: _stored(p, p) for p in sorted((self.folder / "objects").glob("*.dcm"))}
        self._workitems = {p.stem: _workitem(dcmread(p)) for p in sorted((self.folder / "workitems").glob("*.dcm"))}
        self._stopping.clear()
        ae = AE(self.ae_title)
        ae.maximum_pdu_size, ae.maximum_associations = 131072, 64
        handlers: list[Any] = [
            (evt.EVT_C_ECHO, lambda _event: 0x0000),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_N_ACTION, self._commit),
            (evt.EVT_N_CREATE, self._create),
            (evt.EVT_PDU_RECV, self._look),
            (evt.EVT_CONN_OPEN, self._opened),
            (evt.EVT_CONN_CLOSE, self._closed),
        ]
        offered = [
            *contexts.accepted(),
            *(build_context(uid, [EXPLICIT, IMPLICIT]) for uid in (STUDY_ROOT_FIND, ups.PUSH)),
        ]
        offered = SharedContexts(c for c in offered if c.abstract_syntax not in self.misbehaviour.refuse)
        server = ae.make_server(("127.0.0.1", self.port), evt_handlers=handlers, contexts=offered)
        ae._servers.append(cast(Any, server))  # as start_server does, which looks for its end only twice a second
        threading.Thread(target=server.serve_forever, args=(0.02,), name="stand-in PACS", daemon=True).start()
        self._server = server
        self.port = int(self._server.server_address[1])

    def stop(self) -> None:
        """Be down: abort what is open, free the port. What was stored stays."""
        self._stopping.set()
        if self._server is not None:
            self._server.shutdown()
            for association in self._server.active_associations:
                association.abort()
            self._server = None
        while self._links:
            self._links.popitem()[1].close()
        while self._reports:
            self._reports.pop().join()

    def objects(self) -> list[Stored]:
        """What is held, by series and then as it came."""
        with self._lock:
            return sorted(self._objects.values(), key=lambda o: (o.study_uid, o.series_uid))

    def workitems(self) -> list[Workitem]:
        """What was pushed, as it came."""
        with self._lock:
            return list(self._workitems.values())

    def _opened(self, event: Event) -> None:
        event.assoc.name += f"-{uuid.uuid4().hex}"  # pynetdicom's own name is unique only to the second
        if (link := event.assoc.dul.socket) is not None and link.socket is not None:
            self._links[event.assoc.name] = link.socket

    def _closed(self, event: Event) -> None:
        """pynetdicom does not close a socket that the peer has reset."""
        if (link := self._links.pop(event.assoc.name, None)) is not None:
            link.close()

    def _look(self, event: Event) -> None:
        """On each PDU, before it is served: cut the line in the middle of an object where that is asked for."""
        if not self.misbehaviour.abort_every or not isinstance(event.pdu, P_DATA_TF):
            return
        storage = {c.context_id for c in event.assoc.accepted_contexts if c.abstract_syntax not in _NO_STORAGE}
        for item in event.pdu.presentation_data_value_items:
            if item.message_control_header_byte == "00000011" and item.presentation_context_id in storage:
                self._begun += 1
                if self._begun % self.misbehaviour.abort_every == 0:
                    _cut(event)

    def _store(self, event: Event) -> int:
        request: Any = event.request
        uid = str(request.AffectedSOPInstanceUID)
        if not landing.UID.fullmatch(uid):
            return 0xC000
        with self._lock:
            self.received += 1
            number, mis = self.received, self.misbehaviour
        if mis.status and number % mis.status_every == 0:
            return mis.status
        path = self.folder / "objects" / f"{uid}.dcm"
        part = path.with_suffix(f".{uuid.uuid4().hex}.part")
        with open(part, "wb") as target:
            target.write(b"\0" * 128 + b"DICM")
            write_file_meta_info(cast(Any, target), event.file_meta)
            target.write(request.DataSet.getbuffer())
        try:
            stored = _stored(part, path)
        except UNREADABLE:
            part.unlink()
            return 0xC000
        with self._lock:
            os.replace(part, path)
            self._objects[uid] = stored
        if mis.silent_every and number % mis.silent_every == 0:
            self._fall_silent(event)
        return 0x0000

    def _fall_silent(self, event: Event) -> None:
        """Give no answer until the peer has had enough."""
        while not self._stopping.wait(0.01) and event.assoc.dul.is_alive() and not event.assoc.acse.is_aborted():
            pass

    def _find(self, event: Event) -> Iterator[tuple[int, Dataset]]:
        """Study Root (PS3.4 C.6.2) by exact match; the counts that tell whether all has arrived are answered."""
        wanted = event.identifier
        level = "StudyInstanceUID" if wanted.QueryRetrieveLevel == "STUDY" else "SeriesInstanceUID"
        groups: dict[str, list[Stored]] = {}
        for stored in self.objects():
            if all(_matches(wanted, stored.header, keyword) for keyword in _MATCHED):
                groups.setdefault(str(stored.header.get(level, "")), []).append(stored)
        for members in groups.values():
            yield 0xFF00, _answer(wanted, members)

    def _commit(self, event: Event) -> tuple[int, Dataset | None]:
        """Take the request; the report goes out on an association of its own (PS3.4 J.3.3)."""
        if self.node is None:
            return 0x0110, None
        asked = event.action_information
        thread = threading.Thread(target=self._report, args=(asked, self.node), name="commitment-report")
        thread.start()
        self._reports.append(thread)
        return 0x0000, None

    def _report(self, asked: Dataset, node: Destination) -> None:
        report, failed = Dataset(), []
        report.TransactionUID, report.ReferencedSOPSequence = asked.TransactionUID, []
        for item in asked.ReferencedSOPSequence:
            held = self._objects.get(str(item.ReferencedSOPInstanceUID))
            if held is not None and held.sop_class_uid == item.ReferencedSOPClassUID:
                report.ReferencedSOPSequence.append(item)
                continue
            item.FailureReason = 0x0112 if held is None else 0x0119
            failed.append(item)
        if failed:
            report.FailedSOPSequence = failed
        for pause in (0.05, 0.5, 1.0, 2.0):
            if self._stopping.wait(pause):
                return
            try:
                send_report(node, report)
            except Transient as error:
                log.warning("the commitment report did not arrive: %s", error)
            else:
                return

    def _create(self, event: Event) -> tuple[int, Dataset | None]:
        """UPS Push (PS3.4 CC.2.5): a workitem is created once, and in the state SCHEDULED."""
        request: Any = event.request
        uid, dataset = str(request.AffectedSOPInstanceUID or ""), event.attribute_list
        if not landing.UID.fullmatch(uid):
            return 0x0117, None
        if dataset.get("ProcedureStepState") != "SCHEDULED":
            return 0xC309, None
        if uid in self._workitems:
            return 0x0111, None
        dataset.SOPClassUID, dataset.SOPInstanceUID = UID(ups.PUSH), UID(uid)
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(self.folder / "workitems" / f"{uid}.dcm", enforce_file_format=True)
        with self._lock:
            self._workitems[uid] = _workitem(dataset)
        return 0x0000, dataset


_NO_STORAGE = {contexts.VERIFICATION, contexts.STORAGE_COMMITMENT, STUDY_ROOT_FIND, ups.PUSH}


def _stored(path: Path, later: Path) -> Stored:
    """What a file holds that will lie elsewhere."""
    header = dcmread(path, stop_before_pixels=True, specific_tags=list(_KEPT))
    return Stored(
        path=later,
        sop_instance_uid=str(header.file_meta.MediaStorageSOPInstanceUID),
        sop_class_uid=str(header.file_meta.MediaStorageSOPClassUID),
        series_uid=str(header.get("SeriesInstanceUID", "")),
        study_uid=str(header.get("StudyInstanceUID", "")),
        modality=str(header.get("Modality", "")),
        description=str(header.get("SeriesDescription", "")),
        size=path.stat().st_size,
        header=header,
    )


def _workitem(dataset: Dataset) -> Workitem:
    return Workitem(
        sop_instance_uid=str(dataset.SOPInstanceUID),
        priority=str(dataset.get("ScheduledProcedureStepPriority", "")),
        label=str(dataset.get("ProcedureStepLabel", "")),
        worklist=str(dataset.get("WorklistLabel", "")),
        study_uid=str(dataset.get("StudyInstanceUID", "")),
        dataset=dataset,
    )


def _cut(event: Event) -> None:
    """Abort and close, so that what is still on its way is not served."""
    link = event.assoc.dul.socket
    if link is None or link.socket is None:
        return
    with suppress(OSError):  # the peer may be quicker
        link.socket.sendall(_ABORT)
    link.close()


def _matches(wanted: Dataset, header: Dataset, keyword: str) -> bool:
    key = wanted.get(keyword)
    keys = [str(k) for k in key] if isinstance(key, MultiValue) else [str(key or "*")]
    return "*" in keys or str(header.get(keyword, "")) in keys


def _answer(wanted: Dataset, members: list[Stored]) -> Dataset:
    """One match: what was asked for, as far as it is known."""
    answer = Dataset()
    known: dict[str, Any] = {
        "NumberOfStudyRelatedInstances": len(members),
        "NumberOfSeriesRelatedInstances": len(members),
        "NumberOfStudyRelatedSeries": len({m.series_uid for m in members}),
        "ModalitiesInStudy": sorted({m.modality for m in members}),
        "SOPClassesInStudy": sorted({m.sop_class_uid for m in members}),
        "QueryRetrieveLevel": wanted.QueryRetrieveLevel,
    }
    header = members[0].header
    if "SpecificCharacterSet" in header:
        answer.SpecificCharacterSet = header.SpecificCharacterSet
    for element in wanted:
        if element.keyword in known:
            setattr(answer, element.keyword, known[element.keyword])
        elif element.keyword in header:
            answer[element.tag] = header[element.tag]
        elif element.keyword != "SpecificCharacterSet":
            answer[element.tag] = element
            answer[element.tag].clear()
    return answer


def main(arguments: list[str] | None = None) -> None:
    """``python -m dicom_node.demo.pacs``: run until told to stop; the first line says which port."""
    parser = argparse.ArgumentParser(prog="python -m dicom_node.demo.pacs", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--aet", default="PACS")
    parser.add_argument("--node", nargs=3, metavar=("AET", "HOST", "PORT"), help="who is told of storage commitments")
    given = parser.parse_args(arguments)
    node = None
    if given.node:
        title, host, port = given.node
        node = Destination(name="node", ae_title=title, host=host, port=int(port), calling_ae=given.aet)
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    with StandInPacs(given.folder, given.aet, given.port, node) as pacs:
        print(f"{pacs.ae_title} listens on 127.0.0.1:{pacs.port}", flush=True)
        over.wait()


if __name__ == "__main__":
    main()
