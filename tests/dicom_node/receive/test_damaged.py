"""What peers send damaged has its status, whatever pydicom makes of it, and the next message is served."""

from __future__ import annotations

import random
import socket
import struct
import time
import warnings
from io import BytesIO

import pytest
from pynetdicom.dsutils import decode, encode

from dicom_node.deliver import command
from dicom_node.deliver.commitment import Reference, action_information, parse_report
from dicom_node.receive import notice_reading
from dicom_node.receive.contexts import AVAILABILITY, PERFORMED_STEP
from dicom_node.receive.events import Noticed
from dicom_node.receive.notices import Refused
from dicom_node.unreadable import UNREADABLE
from storage.facts.errors import Rejected
from tests.dicom_node.pieces import RawPeer, Sent, Shape, pdus
from tests.dicom_node.receive.conftest import CT, VERIFICATION, MakeReceiver
from tests.dicom_node.receive.test_notices import a_step, an_availability
from tests.dicom_node.receive.test_scp import SERIES, a_slice
from tests.dicom_node.receive.test_walk import BIG, EXPLICIT, IMPLICIT, element

PROPOSED = [(uid, [syntax]) for uid in (CT, PERFORMED_STEP) for syntax in (EXPLICIT, BIG)]
DRAW = random.Random(0)


def ask(peer: RawPeer, uid: str, syntax: str, kind: int, instance: str, data: bytes) -> int | None:
    """The status of a message with a data set."""
    fields: dict[int, int | str] = {
        command.COMMAND_FIELD: kind, command.MESSAGE_ID: 1,
        command.AFFECTED_CLASS: uid, command.AFFECTED_INSTANCE: instance,
    }  # fmt: skip
    sent = Sent(context=2 * PROPOSED.index((uid, [syntax])) + 1, fields=fields, data=data)
    peer.link.sendall(b"".join(pdus(sent, Shape(), DRAW)))
    return peer.message().number(command.STATUS)


MODALITY = element(0x00080060, "CS", b"CT", EXPLICIT)


@pytest.mark.parametrize("before", [MODALITY, b""], ids=["a length", "the end"])
def test_a_notice_that_cannot_be_read_is_refused_and_the_next_is_taken(
    make_receiver: MakeReceiver, before: bytes
) -> None:
    receiver = make_receiver()
    good = encode(a_step("IN PROGRESS"), False, True) or b""
    assert MODALITY in good
    broken = element(0x00080060, "FD", b"CT ", EXPLICIT)  # a number of eight bytes in three
    bad = good.replace(before, broken) if before else good + b"\x40\0\x70\3SQ\0\0\1"
    with socket.create_connection(("127.0.0.1", receiver.scp.port), timeout=20) as link:
        peer = RawPeer(link)
        peer.associate(PROPOSED)
        statuses = [ask(peer, PERFORMED_STEP, EXPLICIT, command.N_CREATE_RQ, "1.2.9", data) for data in (bad, good)]

    assert statuses == [0x0110, 0x0000]


@pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "plain"])
def test_an_object_with_a_value_of_an_impossible_length_has_its_status_and_the_next_is_stored(
    make_receiver: MakeReceiver, streaming: bool
) -> None:
    receiver = make_receiver(streaming=streaming)
    sent = [encode(a_slice(number), False, False) or b"" for number in (1, 2, 3)]
    rows = element(0x00280010, "US", b"\0\x40", BIG)
    assert rows in sent[0]
    sent[0] = sent[0].replace(rows, element(0x00280010, "US", b"\0\x40\0", BIG))
    sent[1] = element(0x00080005, "FD", b"abc", BIG) + sent[1]
    with socket.create_connection(("127.0.0.1", receiver.scp.port), timeout=20) as link:
        peer = RawPeer(link)
        peer.associate(PROPOSED)
        statuses = [ask(peer, CT, BIG, command.C_STORE_RQ, f"{SERIES}.{n}", data) for n, data in enumerate(sent, 1)]
    receiver.settle()

    assert statuses == [0x0000, 0xC000, 0x0000]
    assert [i.header.get("Rows") for i in receiver.instances(SERIES)] == [None, 64]


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_an_object_that_ends_within_a_uid_is_refused(make_receiver: MakeReceiver, keyword: str) -> None:
    receiver, whole = make_receiver(), a_slice(1)
    raw = encode(whole, False, True) or b""
    uid = str(whole[keyword].value).encode()
    with socket.create_connection(("127.0.0.1", receiver.scp.port), timeout=20) as link:
        peer = RawPeer(link)
        peer.associate(PROPOSED)
        cut = raw[: raw.rindex(uid) + len(uid) - 2]
        status = ask(peer, CT, EXPLICIT, command.C_STORE_RQ, str(whole.SOPInstanceUID), cut)

    assert status == 0xC000


