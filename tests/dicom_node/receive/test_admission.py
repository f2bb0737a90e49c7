"""Who comes in, as whom: peers that share an AE title, call again at once, or drop the line while they wait."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable

import pytest

from dicom_node.config import NodeConfig
from dicom_node.deliver.association import EXPLICIT
from dicom_node.deliver.echo import echo
from dicom_node.peers import PeerSection
from dicom_node.receive.events import Event, Refused
from dicom_node.receive.limits import Limits
from dicom_node.receive.policy import Caller, admit
from dicom_node.receive.stream import StreamServer
from tests.dicom_node.pieces import RELEASE_RQ, RawPeer, association_request
from tests.dicom_node.receive.conftest import CT, MR, MakeReceiver, Receiver
from tests.dicom_node.receive.test_hardening import (
    Authority,
    authority,
    call,
    ends_within,
    tls_settings,
)
from tests.dicom_node.receive.test_scp import _send_as, a_slice

__all__ = ["authority"]  # a fixture
ACCEPTED = 2
#: Two machines of one AE title.
NEAR = {"ae_title": "PACS", "addresses": ["127.0.0.0/8"], "sop_classes": [CT], "maximum_associations": 1}
FAR = {"ae_title": "PACS", "addresses": ["10.0.0.0/8"], "sop_classes": [MR], "quota_gb_per_day": 1.0}


def release(link: socket.socket) -> None:
    link.sendall(RELEASE_RQ)
    RawPeer(link).read()


def abort(link: socket.socket) -> None:
    link.sendall(struct.pack(">BxLL", 7, 4, 0))


def reset(link: socket.socket) -> None:
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def close(link: socket.socket) -> None:
    del link


def request(receiver: Receiver, calling: bytes = b"PACS") -> socket.socket:
    """Ask for an association under an AE title padded as it is, and leave the answer to be read."""
    raw = bytearray(association_request([(CT, [EXPLICIT])]))
    raw[26:42] = calling.ljust(16)
    link = socket.create_connection(("127.0.0.1", receiver.scp.port), 10)
    link.sendall(raw)
    return link


def settled(receiver: Receiver, open_now: int) -> bool:
    until = time.monotonic() + 10
    while receiver.scp.associations != open_now and time.monotonic() < until:
        time.sleep(0.02)
    return receiver.scp.associations == open_now


@pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "plain"])
@pytest.mark.parametrize("leave", [release, abort, close, reset])
def test_a_peer_with_one_place_may_leave_it_in_any_way_and_call_again_at_once(
    make_receiver: MakeReceiver, leave: Callable[[socket.socket], None], streaming: bool
) -> None:
    receiver = make_receiver(streaming=streaming, peers=[{"ae_title": "PACS", "maximum_associations": 1}])
    answers = []
    for _ in range(40):
        with request(receiver) as link:
            answers.append(RawPeer(link).read()[0])
            leave(link)

    assert answers == [ACCEPTED] * 40
    assert settled(receiver, 0)


def test_a_peer_that_goes_away_while_it_waits_for_a_place_holds_none(make_receiver: MakeReceiver) -> None:
    receiver = make_receiver(peers=[{"ae_title": "PACS", "maximum_associations": 1}])
    first = receiver.associate()
    for _ in range(3):
        with request(receiver) as link:
            time.sleep(0.05)
            reset(link)
    first.release()

    assert settled(receiver, 0)
    second = receiver.associate()
    assert second.is_established
    second.release()


@pytest.mark.parametrize(
    ("calling", "accepted"), [(b"  PACS", True), (b"PACS", True), (b"pacs", False), (b"", False), (b"PA\nCS", False)]
)
def test_an_ae_title_is_known_without_its_spaces_and_in_its_own_case(
    make_receiver: MakeReceiver, calling: bytes, accepted: bool
) -> None:
    receiver = make_receiver()
    with request(receiver, calling) as link:
        answer = RawPeer(link).read()[0]

    assert (answer == ACCEPTED) is accepted


@pytest.mark.parametrize("order", [[NEAR, FAR], [FAR, NEAR]], ids=["near first", "far first"])
def test_of_peers_with_the_same_title_the_one_that_calls_has_its_own_limits(
    make_receiver: MakeReceiver, order: list[dict[str, object]]
) -> None:
    receiver = make_receiver(peers=order)
    first, second = receiver.associate(), receiver.associate()
    classes = {str(context.abstract_syntax) for context in first.accepted_contexts}
    first.release()

    assert classes == {CT, "1.2.840.10008.1.1"}
    assert second.is_rejected


def test_of_peers_with_the_same_title_each_has_an_allowance_of_its_own() -> None:
    config = NodeConfig.model_validate({"receive": {"peers": [NEAR, FAR, {"ae_title": "OTHER"}]}})
    limits = Limits(config.receive)
    near, far = limits.of("PACS", "127.0.0.1"), limits.of("PACS", "10.1.2.3")

    assert near is not None
    assert far is not None
    assert near is limits.of("PACS", "127.0.0.9")
    assert (near.forbids(CT, EXPLICIT), far.forbids(MR, EXPLICIT)) == (None, None)
    assert near.forbids(MR, EXPLICIT)
    assert limits.of("PACS", "192.168.0.1") is near, "a limit is not lost where an address is strange"
    assert limits.of("STRANGER", "127.0.0.1") is None


@pytest.mark.parametrize(
    ("address", "network", "welcome"),
    [
        ("::ffff:10.1.2.3", "10.1.0.0/16", True),
        ("::ffff:10.1.2.3", "::ffff:10.1.2.3", True),
        ("10.1.2.3", "::ffff:10.1.0.0/112", True),
        ("10.2.2.3", "::ffff:10.1.0.0/112", False),
        ("fe80::1%eth0", "fe80::/10", True),
        ("::1", "0.0.0.0/0", False),
    ],
)
def test_an_address_is_the_same_by_either_family(address: str, network: str, welcome: bool) -> None:
    peer = PeerSection(ae_title="PACS", addresses=(network,))
    config = NodeConfig.model_validate({"receive": {"peers": [peer.model_dump()]}})
    refusal = admit(Caller(calling="PACS", called="DICOM_NODE", address=address), ["DICOM_NODE"], config.receive)

    assert (refusal is None) is welcome


def test_a_caller_of_whom_cannot_be_decided_does_not_come_in(
    make_receiver: MakeReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = make_receiver()
    tell = receiver.feed.tell

    def fail(event: Event) -> None:
        if isinstance(event, Refused):
            raise RuntimeError("the trail cannot be told")
        tell(event)

    monkeypatch.setattr(receiver.scp._refusals, "_tell", fail)
    stranger, known = receiver.associate(calling="STRANGER"), receiver.associate()

    assert stranger.is_rejected
    assert known.is_established
    known.release()


def test_a_silent_handshake_holds_up_nobody_on_the_plain_path_either(
    make_receiver: MakeReceiver, authority: Authority
) -> None:
    receiver = make_receiver(tls=tls_settings(authority), association_seconds=1.0, streaming=False)
    assert receiver.scp.tls_port is not None
    with socket.create_connection(("127.0.0.1", receiver.scp.tls_port)) as silent:
        assert echo(call(receiver, authority, authority.issue("pacs"))) > 0
        assert ends_within(silent, 8.0)


@pytest.mark.parametrize("calling", [b"PACS".ljust(16, b"\0"), b"PACS\0rubbish", b"PACS \0"])
def test_an_ae_title_may_end_at_a_zero_byte(make_receiver: MakeReceiver, calling: bytes) -> None:
    with request(make_receiver(), calling) as link:
        assert RawPeer(link).read()[0] == ACCEPTED


def test_what_is_refused_uses_up_no_quota(make_receiver: MakeReceiver) -> None:
    receiver = make_receiver(peers=[{"ae_title": "PACS", "quota_gb_per_day": 0.0001}])
    assoc = receiver.associate()
    refused = [_send_as(assoc, a_slice(1, rows=256), "1.2.3.4.5") for _ in range(3)]
    taken = [assoc.send_c_store(a_slice(number, rows=256)).Status for number in (1, 2)]
    assoc.release()

    assert refused == [0xA900] * 3
    assert taken == [0x0000, 0xA700]


@pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "plain"])
@pytest.mark.parametrize("order", [[NEAR, FAR], [FAR, NEAR]], ids=["near first", "far first"])
def test_of_peers_with_the_same_title_each_may_store_its_own(
    make_receiver: MakeReceiver, order: list[dict[str, object]], streaming: bool
) -> None:
    receiver = make_receiver(peers=order, streaming=streaming)
    assoc = receiver.associate()
    status = assoc.send_c_store(a_slice(1)).Status
    assoc.release()

    assert status == 0x0000


@pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "plain"])
def test_a_context_without_an_abstract_syntax_is_rejected(make_receiver: MakeReceiver, streaming: bool) -> None:
    receiver = make_receiver(streaming=streaming)
    raw = bytearray(association_request([(CT, [EXPLICIT])]))
    at = raw.index(b"\x30\x00" + struct.pack(">H", len(CT)) + CT.encode())
    raw[at] = 0x40  # one more transfer syntax
    with socket.create_connection(("127.0.0.1", receiver.scp.port), timeout=20) as link:
        link.sendall(raw)
        kind, said = RawPeer(link).read()

    assert (kind, said[1:]) == (3, bytes((1, 2, 1)))
    assert settled(receiver, 0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_whatever_pynetdicom_stumbles_over_in_negotiation_holds_no_connection(
    make_receiver: MakeReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: object) -> None:
        raise TypeError("what nobody foresaw")

    receiver = make_receiver()
    with monkeypatch.context() as odd:
        odd.setattr("pynetdicom.acse.negotiate_as_acceptor", stumble)
        with request(receiver) as link:
            assert RawPeer(link).read()[0] == 7
            assert link.recv(1) == b""
    server = receiver.scp._servers[0]
    assert isinstance(server, StreamServer)
    until = time.monotonic() + 20
    while any(assoc.dul.is_alive() for assoc in server.live) and time.monotonic() < until:
        time.sleep(0.02)

    assert not any(assoc.dul.is_alive() for assoc in server.live)
    with request(receiver) as link:
        assert RawPeer(link).read()[0] == ACCEPTED
    assert settled(receiver, 0)
