"""What peers do on the wire, and what becomes of it."""

from __future__ import annotations

import ssl
import struct
import subprocess
import time
from pathlib import Path

import pytest
from pynetdicom import AE, evt

from dicom_node.deliver.dimse import Interrupted, send
from dicom_node.deliver.echo import echo
from dicom_node.demo.pacs import StandInPacs
from storage.facts.errors import Transient
from tests.dicom_node.deliver.making import Peer, free_port, outgoing, peer, to


def test_the_peers_pdu_length_is_honoured_and_fragments_are_even(tmp_path: Path) -> None:
    seen: list[int] = []

    def script(it: Peer) -> None:
        it.accept(maximum_pdu=4097)
        fields, data = it.read_message()
        seen.extend(it.lengths)
        seen.append(len(data))
        it.answer(*struct.unpack("<H", fields[0x0110]))
        assert it.read()[0] == 5

    file = outgoing(tmp_path, 1, pixels=20_480)
    with peer(script) as port:
        [sent] = send([file], to(port))

    assert sent.status == 0
    assert max(seen[:-1]) <= 4097
    assert all((length - 6) % 2 == 0 for length in seen[1:-1])
    assert seen[-1] == sum(length - 6 for length in seen[1:-1])
    assert file.path.read_bytes().endswith(file.path.read_bytes()[-seen[-1] :])


def test_a_peer_without_a_limit_is_served(tmp_path: Path) -> None:
    def script(it: Peer) -> None:
        it.accept(maximum_pdu=0)
        fields, _ = it.read_message()
        it.answer(*struct.unpack("<H", fields[0x0110]))
        assert it.read()[0] == 5

    with peer(script) as port:
        assert send([outgoing(tmp_path, 1, pixels=1 << 20)], to(port))[0].status == 0


def test_an_answer_to_another_message_is_not_taken_for_ours(tmp_path: Path) -> None:
    def script(it: Peer) -> None:
        it.accept()
        it.read_message()
        it.answer(77)
        assert it.read()[0] == 7  # aborted

    with peer(script) as port, pytest.raises(Interrupted, match="answered something that was not asked") as caught:
        send([outgoing(tmp_path, 1)], to(port))
    assert caught.value.sent == ()


def test_an_answer_without_a_status_is_no_answer(tmp_path: Path) -> None:
    def script(it: Peer) -> None:
        it.accept()
        it.read_message()
        it.answer(1, status=None)
        assert it.read()[0] == 7

    with peer(script) as port, pytest.raises(Interrupted, match="answered without a status"):
        send([outgoing(tmp_path, 1)], to(port))


def test_each_object_has_a_message_id_of_its_own(tmp_path: Path) -> None:
    seen = []

    def script(it: Peer) -> None:
        it.accept()
        for _ in range(3):
            fields, _ = it.read_message()
            seen.append(struct.unpack("<H", fields[0x0110])[0])
            it.answer(seen[-1])
        assert it.read()[0] == 5

    with peer(script) as port:
        send([outgoing(tmp_path, n) for n in range(3)], to(port))
    assert seen == [1, 2, 3]


@pytest.mark.parametrize("first", [3, 12])
def test_an_answer_that_nagle_parts_in_two_does_not_wait_for_a_delayed_acknowledgement(
    tmp_path: Path, first: int
) -> None:
    files = [outgoing(tmp_path, n, pixels=256 << 10) for n in range(40)]

    def script(it: Peer) -> None:
        it.accept()
        for number in range(len(files)):
            it.read_message()
            it.answer(number + 1, first=first)
        assert it.read()[0] == 5

    with peer(script) as port:
        began = time.monotonic()
        sent = send(files, to(port))

    assert {answer.status for answer in sent} == {0}
    assert time.monotonic() - began < 1.0, "40 ms each would be 1.6 s"


def test_a_peer_that_hangs_up_between_objects_has_the_first_one(tmp_path: Path) -> None:
    def script(it: Peer) -> None:
        it.accept()
        it.read_message()
        it.answer(1)

    with peer(script) as port, pytest.raises(Interrupted, match=r"closed the connection|dropped") as caught:
        send([outgoing(tmp_path, 1), outgoing(tmp_path, 2)], to(port))
    assert len(caught.value.sent) == 1


