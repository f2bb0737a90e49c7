"""STOW-RS over real HTTP: what is answered as stored is durably here, whatever else comes over the line."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pydicom
import pytest
import requests
from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset
from sqlalchemy import select

from dicom_node.config import NodeConfig
from dicom_node.deliver.tls import Files
from dicom_node.receive.landing import Origin
from dicom_node.receive.parts import Parts, Stored
from dicom_node.receive.stow import Stow
from dicom_node.receive.stow_answer import document, status_of
from storage.tables import AssociationRow
from tests.builders import pixels, source
from tests.dicom_node.receive.conftest import MakeReceiver, Receiver
from tests.dicom_node.receive.test_hardening import Authority, authority

__all__ = ["authority"]  # a fixture
TOKEN = "a long secret"
CLIENT = {"ae_title": "VIEWER", "token_sha256": hashlib.sha256(TOKEN.encode()).hexdigest()}
RELATED = 'multipart/related; type="application/dicom"; boundary=edge'
JSON = {"Authorization": f"Bearer {TOKEN}", "Content-Type": RELATED, "Accept": "application/dicom+json"}


class Web:
    """A receiver that also listens for STOW-RS."""

    def __init__(self, receiver: Receiver, stow: Stow) -> None:
        self.receiver, self.stow = receiver, stow
        self.url = f"http://127.0.0.1:{stow.port}/studies"

    def post(self, body: bytes | Iterator[bytes], path: str = "", **headers: str) -> requests.Response:
        return requests.post(self.url + path, data=body, headers=JSON | headers, timeout=20)

    def names(self) -> set[str]:
        """Everything that lies in the landing folder or was entered from there, without what makes names unique."""
        self.receiver.settle()
        with self.receiver.ledger.read() as session:
            entered = {row.ending for row in session.scalars(select(AssociationRow))}
        assert None not in entered
        files = [p for folder in ("incoming", "instances") for p in (self.receiver.data / folder).rglob("*.*")]
        assert [p.name for p in files if p.suffix == ".part"] == []
        return {str(pydicom.dcmread(p).SOPInstanceUID) for p in files if p.suffix == ".dcm"}


Open = Callable[..., Web]


@pytest.fixture
def open_web(make_receiver: MakeReceiver) -> Iterator[Open]:
    """Starts a receiver with STOW-RS."""
    opened: list[Web] = []

    def start(
        refuse_below_mb: int = 1, tls: Files | None = None, association_seconds: float = 10.0,
        stall_seconds: float = 60.0,
        peers: Sequence[dict[str, object]] = (), **stow: object,
    ) -> Web:  # fmt: skip
        receiver = make_receiver(refuse_below_mb=refuse_below_mb, peers=peers)
        settings = {"port": 0, "clear": tls is None, "clients": [CLIENT], **stow}
        files = {} if tls is None else {"certificate": tls.certificate, "key": tls.key, "trusted": tls.trusted}
        receive = {"association_seconds": association_seconds, "stall_seconds": stall_seconds}
        config = NodeConfig.model_validate(
            {"node": {"bind": "127.0.0.1"}, "stow": settings, "tls": files, "receive": receive}
        )
        made = Stow(config, receiver.desk, receiver.incoming, receiver.feed.tell)
        made.start()
        opened.append(Web(receiver, made))
        return opened[-1]

    yield start
    for web in opened:
        web.stow.stop()


def a_ct(number: int) -> Dataset:
    return pixels(source(number=number), np.full((64, 64), number, np.int16))


def part10(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def body(*parts: bytes, kind: str = "application/dicom", edge: bytes = b"edge") -> bytes:
    head = f"Content-Type: {kind}\r\n\r\n".encode()
    return b"".join(b"--" + edge + b"\r\n" + head + part + b"\r\n" for part in parts) + b"--" + edge + b"--\r\n"


def failures(answer: requests.Response) -> list[int]:
    found = answer.json()
    items = [i for tag in ("00081198", "0008119A") for i in found.get(tag, {"Value": []})["Value"]]
    return [item["00081197"]["Value"][0] for item in items]


def test_a_client_stores_a_study_byte_for_byte(open_web: Open) -> None:
    web = open_web()
    datasets = [pydicom.dcmread(io.BytesIO(part10(a_ct(n)))) for n in range(1, 4)]
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {TOKEN}"
    answer = DICOMwebClient(web.url.removesuffix("/studies"), session=session).store_instances(datasets)
    web.receiver.settle()

    stored = {str(item.ReferencedSOPInstanceUID) for item in answer.ReferencedSOPSequence}
    assert stored == {str(d.SOPInstanceUID) for d in datasets}
    instances = web.receiver.instances(str(datasets[0].SeriesInstanceUID))
    assert len(instances) == 3
    sent = {str(d.SOPInstanceUID): part10(d) for d in datasets}
    for instance in instances:
        here = (web.receiver.data / instance.path).read_bytes()
        assert here[-1000:] == sent[instance.sop_instance_uid][-1000:]
        assert pydicom.dcmread(io.BytesIO(here)) == pydicom.dcmread(io.BytesIO(sent[instance.sop_instance_uid]))
    with web.receiver.ledger.read() as reading:
        [row] = reading.scalars(select(AssociationRow))
    assert (row.calling_ae, row.ending, row.address) == ("VIEWER", "released", "127.0.0.1")


def test_curl_stores_with_a_chunked_body_and_expects_to_be_asked_on(open_web: Open, tmp_path: Path) -> None:
    web = open_web()
    (tmp_path / "body").write_bytes(body(*(part10(a_ct(n)) for n in range(1, 30))))
    headers = [f for name, value in (JSON | {"Expect": "100-continue", "Transfer-Encoding": "chunked"}).items()
               for f in ("-H", f"{name}: {value}")]  # fmt: skip
    command = ["curl", "-sS", "-X", "POST", "--data-binary", f"@{tmp_path / 'body'}", *headers, web.url]
    done = subprocess.run(command, capture_output=True, check=True, timeout=30)

    assert len(json.loads(done.stdout)["00081199"]["Value"]) == 29
    assert len(web.names()) == 29


def test_what_is_wrong_with_one_part_does_not_hold_up_the_others(open_web: Open) -> None:
    web = open_web()
    good = a_ct(1)
    uid = str(a_ct(2).SOPInstanceUID)
    other = part10(a_ct(2)).replace(uid.encode(), uid[:-1].encode() + b"3", 1)  # in its file meta information alone
    answer = web.post(body(part10(good), b"no DICOM at all" * 100, other, b""))

    assert answer.status_code == 202
    assert sorted(failures(answer)) == [0xA900, 0xC000, 0xC000]
    assert len(answer.json()["00081199"]["Value"]) == 1
    assert web.names() == {str(good.SOPInstanceUID)}


@pytest.mark.parametrize(
    "limit", [{"sop_classes": ["1.2.840.10008.5.1.4.1.1.4"]}, {"transfer_syntaxes": ["1.2.840.10008.1.2"]}]
)
def test_what_a_peer_may_not_send_by_dimse_it_may_not_store_here(open_web: Open, limit: dict[str, object]) -> None:
    answer = open_web(peers=[{"ae_title": "VIEWER", **limit}]).post(body(part10(a_ct(1))))

    assert answer.status_code == 409
    assert failures(answer) == [0x0122]


def test_an_object_of_another_study_than_the_request_names_is_not_taken(open_web: Open) -> None:
    web = open_web()
    dataset = a_ct(1)
    wrong = web.post(body(part10(dataset)), "/1.2.3.4.5")
    right = web.post(body(part10(dataset)), f"/{dataset.StudyInstanceUID}")

    assert (wrong.status_code, failures(wrong), right.status_code) == (409, [0xA900], 200)
    assert web.names() == {str(dataset.SOPInstanceUID)}


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("", {"Authorization": "Bearer wrong"}, 401),
        ("", {"Authorization": ""}, 401),
        ("", {"Authorization": "Basic YTpi"}, 401),
        ("", {"Content-Type": "application/json"}, 415),
        ("", {"Content-Type": 'multipart/related; type="application/dicom+json"; boundary=edge'}, 415),
        ("", {"Content-Type": 'multipart/related; type="application/dicom"'}, 400),
        ("", {"Content-Type": RELATED.replace("edge", "e" * 300)}, 400),
        ("", {"Content-Type": RELATED.replace("edge", "other")}, 400),
        ("/../../etc/passwd", {}, 404),
        ("/1.2/series", {}, 404),
    ],
)
def test_a_request_that_cannot_be_taken_is_answered_so(
    open_web: Open, path: str, headers: dict[str, str], status: int
) -> None:
    web = open_web()
    answer = web.post(body(part10(a_ct(1))), path, **headers)

    assert answer.status_code == status
    assert TOKEN not in answer.text
    assert web.names() == set()


def test_other_methods_are_not_served(open_web: Open) -> None:
    assert requests.get(open_web().url, headers=JSON, timeout=10).status_code == 405


@pytest.mark.parametrize("chunked", [False, True])
def test_a_request_above_the_limit_is_refused_with_413(open_web: Open, chunked: bool) -> None:
    web = open_web(maximum_gb=0.0001)
    whole = body(part10(a_ct(1)) + bytes(300_000))
    answer = web.post(iter([whole[:50_000], whole[50_000:]]) if chunked else whole)

    assert answer.status_code == 413
    assert web.names() == set()


def test_a_disk_that_is_too_full_is_answered_with_503(open_web: Open) -> None:
    answer = open_web(refuse_below_mb=10**9).post(body(part10(a_ct(1))))

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "60")


def cut(web: Web, sent: bytes, length: int) -> bytes:
    """Send less than was announced, close, and read what is answered."""
    head = "".join(f"{name}: {value}\r\n" for name, value in JSON.items())
    with socket.create_connection(("127.0.0.1", web.stow.port or 0), 10) as link:
        link.sendall(f"POST /studies HTTP/1.1\r\nHost: a\r\n{head}Content-Length: {length}\r\n\r\n".encode() + sent)
        link.shutdown(socket.SHUT_WR)
        return link.makefile("rb").read()


def test_a_body_that_breaks_off_leaves_whole_objects_only(open_web: Open) -> None:
    web = open_web()
    first, second = a_ct(1), a_ct(2)
    whole = body(part10(first), part10(second))
    for at in (10, 200, 1000, len(whole) // 2 - 5, len(whole) - 300, len(whole) - 9):
        assert b"200 OK" not in cut(web, whole[:at], len(whole))

    assert web.names() == {str(first.SOPInstanceUID)}


def test_a_head_that_trickles_in_does_not_hold_a_place(open_web: Open) -> None:
    web = open_web(maximum_requests=1, association_seconds=0.5)
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", web.stow.port or 0), 10) as slow:
        while time.monotonic() < begun + 10:
            try:
                slow.sendall(b"P")
            except OSError:
                break
            time.sleep(0.1)

    assert time.monotonic() - begun < 8
    time.sleep(0.2)
    assert web.post(body(part10(a_ct(1)))).status_code == 200


@pytest.mark.parametrize(
    "hostile",
    [
        b"--edge\r\n" + b"X-A: b\r\n" * 10_000 + b"\r\n",
        b"--edge\r\nX: " + b"y" * 10_000_000 + b"\r\n\r\n",
        b"--edge\r\nContent-Disposition: x; filename=../../x\r\nContent-Type: text/html\r\n\r\nx\r\n--edge--\r\n",
        b"\0" * 100_000,
        b"--edge\r\n\xff\xfe: \r\n\r\n\r\n--edge--\r\n",
        b"--edge--\r\n",
        b"--edge\r\n\r\n" + bytes(128) + b"DICM\2\0\0\0UL\4\0\xff\xff\xff\x7f" + bytes(200_000) + b"\r\n--edge--\r\n",
        b"",
    ],
    ids=["many headers", "long header", "file name", "zeros", "no header", "no part", "endless meta", "nothing"],
)
def test_hostile_bodies_are_refused_and_the_next_request_is_served(open_web: Open, hostile: bytes) -> None:
    web = open_web()
    try:
        assert web.post(hostile).status_code in (400, 409)
    except requests.ConnectionError:
        pass  # refused before all of it was sent
    good = a_ct(1)

    assert web.post(body(part10(good))).status_code == 200
    assert web.names() == {str(good.SOPInstanceUID)}


def test_requests_follow_each_other_on_one_connection(open_web: Open) -> None:
    web = open_web()
    link = http.client.HTTPConnection("127.0.0.1", web.stow.port)
    for number in (1, 2, 3):
        link.request("POST", "/studies", body(part10(a_ct(number))), JSON)
        answer = link.getresponse()
        answer.read()
        assert answer.status == 200
    link.close()

    assert len(web.names()) == 3


def test_by_tls_a_certificate_stands_for_a_client_and_a_stranger_does_not_come_in(
    open_web: Open, authority: Authority
) -> None:
    files = Files(certificate=authority.issue("node"), key=None, trusted=authority.trusted)
    web = open_web(tls=files, clients=[{"ae_title": "VIEWER", "certificate_name": "viewer.hospital"}])
    url, answers = f"https://127.0.0.1:{web.stow.port}/studies", []
    for name in ("viewer.hospital", "other.hospital", None):
        shown = authority.issue(name) if name else None
        whole = body(part10(a_ct(1)))
        answer = requests.post(url, whole, headers=JSON, verify=str(authority.trusted), cert=shown and str(shown),
                               timeout=10)  # fmt: skip
        answers.append(answer.status_code)

    assert answers == [200, 401, 401]
    assert len(web.names()) == 1


def test_the_answer_is_the_same_in_json_and_xml() -> None:
    stored = [
        Stored(sop_class_uid="1.2", sop_instance_uid="1.2.1", status=0),
        Stored(sop_class_uid="1.2", sop_instance_uid="1.2.2", status=0xA700),
        Stored(sop_class_uid="", sop_instance_uid="", status=0xC000),
    ]
    plain = Dataset.from_json(document(stored, "application/dicom+json").decode())
    root = ElementTree.fromstring(document(stored, "application/dicom+xml"))
    space = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"

    assert plain.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.1"
    assert plain.FailedSOPSequence[0].FailureReason == 0xA700
    assert plain.OtherFailuresSequence[0].FailureReason == 0xC000
    assert [e.get("keyword") for e in root] == [
        "RetrieveURL", "FailedSOPSequence", "ReferencedSOPSequence", "OtherFailuresSequence"
    ]  # fmt: skip
    assert [plain.RetrieveURL, plain.ReferencedSOPSequence[0].RetrieveURL] == ["", ""], "of type 2 (PS3.18 I.1)"
    assert [len(e) for e in root.iter(f"{space}DicomAttribute") if e.get("keyword") == "RetrieveURL"] == [0, 0]
    assert [e.text for e in root.iter(f"{space}Value")] == ["1.2", "1.2.2", "42752", "1.2", "1.2.1", "49152"]
    assert [status_of(stored), status_of(stored[:1]), status_of(stored[1:]), status_of([])] == [202, 200, 409, 400]


def test_the_boundary_of_a_body_may_fall_anywhere(make_receiver: MakeReceiver) -> None:
    receiver = make_receiver()
    whole = body(part10(a_ct(1)))
    origin = Origin(association="a", calling_ae="V", called_ae="N", address="")
    meta = whole.index(b"DICM") + 16
    data_set = meta + int.from_bytes(whole[meta - 4 : meta], "little")
    for size in (data_set, 1, 7, 4096):
        parts = Parts(b"edge", receiver.desk, origin, None)
        for start in range(0, len(whole), size):
            parts.write(whole[start : start + size])
        assert [s.status for s in parts.end()] == [0]
    receiver.settle()
    [stored] = receiver.ledger.data.glob("instances/*/*/*.dcm")
    assert pydicom.dcmread(stored).InstanceNumber == 1
