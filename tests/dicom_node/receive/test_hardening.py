"""Peers that stall, flood, trickle or have no right: each is stopped, and nobody beside notices."""

from __future__ import annotations

import random
import resource
import socket
import ssl
import struct
import subprocess
import time
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode

from dicom_node.deliver import command
from dicom_node.deliver.association import EXPLICIT, Body, Proposal
from dicom_node.deliver.association import Association as Outgoing
from dicom_node.deliver.destination import Destination
from dicom_node.deliver.echo import echo
from dicom_node.deliver.tls import Files, client_context
from dicom_node.peers import PeerSection
from dicom_node.receive import stream
from dicom_node.receive.contexts import PERFORMED_STEP
from dicom_node.receive.limits import Allowance
from dicom_node.receive.tls import Credentials
from storage.facts.errors import Misconfigured, Transient
from storage.views import trail
from tests.dicom_node.receive.conftest import CT, MR, MakeReceiver, Receiver
from tests.dicom_node.receive.sending import store_all
from tests.dicom_node.receive.test_scp import SERIES, _half_a_store, a_slice

GONE = (b"", b"\x07")  #: closed, or A-ABORT


def refusals(receiver: Receiver, action: str) -> list[str]:
    """The reasons in the trail, once everything is written."""
    receiver.settle()
    with receiver.ledger.read() as session:
        return [row.details["why"] for row in trail(session) if row.action == action]


def ends_within(peer: socket.socket, seconds: float) -> bool:
    peer.settimeout(seconds)
    try:
        return peer.recv(1)[:1] in GONE
    except TimeoutError:
        return False
    except OSError:
        return True


@pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "plain"])
def test_a_peer_that_stalls_in_the_middle_of_a_message_is_cut_off_and_leaves_nothing(
    make_receiver: MakeReceiver, streaming: bool
) -> None:
    receiver = make_receiver(streaming=streaming, stall_seconds=1.0)
    good, bad = receiver.associate(), receiver.associate()
    bad.dul.socket.socket.sendall(_half_a_store(bad)[:-300])  # type: ignore[union-attr]
    time.sleep(3.5)

    assert list(receiver.incoming.folder.glob("*.part")) == []
    assert bad.is_aborted or not bad.is_established
    assert good.send_c_store(a_slice()).Status == 0
    good.release()


@pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "plain"])
def test_a_peer_that_trickles_is_cut_off_by_the_least_rate(make_receiver: MakeReceiver, streaming: bool) -> None:
    receiver = make_receiver(streaming=streaming, stall_seconds=1.0, least_kb_per_second=1.0)
    assoc = receiver.associate()
    link = assoc.dul.socket.socket  # type: ignore[union-attr]
    link.sendall(_half_a_store(assoc)[:-900])
    began, cut = time.monotonic(), False
    while time.monotonic() < began + 6 and not cut:
        try:
            link.sendall(b"\x08")
        except OSError:
            cut = True
        time.sleep(0.1)

    assert cut
    assert list(receiver.incoming.folder.glob("*.part")) == []


@pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "plain"])
@pytest.mark.parametrize(("megabytes", "taken"), [(3, True), (5, False)])
def test_a_notice_is_collected_in_memory_up_to_a_bound_and_no_further(
    make_receiver: MakeReceiver, megabytes: int, taken: bool, streaming: bool
) -> None:
    receiver = make_receiver(accept_unknown_peers=True, streaming=streaming)
    to = Destination(name="x", ae_title="DICOM_NODE", host="127.0.0.1", port=receiver.scp.port, calling_ae="SCANNER")
    fields: command.Fields = {
        command.COMMAND_FIELD: command.N_CREATE_RQ,
        command.AFFECTED_CLASS: PERFORMED_STEP,
        command.AFFECTED_INSTANCE: "1.2.3.99",
    }
    step = Dataset()
    step.add_new(0x00090010, "LO", "FILLER")
    step.add_new(0x00091001, "OB", random.Random(megabytes).randbytes(megabytes * 2**20))
    answered = False
    try:
        with Outgoing(to, [Proposal(abstract_syntax=PERFORMED_STEP, transfer_syntaxes=(EXPLICIT,))]) as association:
            context = association.context(PERFORMED_STEP)
            assert context is not None
            association.ask(context, fields, Body.of(encode(step, False, True) or b""))
            answered = True
    except Transient:
        pass

    assert answered is taken
    echo(to)
    too_long = [why for why in refusals(receiver, "connection refused") if "too long" in why]
    assert bool(too_long) is not taken