def test_a_peer_that_asks_for_release_instead_of_answering_is_let_go(tmp_path: Path) -> None:
    def script(it: Peer) -> None:
        it.accept()
        it.read_message()
        it.link.sendall(struct.pack(">BxLL", 5, 4, 0))
        assert it.read()[0] == 6

    with peer(script) as port, pytest.raises(Interrupted, match="released the association instead of answering"):
        send([outgoing(tmp_path, 1)], to(port))


def test_an_abort_says_what_the_peer_did_not_like(tmp_path: Path) -> None:
    def script(it: Peer) -> None:
        it.accept()
        it.read_message()
        it.link.sendall(struct.pack(">BxLBBBB", 7, 4, 0, 0, 2, 6))

    with peer(script) as port, pytest.raises(Interrupted, match="aborted the association: it found an invalid PDU"):
        send([outgoing(tmp_path, 1)], to(port))


def test_a_peer_that_stops_reading_does_not_hold_us_for_ever(tmp_path: Path) -> None:
    def script(it: Peer) -> None:
        it.accept()
        time.sleep(1.0)

    file = outgoing(tmp_path, 1, pixels=32 << 20)
    with peer(script) as port, pytest.raises(Interrupted, match=r"took nothing for 0\.3 s in the middle of a message"):
        send([file], to(port, answer_seconds=0.3))


def test_a_port_that_speaks_something_else_is_told_apart(tmp_path: Path) -> None:
    def script(it: Peer) -> None:
        it.read()
        it.link.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with peer(script) as port, pytest.raises(Interrupted, match="is it a DICOM port"):
        send([outgoing(tmp_path, 1)], to(port))


def test_what_was_acknowledged_stays_so_when_the_release_fails(tmp_path: Path) -> None:
    def script(it: Peer) -> None:
        it.accept()
        it.read_message()
        it.answer(1)
        it.read()  # the release request; no response

    with peer(script) as port:
        assert send([outgoing(tmp_path, 1)], to(port))[0].status == 0


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        ((1, 1, 7), "does not answer to the AE title PACS: correct the AE title of destination archive"),
        ((1, 1, 3), "does not know the calling AE title NODE"),
        ((2, 3, 2), r"\(for now\): it has as many associations as it allows"),
        ((2, 3, 1), "congested"),
        ((1, 2, 9), "source 2, reason 9: look into its log"),
    ],
)
def test_a_rejection_is_told_in_an_administrators_words(verdict: tuple[int, int, int], said: str) -> None:
    def script(it: Peer) -> None:
        it.read()
        it.link.sendall(struct.pack(">BxLBBBB", 3, 4, 0, *verdict))

    with peer(script) as port, pytest.raises(Transient, match=said):
        echo(to(port))


def test_echo_measures_a_pacs_that_answers(pacs: StandInPacs) -> None:
    assert 0 < echo(to(pacs.port)) < 5


def test_echo_tells_who_rejects_us_for_our_name() -> None:
    ae = AE("ARCHIVE")
    ae.require_called_aet = True
    ae.add_supported_context("1.2.840.10008.1.1")
    server = ae.start_server(("127.0.0.1", 0), block=False)

    with pytest.raises(Transient, match="does not answer to the AE title PACS"):
        echo(to(server.server_address[1]))
    server.shutdown()


def test_echo_tells_a_closed_port_and_a_silent_one() -> None:
    with pytest.raises(Transient, match="nothing listens there"):
        echo(to(free_port()))

    def mute(it: Peer) -> None:
        it.read()
        it.read()

    with peer(mute) as port, pytest.raises(Transient, match=r"gave no answer within 0\.2 s"):
        echo(to(port, answer_seconds=0.2))


def test_objects_go_over_tls_and_an_untrusted_certificate_is_named(tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate, key)
    ae = AE("PACS")
    ae.add_supported_context("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1")
    got = []
    handlers = [(evt.EVT_C_STORE, lambda event: got.append(len(event.encoded_dataset(include_meta=False))) or 0)]
    server = ae.start_server(("127.0.0.1", 0), block=False, ssl_context=served, evt_handlers=handlers)
    port = server.server_address[1]
    file = outgoing(tmp_path, 1, pixels=1 << 20)

    trusting = ssl.create_default_context(cafile=str(certificate))
    sent = send([file], to(port, tls=trusting))
    with pytest.raises(Interrupted, match="its certificate is not trusted"):
        send([file], to(port, tls=ssl.create_default_context()))
    server.shutdown()

    assert sent[0].status == 0
    assert got[0] > 1 << 20


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, made by openssl."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("openssl is not here")
    return certificate, key
