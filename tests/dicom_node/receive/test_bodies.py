"""STOW-RS bodies in whatever pieces: each part is stored byte for byte, or not at all."""

from __future__ import annotations

import itertools
import random
import re
import socket
import struct
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode

from dicom_node.receive.landing import Origin, file_meta
from dicom_node.receive.parts import BadBody, Parts
from tests.dicom_node.pieces import cut, trickle
from tests.dicom_node.receive.conftest import CT, MakeReceiver, Receiver
from tests.dicom_node.receive.test_scp import data_set_bytes
from tests.dicom_node.receive.test_stow import TOKEN, Open, Web, open_web

__all__ = ["open_web"]  # a fixture
EDGE, STUDY = b"edge-7'()+_,./:=?", "1.2.826.0.1.7"
NUMBERS = itertools.count(1)
ORIGIN = Origin(association="a", calling_ae="VIEWER", called_ae="N", address="")
#: What looks like the end of a part, and is none: by RFC 2046 a boundary comes after a line end and ends its line.
ALMOST = [
    b"\r", b"\n", b"\r\n", b"-", b"--", b"\r\n-", b"\r\n--", b"\r\r\n--" + EDGE[:3], b"--" + EDGE + b"--\r\n",
    b"\n--" + EDGE + b"\r\n", b"\r\n--" + EDGE[:-1], b"\r\n--" + EDGE[:-1] + b"\r\n", b"\r\n--" + EDGE[:-1] + b"--\r\n",
    EDGE, b"Content-Type: text/plain\r\n\r\n",
]  # fmt: skip
CONTENTS = (
    st.lists(st.one_of(st.sampled_from(ALMOST), st.binary(max_size=40)), max_size=40)
    .map(b"".join)
    .filter(lambda content: b"\r\n--" + EDGE not in content)
)