@pytest.mark.parametrize("streaming", [True, False], ids=["streaming", "plain"])
def test_an_associated_peer_is_held_to_the_announced_pdu_length(make_receiver: MakeReceiver, streaming: bool) -> None:
    receiver = make_receiver(streaming=streaming)
    to = Destination(name="x", ae_title="DICOM_NODE", host="127.0.0.1", port=receiver.scp.port, calling_ae="PACS")
    good = receiver.associate()
    with Outgoing(to, [Proposal(abstract_syntax=CT, transfer_syntaxes=(EXPLICIT,))]) as bad:
        bad._link.send(struct.pack(">BBL", 4, 0, 131073) + b"\0" * 1000)
        with pytest.raises(Transient, match=r"aborted|dropped|closed"):
            bad.receive(5.0)

    assert receiver.desk.counters.turned_away == {"connection refused": 1}
    assert good.send_c_store(a_slice()).Status == 0
    until = time.monotonic() + 10
    while receiver.scp.associations > 1 and time.monotonic() < until:
        time.sleep(0.01)  # what was aborted winds up
    assert receiver.scp.associations == 1
    good.release()


def test_an_association_request_in_drops_ends_in_time_and_keeps_nobody_out(make_receiver: MakeReceiver) -> None:
    receiver = make_receiver(association_seconds=1.0, maximum_associations=2)
    drops = [socket.create_connection(("127.0.0.1", receiver.scp.port)) for _ in range(12)]
    for drop in drops:
        drop.sendall(struct.pack(">BBL", 1, 0, 500))
    assoc = receiver.associate()
    established = assoc.is_established
    assoc.release()
    ended = [ends_within(drop, 4.0) for drop in drops]
    for drop in drops:
        drop.close()

    assert established
    assert all(ended)


def test_one_address_cannot_hold_connections_without_number(
    make_receiver: MakeReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "WAITING", 3)
    receiver = make_receiver()
    silent = [socket.create_connection(("127.0.0.1", receiver.scp.port)) for _ in range(5)]
    time.sleep(0.5)
    turned_away = [ends_within(link, 0.2) for link in silent]
    for link in silent:
        link.close()
    time.sleep(0.5)
    after = receiver.associate()

    assert turned_away == [False] * 3 + [True] * 2
    assert after.is_established
    after.release()
    assert receiver.desk.counters.turned_away == {"connection refused": 2}
    assert len(refusals(receiver, "connection refused")) == 1  # a flood makes few rows


def test_a_disk_that_runs_full_in_the_middle_of_an_object_is_survived(make_receiver: MakeReceiver) -> None:
    receiver = make_receiver()
    assoc = receiver.associate()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        full = assoc.send_c_store(a_slice(1, rows=1024))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    left = list(receiver.incoming.folder.iterdir())
    later = assoc.send_c_store(a_slice(1, rows=1024)).Status
    assoc.release()
    receiver.settle()

    assert full.Status == 0xA700
    assert left == []
    assert later == 0
    assert [i.sop_instance_uid for i in receiver.instances(SERIES)] == [f"{SERIES}.1"]


def test_a_peer_gets_only_its_sop_classes(make_receiver: MakeReceiver) -> None:
    receiver = make_receiver(peers=[{"ae_title": "PACS", "sop_classes": [CT]}])
    assoc = receiver.associate()
    accepted = {str(context.abstract_syntax) for context in assoc.accepted_contexts}
    assoc.release()

    assert accepted == {CT, "1.2.840.10008.1.1"}
    assert refusals(receiver, "SOP class refused") == [f"not among its sop_classes: {MR}"]


@pytest.mark.parametrize("streaming", [True, False])
def test_a_peer_gets_only_its_transfer_syntaxes(make_receiver: MakeReceiver, streaming: bool) -> None:
    receiver = make_receiver(
        streaming=streaming, peers=[{"ae_title": "PACS", "transfer_syntaxes": [EXPLICIT]}, {"ae_title": "OTHER"}]
    )
    assoc, other = receiver.associate(), receiver.associate(calling="OTHER")
    accepted = {(str(c.abstract_syntax), str(c.transfer_syntax[0])) for c in assoc.accepted_contexts}
    stored = assoc.send_c_store(a_slice(1)).Status
    assoc.release()
    others = {str(c.transfer_syntax[0]) for c in other.accepted_contexts}
    other.release()

    assert accepted == {(CT, EXPLICIT), (MR, EXPLICIT), ("1.2.840.10008.1.1", EXPLICIT)}
    assert stored == 0
    assert len(others) == 3
    assert refusals(receiver, "transfer syntax refused") == []


