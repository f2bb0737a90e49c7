"""Small real objects to send, and a peer that follows a script byte by byte."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, MaximumLengthNotification

from dicom_node.deliver.destination import Destination, Outgoing

ROOT = "1.2.826.0.1.3680043.10.1"


def outgoing(
    folder: Path, number: int, sop_class: str = CTImageStorage, syntax: str = ExplicitVRLittleEndian, pixels: int = 2048
) -> Outgoing:
    """A written Part 10 file of ``pixels`` bytes of pixel data; the same number gives the same object."""
    dataset = Dataset()
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = f"{ROOT}.{number}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{ROOT}.0.1", f"{ROOT}.0.1.{number % 2}"
    dataset.PatientName, dataset.PatientID = "Doe^Jane", "4711"
    dataset.Modality, dataset.SeriesDescription, dataset.InstanceNumber = "CT", "synthetic", number
    dataset.Rows, dataset.Columns, dataset.BitsAllocated = pixels // 2048, 1024, 16
    dataset.add_new("PixelData", "OW", bytes(range(256)) * (pixels // 256))
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    path = folder / f"{number}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return Outgoing(
        path=path, sop_class_uid=sop_class, sop_instance_uid=str(dataset.SOPInstanceUID), transfer_syntax_uid=syntax
    )


def to(port: int, **changes: Any) -> Destination:
    """A destination on this machine that is not waited for long."""
    given: dict[str, Any] = {"name": "archive", "ae_title": "PACS", "host": "127.0.0.1", "port": port,
                             "calling_ae": "NODE", "connect_seconds": 2.0, "answer_seconds": 5.0}  # fmt: skip
    return Destination(**(given | changes))


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def new_uid() -> str:
    """A UID that no other test uses."""
    return str(generate_uid())


class Peer:
    """The other end of one connection, PDU by PDU."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self.lengths: list[int] = []  #: of the P-DATA-TF PDUs received

    def read(self) -> tuple[int, bytes]:
        """The next PDU: type and content; (0, b"") when the connection ended."""
        head = self._exactly(6)
        if len(head) < 6:
            return 0, b""
        kind, length = struct.unpack(">BxL", head)
        if kind == 4:
            self.lengths.append(length)
        return kind, self._exactly(length)

    def accept(self, maximum_pdu: int = 16384, result: int = 0, more: Sequence[Any] = ()) -> None:
        """Accept the association with every context in its first transfer syntax, or refuse each with a result."""
        kind, data = self.read()
        request = A_ASSOCIATE_RQ()
        request.decode(struct.pack(">BxL", kind, len(data)) + data)
        asked = request.to_primitive()
        answer = A_ASSOCIATE()
        answer.application_context_name = asked.application_context_name
        answer.calling_ae_title, answer.called_ae_title = asked.calling_ae_title, asked.called_ae_title
        answer.result, answer.result_source = 0, 1
        for context in asked.presentation_context_definition_list:
            context.result = result
            context.transfer_syntax = context.transfer_syntax[:1]
        answer.presentation_context_definition_results_list = asked.presentation_context_definition_list
        length = MaximumLengthNotification()
        length.maximum_length_received = maximum_pdu
        answer.user_information = [length, asked.user_information[1], *more]
        pdu = A_ASSOCIATE_AC()
        pdu.from_primitive(answer)
        self.link.sendall(pdu.encode())

    def read_message(self) -> tuple[dict[int, bytes], bytes]:
        """A command and its data set, from however many fragments."""
        parts: dict[int, bytes] = {0: b"", 1: b""}
        while True:
            kind, data = self.read()
            assert kind == 4, f"PDU {kind} inside of a message"
            at = 0
            while at < len(data):
                length, _, control = struct.unpack_from(">LBB", data, at)
                parts[control & 1] += data[at + 6 : at + 4 + length]
                at += 4 + length
                if control == 2:
                    return elements(parts[1]), parts[0]

    def answer(
        self, message_id: int, status: int | None = 0, kind: int = 0x8001, *, first: int = 0, uid: str = ""
    ) -> None:
        """A response, with whatever message ID is told; its first bytes in a write of their own, where that is said."""
        body = struct.pack("<HHLH", 0, 0x0100, 2, kind) + struct.pack("<HHLH", 0, 0x0120, 2, message_id)
        body += struct.pack("<HHLH", 0, 0x0800, 2, 0x0101)
        if status is not None:
            body += struct.pack("<HHLH", 0, 0x0900, 2, status)
        named = uid.encode() + b"\0" * (len(uid) % 2)
        body += struct.pack("<HHL", 0, 0x1000, len(named)) + named if uid else b""
        body = struct.pack("<HHLL", 0, 0, 4, len(body)) + body
        pdu = struct.pack(">BxLLBB", 4, len(body) + 6, len(body) + 2, 1, 3) + body
        for piece in (pdu[:first], pdu[first:]):
            self.link.sendall(piece)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                got = self.link.recv(size - len(data))
            except OSError:
                return data
            if not got:
                return data
            data += got
        return data


def elements(raw: bytes) -> dict[int, bytes]:
    """A command set, taken apart."""
    found, at = {}, 0
    while at < len(raw):
        _, number, length = struct.unpack_from("<HHL", raw, at)
        found[number] = raw[at + 8 : at + 8 + length]
        at += 8 + length
    return found


@contextmanager
def peer(script: Callable[[Peer], None], connections: int = 1) -> Iterator[int]:
    """Listen, run the script on each connection, give the port. What the script raises fails the test."""
    faults: list[BaseException] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)

        def serve() -> None:
            try:
                for _ in range(connections):
                    link, _address = server.accept()
                    with link:
                        link.settimeout(20)
                        script(Peer(link))
            except (OSError, AssertionError) as error:
                faults.append(error)

        thread = threading.Thread(target=serve)
        thread.start()
        yield int(server.getsockname()[1])
        thread.join()
    if faults:
        raise faults[0]