def an_object(content: bytes) -> tuple[str, bytes]:
    """The SOP Instance UID and the data set of an object that ends in these bytes."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT, f"{STUDY}.1.{next(NUMBERS)}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY, f"{STUDY}.1"
    dataset.Modality, dataset.Rows = "CT", 7
    raw = encode(dataset, False, True) or b""
    return dataset.SOPInstanceUID, raw + b"\xe1\x7f\x01\x10OB\0\0" + struct.pack("<L", len(content)) + content


def part(uid: str, data: bytes) -> bytes:
    """The object as a file."""
    return file_meta(CT, uid, "1.2.840.10008.1.2.1", ORIGIN) + data


def body(parts: Sequence[bytes], draw: random.Random) -> bytes:
    """A multipart body, its headers written as anybody may."""
    made = [draw.choice([b"", b"\r\n"])]
    for one in parts:
        kind = draw.choice([b"Content-Type:", b"content-type: ", b"CONTENT-TYPE:  "]) + b"application/dicom"
        more = [b"Content-Length: 12", b"X-Anything: --" + EDGE, b"MIME-Version: 1.0"]
        lines = [draw.choice([kind, kind + b"; transfer-syntax=*"]), *draw.sample(more, draw.randint(0, 3))]
        draw.shuffle(lines)
        made += [b"--" + EDGE + b"\r\n", b"".join(line + b"\r\n" for line in lines), b"\r\n", one, b"\r\n"]
    return b"".join(made) + b"--" + EDGE + b"--" + draw.choice([b"", b"\r\n", b"\r\nwhatever follows"])


def files(receiver: Receiver) -> dict[str, bytes]:
    """The data set of everything that can be seen."""
    found = [p for folder in ("incoming", "instances") for p in (receiver.data / folder).rglob("*.dcm")]
    return {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID): data_set_bytes(path) for path in found}


def test_wherever_a_body_is_cut_its_parts_are_stored_as_they_were_sent(make_receiver: MakeReceiver) -> None:
    receiver, sent = make_receiver(), dict[str, bytes]()

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(contents=st.lists(CONTENTS, min_size=1, max_size=3), seed=st.integers(0, 1000), pieces=st.integers(0, 60))
    def take(contents: list[bytes], seed: int, pieces: int) -> None:
        draw, objects = random.Random(seed), dict(map(an_object, contents))
        raw = body([part(uid, data) for uid, data in objects.items()], draw)
        parts = Parts(EDGE, receiver.desk, ORIGIN, draw.choice([None, STUDY]))
        for piece in cut(raw, draw, pieces) if pieces < 50 else [raw[i : i + 1] for i in range(len(raw))]:
            parts.write(piece)
        assert [(one.sop_instance_uid, one.status) for one in parts.end()] == [(uid, 0) for uid in objects]
        sent.update(objects)

    take()
    receiver.settle()
    assert files(receiver) == sent


def test_of_a_body_that_ends_anywhere_only_whole_parts_are_kept(make_receiver: MakeReceiver) -> None:
    receiver, kept = make_receiver(), dict[str, bytes]()
    for seed in range(40):
        draw = random.Random(seed)
        objects = dict(an_object(b"\r\n--" + EDGE[:4] + draw.randbytes(draw.choice([10, 70_000]))) for _ in range(3))
        raw = body([part(uid, data) for uid, data in objects.items()], draw)
        parts = Parts(EDGE, receiver.desk, ORIGIN, None)
        for piece in cut(raw[: draw.randrange(1, raw.rindex(EDGE))], draw, 10):
            parts.write(piece)
        with pytest.raises(BadBody):
            parts.end()
        parts.abort()
        assert [one.sop_instance_uid for one in parts.stored] == list(objects)[: len(parts.stored)]
        kept |= {one.sop_instance_uid: objects[one.sop_instance_uid] for one in parts.stored}

    receiver.settle()
    assert files(receiver) == kept
    assert list(receiver.incoming.folder.glob("*.part")) == []


def test_the_study_is_found_behind_many_references(make_receiver: MakeReceiver) -> None:
    receiver, draw = make_receiver(), random.Random(2)
    uid, data = an_object(b"")
    at = data.index(b"\x20\0\x0d\0UI")
    items = b"".join(
        struct.pack("<HHL", 0xFFFE, 0xE000, 24) + b"\x08\0\x55\x11UI\x10\0" + f"1.2.3.4.5.6.{n:04}".encode()
        for n in range(9000)
    )
    data = (
        data[:at] + b"\x09\0\x10\0LO\x06\0MAKER \x09\0\1\x10SQ\0\0" + struct.pack("<L", len(items)) + items + data[at:]
    )
    statuses = []
    for study in (STUDY, "1.2.3", STUDY):
        parts = Parts(EDGE, receiver.desk, ORIGIN, study)
        raw = body([part(uid, data)], draw)
        for piece in cut(raw, draw, 30):
            parts.write(piece)
        statuses += [one.status for one in parts.end()]
    receiver.settle()

    assert statuses == [0, 0xA900, 0]
    assert files(receiver) == {uid: data}


def test_a_part_with_a_damaged_head_has_a_status_or_the_body_is_refused(make_receiver: MakeReceiver) -> None:
    receiver, statuses = make_receiver(), set[int]()
    for seed in range(150):
        draw = random.Random(seed)
        raw = bytearray(body([part(*an_object(b"x"))], draw))
        at = raw.index(b"DICM")
        for _ in range(4):
            raw[at + draw.randrange(170)] = draw.choice([0, 255, draw.randrange(256)])
        parts = Parts(EDGE, receiver.desk, ORIGIN, None)
        try:
            parts.write(bytes(raw))
            statuses |= {one.status for one in parts.end()}
        except BadBody:
            pass

    assert {0xC000} <= statuses <= {0, 0xA900, 0xC000}


def chunked(raw: bytes, draw: random.Random) -> Iterator[bytes]:
    """The bytes in chunks of any size (RFC 9112 7.1), written as anybody may."""
    at = 0
    while at < len(raw):
        size = min(draw.choice([1, 2, 17, 5000, 300_000]), len(raw) - at)
        yield draw.choice([b"%x", b"%X", b"000%x"]) % size + draw.choice([b"", b";a=b"]) + b"\r\n"
        yield raw[at : at + size] + b"\r\n"
        at += size
    yield b"0\r\n" + draw.choice([b"", b"X-Trailer: 1\r\n"]) + b"\r\n"


def request(raw: bytes, draw: random.Random) -> bytes:
    """An HTTP request with that body."""
    head = [
        b"POST /studies" + draw.choice([b"", b"/", b"/" + STUDY.encode()]) + b" HTTP/1.1", b"HOST: n",
        b"authorization: bearer " + TOKEN.encode(), b"ACCEPT: application/dicom+json",
        b"content-TYPE: Multipart/Related; BOUNDARY=\"" + EDGE + b"\"; Type=\"Application/DICOM\"",
    ]  # fmt: skip
    if draw.random() < 0.5:
        head.append(b"content-length: %d" % len(raw))
    else:
        head.append(b"transfer-Encoding: Chunked")
        raw = b"".join(chunked(raw, draw))
    return b"\r\n".join(head) + b"\r\n\r\n" + raw


def answered(link: socket.socket) -> bytes:
    """The status line of an answer that is read to its end."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += link.recv(65536)
    head, _, rest = got.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    assert length is not None
    while len(rest) < int(length[1]):
        rest += link.recv(65536)
    return head.partition(b"\r\n")[0]


@pytest.mark.parametrize("seed", range(4))
def test_requests_in_any_pieces_one_after_the_other_store_what_they_carry(open_web: Open, seed: int) -> None:
    draw, web = random.Random(seed), open_web()
    sent: dict[str, bytes] = {}
    with _connected(web) as link:
        for _ in range(4):
            contents = [draw.choice(ALMOST) + draw.randbytes(draw.choice([0, 9, 60_000])) for _ in range(3)]
            objects = dict(an_object(content) for content in contents)
            raw = request(body([part(uid, data) for uid, data in objects.items()], draw), draw)
            trickle(link, cut(raw, draw, draw.choice([0, 5, 60])))
            assert answered(link) == b"HTTP/1.1 200 "
            sent |= objects

    web.receiver.settle()
    assert files(web.receiver) == sent


def test_a_huge_part_is_stored_byte_for_byte(open_web: Open) -> None:
    draw, web = random.Random(9), open_web()
    uid, data = an_object(draw.randbytes(24 << 20))
    small = an_object(b"")
    with _connected(web) as link:
        link.sendall(request(body([part(uid, data), part(*small)], draw), random.Random(1)))
        assert answered(link) == b"HTTP/1.1 200 "

    web.receiver.settle()
    assert files(web.receiver) == {uid: data, small[0]: small[1]}


def _connected(web: Web) -> socket.socket:
    assert web.stow.port is not None
    link = socket.create_connection(("127.0.0.1", web.stow.port), timeout=20)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return link