def test_a_peer_that_proposes_none_of_its_transfer_syntaxes_is_noted(make_receiver: MakeReceiver) -> None:
    receiver = make_receiver(
        peers=[{"ae_title": "PACS", "sop_classes": [CT], "transfer_syntaxes": ["1.2.840.10008.1.2.5"]}]
    )
    assoc = receiver.associate()
    accepted = {str(context.abstract_syntax) for context in assoc.accepted_contexts}
    assoc.release()

    assert accepted == {"1.2.840.10008.1.1"}
    assert refusals(receiver, "SOP class refused") == [f"not among its sop_classes: {MR}"]
    assert refusals(receiver, "transfer syntax refused") == [f"proposed in none of its transfer_syntaxes: {CT}"]


def test_the_node_answers_to_its_titles_and_a_peer_may_call_its_own(make_receiver: MakeReceiver) -> None:
    receiver = make_receiver(
        titles=["CHEST", "HEAD"], peers=[{"ae_title": "PACS"}, {"ae_title": "CT1", "called_titles": ["CHEST"]}]
    )
    asked = [("PACS", "HEAD"), ("PACS", "KNEE"), ("CT1", "CHEST"), ("CT1", "DICOM_NODE")]
    assocs = [receiver.associate(calling=calling, called=called) for calling, called in asked]
    assocs[2].send_c_store(a_slice(1))
    ended = [assoc.is_established for assoc in assocs]
    for assoc in assocs:
        if assoc.is_established:
            assoc.release()
    receiver.settle()

    assert ended == [True, False, True, False]
    assert refusals(receiver, "association refused") == [
        "called AE title 'KNEE', this node is DICOM_NODE, CHEST, HEAD",
        "'CT1' called 'DICOM_NODE', which receive.peers does not allow it",
    ]
    with receiver.ledger.begin_reading() as tx:
        series = tx.studies.series(SERIES)
    assert series is not None
    assert series.called_ae == "CHEST", "rules can tell what was called"


def test_a_peer_gets_only_its_number_of_associations(make_receiver: MakeReceiver) -> None:
    receiver = make_receiver(peers=[{"ae_title": "PACS", "maximum_associations": 1}, {"ae_title": "OTHER"}])
    first, second, other = receiver.associate(), receiver.associate(), receiver.associate(calling="OTHER")

    assert (first.is_established, second.is_rejected, other.is_established) == (True, True, True)
    first.release()
    other.release()
    assert "its maximum_associations" in refusals(receiver, "association refused")[0]


def test_what_is_above_the_quota_of_a_peer_is_refused_for_now(make_receiver: MakeReceiver) -> None:
    receiver = make_receiver(peers=[{"ae_title": "PACS", "quota_gb_per_day": 0.0001}])
    assoc = receiver.associate()
    statuses = [assoc.send_c_store(a_slice(number, rows=256)).Status for number in (1, 2)]
    assoc.release()

    assert statuses == [0x0000, 0xA700]


def test_the_rate_of_a_peer_is_held_to_and_a_new_day_gives_a_new_quota() -> None:
    clock = [1_000_000.0]

    def pause(seconds: float) -> None:
        clock[0] += seconds

    peer = PeerSection(ae_title="PACS", maximum_mb_per_second=1.0, quota_gb_per_day=0.01)
    allowance = Allowance(peer, now=lambda: clock[0], pause=pause)
    for _ in range(100):
        allowance.spend(100_000)

    assert 8.5 <= clock[0] - 1_000_000.0 <= 10.0  # 10 MB, the first of them at once
    assert allowance.refusal() is not None
    clock[0] += 86400
    assert allowance.refusal() is None