def _changed(draw: random.Random, raw: bytes) -> bytes:
    """The bytes with some of them wrong, a VR perhaps, or an end too early."""
    changed = bytearray(raw)
    for _ in range(draw.randint(0, 4)):
        changed[draw.randrange(len(changed))] = draw.choice([0, 255, draw.randrange(256)])
    if draw.random() < 0.4:
        at = draw.randrange(len(changed) - 1)
        changed[at : at + 2] = draw.choice([b"US", b"FD", b"SQ", b"AT", b"UN", b"OB", b"DS", b"IS", b"SV"])
    if draw.random() < 0.4:
        del changed[draw.randrange(len(changed)) :]
    return bytes(changed)


@pytest.mark.parametrize("implicit", [False, True])
def test_whatever_a_notice_or_a_report_holds_it_is_read_or_refused(implicit: bool) -> None:
    steps = [(PERFORMED_STEP, a_step("IN PROGRESS", range(3))), (AVAILABILITY, an_availability(range(3)))]
    references = [Reference(sop_class_uid=CT, sop_instance_uid=f"1.2.{n}") for n in range(3)]
    report = encode(action_information("1.2.3", references), implicit, True) or b""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(1000):
            draw = random.Random(seed)
            uid, dataset = steps[seed % 2]
            raw = _changed(draw, encode(dataset, implicit, True) or b"")
            event = Noticed(
                peer="P", sop_class_uid=uid, sop_instance_uid="1.2", implicit=implicit, created=True, data=raw
            )
            try:
                notice_reading.read(event, None)
            except Refused:
                pass
            try:
                parse_report(decode(BytesIO(_changed(draw, report)), implicit, True))
            except (Rejected, *UNREADABLE):
                pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of pynetdicom, by the plain path
@pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "plain"])
@pytest.mark.parametrize("damage", [(command.COMMAND_FIELD, b"\x30\0\0"), (command.DATA_SET_TYPE, b"\1\1\0")])
def test_a_malformed_command_ends_its_association_and_gives_its_place_back(
    make_receiver: MakeReceiver, damage: tuple[int, bytes], streaming: bool
) -> None:
    receiver = make_receiver(streaming=streaming, maximum_associations=1)
    elements = {0x0002: VERIFICATION.encode() + b"\0", 0x0100: b"\x30\0", 0x0110: b"\1\0", 0x0800: b"\1\1"}
    elements |= dict([damage])
    raw = b"".join(struct.pack("<HHL", 0, number, len(value)) + value for number, value in sorted(elements.items()))
    raw = struct.pack("<HHLL", 0, 0, 4, len(raw)) + raw
    with socket.create_connection(("127.0.0.1", receiver.scp.port), timeout=20) as link:
        peer = RawPeer(link)
        peer.associate([(VERIFICATION, [IMPLICIT])])
        link.sendall(struct.pack(">BxLLBB", 4, len(raw) + 6, len(raw) + 2, 1, 3) + raw)
        if streaming:
            assert peer.read()[0] in (0, 7)
    until = time.monotonic() + 20
    while not (after := receiver.associate()).is_established and time.monotonic() < until:
        time.sleep(0.1)

    assert after.is_established
    after.release()