class Authority:
    """A certificate authority and the certificates that it signed, as PEM files; made by openssl."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.trusted = folder / "ca.pem"
        self._run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test authority",
                  "-addext", "keyUsage=keyCertSign,cRLSign", "-keyout", "ca.key", "-out", "ca.pem")  # fmt: skip

    def issue(self, name: str, days: int = 2) -> Path:
        """A certificate for 127.0.0.1 with that common name, together with its key; negative days: it has expired."""
        self._run("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", "k", "-out", "r")
        (self._folder / "e").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n", encoding="ascii")
        self._run("x509", "-req", "-in", "r", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                  "-days", str(days), "-extfile", "e", "-out", "c")  # fmt: skip
        path = self._folder / f"{name}.pem"
        path.write_bytes((self._folder / "c").read_bytes() + (self._folder / "k").read_bytes())
        return path

    def _run(self, *arguments: str) -> None:
        try:
            subprocess.run(["openssl", *arguments], cwd=self._folder, check=True, capture_output=True)
        except FileNotFoundError:
            pytest.skip("openssl is not here")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Trusted by both sides."""
    return Authority(tmp_path)


def call(receiver: Receiver, authority: Authority, certificate: Path | None, **changes: str) -> Destination:
    files = Files(certificate=certificate, key=None, trusted=authority.trusted)
    given = {"name": "node", "ae_title": "DICOM_NODE", "host": "127.0.0.1", "calling_ae": "PACS"} | changes
    port = receiver.scp.tls_port
    assert port is not None
    return Destination(**given, port=port, tls=client_context(files, name="node"), answer_seconds=5.0)  # type: ignore[arg-type]


def tls_settings(authority: Authority) -> dict[str, str | int]:
    return {"port": 0, "certificate": str(authority.issue("node")), "trusted": str(authority.trusted)}


def test_by_tls_objects_take_the_same_path_and_a_peer_without_certificate_does_not_come_in(
    make_receiver: MakeReceiver, authority: Authority
) -> None:
    receiver = make_receiver(tls=tls_settings(authority))
    statuses = store_all(call(receiver, authority, authority.issue("pacs")), [a_slice(n, rows=512) for n in (1, 2, 3)])
    with pytest.raises(Transient):
        echo(call(receiver, authority, None))
    stranger_clear = receiver.associate()
    stranger_clear.release()

    assert statuses == [0, 0, 0]
    assert [len(receiver.instances(SERIES)) for _ in [receiver.settle()]] == [3]
    assert any("no TLS connection" in why for why in refusals(receiver, "connection refused"))


def test_a_silent_handshake_holds_up_nobody(make_receiver: MakeReceiver, authority: Authority) -> None:
    receiver = make_receiver(tls=tls_settings(authority), association_seconds=1.0)
    assert receiver.scp.tls_port is not None
    with socket.create_connection(("127.0.0.1", receiver.scp.tls_port)) as silent:
        seconds = echo(call(receiver, authority, authority.issue("pacs")))
        ended = ends_within(silent, 4.0)

    assert seconds < 1.0
    assert ended


def test_a_peer_must_bear_the_name_that_is_asked_of_it(make_receiver: MakeReceiver, authority: Authority) -> None:
    receiver = make_receiver(
        tls=tls_settings(authority), peers=[{"ae_title": "PACS", "certificate_names": ["pacs.hospital"]}]
    )
    right, wrong = authority.issue("pacs.hospital"), authority.issue("workstation")

    assert echo(call(receiver, authority, right)) > 0
    with pytest.raises(Transient, match="rejected"):
        echo(call(receiver, authority, wrong))
    assert receiver.associate().is_rejected  # in the clear it has no name at all


def test_a_renewed_certificate_is_shown_without_a_restart_and_a_broken_one_never(
    make_receiver: MakeReceiver, authority: Authority
) -> None:
    settings = tls_settings(authority)
    receiver = make_receiver(tls=settings)
    to = call(receiver, authority, authority.issue("pacs"))
    shown = []
    for content in (None, authority.issue("node2").read_bytes(), b"broken"):
        if content is not None:
            Path(str(settings["certificate"])).write_bytes(content)
        with Outgoing(to, [Proposal(abstract_syntax=CT, transfer_syntaxes=("1.2.840.10008.1.2.1",))]) as association:
            link = association._link._socket
            assert isinstance(link, ssl.SSLSocket)
            certificate = link.getpeercert() or {}
            shown.append(dict(pair for part in certificate["subject"] for pair in part)["commonName"])
            assert link.version() in ("TLSv1.2", "TLSv1.3")

    assert shown == ["node", "node2", "node2"]


def test_a_certificate_that_cannot_be_used_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_text("no certificate", encoding="ascii")

    with pytest.raises(Misconfigured, match=r"c\.pem"):
        Credentials(Files(certificate=tmp_path / "c.pem", key=None, trusted=None))
