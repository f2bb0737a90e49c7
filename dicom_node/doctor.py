"""Looks for what would keep the node from working, and says in an administrator's words what to do."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from dicom_node.config import DestinationSection, NodeConfig, own_titles
from dicom_node.deliver.tls import Files
from dicom_node.deliver.tls import load as load_files
from dicom_node.peers import PeerSection
from storage import upkeep, views, workers
from storage.facts.errors import Misconfigured, NodeError
from storage.facts.task import State
from storage.ledger import Ledger

SOON_DAYS = 30  #: before a certificate ends, when it should be renewed
DAY = 86400.0  #: seconds
HELD_DAYS = 2.0  #: that retention is late, from where on it is told
WAITING = 10_000  #: received objects that the ledger does not have yet; from there on senders are slowed


class Verdict(StrEnum):
    """How one check ended."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    what: str
    verdict: Verdict
    found: str
    todo: str = ""  #: what to do; empty when it is well


#: C-ECHO to a destination: None when it answers, else what is wrong and what to do.
Echo = Callable[[DestinationSection], str | None]

#: Whether a peer that can be asked lets itself be asked, and sends again: None when it does, else what is wrong.
Ask = Callable[[PeerSection], str | None]


def examine(config: NodeConfig, path: Path, echo: Echo, ask: Ask) -> Iterator[Check]:
    """All checks, each as soon as it is done."""
    running = _ready(config.node.data)
    yield _ae_title(config)
    yield _port(config, running)
    yield from _disk(config)
    yield from _incoming(config, running)
    yield from _ledger(config)
    yield from _peers(config)
    for peer in config.receive.peers:
        if peer.query is not None:
            yield _source(peer, ask)
    yield from _tls(config)
    for name, destination in config.destinations.items():
        yield _destination(name, destination, echo)
    if not config.destinations:
        yield Check(
            what="destinations", verdict=Verdict.WARNING, found="none: results stay in the node",
            todo=f"add [destinations.NAME] with ae_title, host and port to {path}",
        )  # fmt: skip


def _ready(data: Path) -> Mapping[str, int] | None:
    """What the running node says of itself, None when none runs."""
    try:
        facts: dict[str, int] = json.loads((data / "run" / "ready.json").read_text(encoding="utf-8"))
        os.kill(int(facts["pid"]), 0)
    except (OSError, ValueError, KeyError):
        return None
    return facts


def _ae_title(config: NodeConfig) -> Check:
    titles = own_titles(config)
    clash = next(((d.ae_title, name) for name, d in config.destinations.items() if d.ae_title in titles), None)
    if clash is not None:
        found = f"{clash[0]} is also the AE title of destination {clash[1]}"
        return Check(
            what="AE title", verdict=Verdict.FAULT, found=found,
            todo="give the node an AE title of its own (node.ae_title): peers could not tell the two apart",
        )  # fmt: skip
    return Check(what="AE title", verdict=Verdict.OK, found=", ".join(titles))


def _port(config: NodeConfig, running: Mapping[str, int] | None) -> Check:
    node = config.node
    if running is not None:
        return Check(
            what="port", verdict=Verdict.OK if running.get("streaming", True) else Verdict.WARNING,
            found=f"the node runs as process {running['pid']} and listens on {running['port']}",
            todo="" if running.get("streaming", True) else "this pynetdicom release takes the slow path: install 3.0.4",
        )  # fmt: skip
    family = socket.AF_INET6 if ":" in node.bind else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((node.bind, node.port))
        except OSError as error:
            return Check(
                what="port", verdict=Verdict.FAULT, found=f"{node.bind}:{node.port} cannot be used: {error.strerror}",
                todo="stop what uses it, or change node.port; ports below 1024 need root",
            )  # fmt: skip
    return Check(what="port", verdict=Verdict.OK, found=f"{node.bind}:{node.port} is free; the node does not run")


def _disk(config: NodeConfig) -> Iterator[Check]:
    data = config.node.data
    there = next(folder for folder in (data, *data.parents) if folder.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        yield Check(
            what="data folder", verdict=Verdict.FAULT, found=f"{there} cannot be written",
            todo="let the node's user own it, or change node.data",
        )  # fmt: skip
        return
    free = shutil.disk_usage(there).free // 2**20
    least = config.receive.refuse_below_mb
    found = f"{free} MB free under {data}"
    if free < least:
        yield Check(
            what="disk", verdict=Verdict.FAULT, found=found,
            todo=f"C-STORE answers 0xA700 below {least} MB (refuse_below_mb): free some, or lower upkeep.keep_days",
        )  # fmt: skip
    elif free < 4 * least:
        yield Check(what="disk", verdict=Verdict.WARNING, found=found, todo=f"receiving stops at {least} MB")
    else:
        yield Check(what="disk", verdict=Verdict.OK, found=found)


def _incoming(config: NodeConfig, running: Mapping[str, int] | None) -> Iterator[Check]:
    """What was received and is not in the ledger yet, and what could not be entered."""
    waiting = _names(config.node.data / "incoming", ".dcm")
    found = f"{waiting} received objects wait for the ledger"
    if waiting and running is None:
        yield Check(what="incoming", verdict=Verdict.OK, found=f"{found}: the next start enters them")
    elif waiting > WAITING:
        yield Check(
            what="incoming", verdict=Verdict.WARNING, found=found,
            todo="senders are slowed, later refused: see that the database answers and that disk and CPU are not busy",
        )  # fmt: skip
    else:
        yield Check(what="incoming", verdict=Verdict.OK, found=found)
    aside = config.node.data / "quarantine"
    if number := _names(aside, ""):
        yield Check(
            what="quarantine", verdict=Verdict.WARNING, found=f"{number} acknowledged files could not be read again",
            todo=f"have their studies sent again, then empty {aside}; look after the disk",
        )  # fmt: skip


def _names(folder: Path, suffix: str) -> int:
    try:
        return sum(name.endswith(suffix) for name in os.listdir(folder))
    except OSError:
        return 0  # not made yet, or not ours to read: other checks say so


def _ledger(config: NodeConfig) -> Iterator[Check]:
    if config.node.database is None and not (config.node.data / "ledger.db").exists():
        yield Check(what="ledger", verdict=Verdict.OK, found="none yet; the first start makes it")
        return
    try:
        ledger = Ledger(config.node.data, config.database_url())
        try:
            yield from _contents(ledger)
            yield from _retention(ledger, config.upkeep.keep_days * DAY)
        finally:
            ledger.close()
    except NodeError as error:
        yield Check(what="ledger", verdict=Verdict.FAULT, found=str(error), todo="see node.database and node.data")


def _contents(ledger: Ledger) -> Iterator[Check]:
    with ledger.read() as session:
        dead = views.tasks(session, states=[State.FAILED], limit=1000)
        latest = max((row.at for row in views.trail(session, limit=1)), default=0.0)
        idle = [device for device in workers.devices(session) if not device.in_service]
    with ledger.begin_reading() as tx:
        rules = [rule for rule in tx.catalogue.rules() if rule.enabled]
    if latest > time.time() + 60:
        yield Check(
            what="clock", verdict=Verdict.FAULT, found=f"the last audit row lies {latest - time.time():.0f} s ahead",
            todo="the machine's clock was set back: synchronise it (NTP), then restart the node",
        )  # fmt: skip
    else:
        yield Check(what="clock", verdict=Verdict.OK, found=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))
    if dead:
        yield Check(
            what="dead letters", verdict=Verdict.WARNING, found=f"{len(dead)}, the latest: {dead[-1].reason}",
            todo="`dicom-node tasks list` shows them, `dicom-node tasks retry` tries again",
        )  # fmt: skip
    for device in idle:
        since = datetime.fromtimestamp(device.since, UTC)
        yield Check(
            what="device", verdict=Verdict.WARNING,
            found=f"{device.device} of {device.host} is out of service since {since:%Y-%m-%d %H:%M} UTC: {device.why}",
            todo="the worker tries it again by itself; until then its models wait, or run on another slot",
        )  # fmt: skip
    if not rules:
        yield Check(
            what="rules", verdict=Verdict.WARNING, found="no rule is on: no series reaches a model",
            todo="`dicom-node rules add --help`",
        )  # fmt: skip
    else:
        yield Check(what="rules", verdict=Verdict.OK, found=f"{len(rules)} on")


def _retention(ledger: Ledger, keep: float) -> Iterator[Check]:
    """Whether retention leaves files alone that are old enough by the clock."""
    held = upkeep.horizon(ledger, keep, time.time()).held / DAY if keep else 0.0
    if held > HELD_DAYS:
        yield Check(
            what="retention", verdict=Verdict.WARNING,
            found=f"files count {held:.0f} days less than by the clock: the node was off, or the clock was set",
            todo="nothing if the clock is right: they are removed later; a lower upkeep.keep_days removes them sooner",
        )  # fmt: skip


def _peers(config: NodeConfig) -> Iterator[Check]:
    receive = config.receive
    if receive.accept_unknown_peers:
        yield Check(
            what="peers", verdict=Verdict.WARNING, found="anybody may send (receive.accept_unknown_peers)",
            todo="list the peers under receive.peers and switch it off before clinical use",
        )  # fmt: skip
    elif not receive.peers:
        yield Check(
            what="peers", verdict=Verdict.FAULT, found="nobody may send: receive.peers is empty",
            todo="add [[receive.peers]] with the ae_title of the PACS that forwards studies",
        )  # fmt: skip
    else:
        loose = [peer.ae_title for peer in receive.peers if not peer.addresses]
        yield Check(
            what="peers", verdict=Verdict.OK, found=", ".join(peer.ae_title for peer in receive.peers),
            todo=f"{', '.join(loose)}: any address may use it; give addresses to be sure" if loose else "",
        )  # fmt: skip


def _source(peer: PeerSection, ask: Ask) -> Check:
    wrong = ask(peer)
    what, wanted = f"peer {peer.ae_title}", f"C-FIND and {peer.fetch_by}" if peer.fetch else "C-FIND"
    if wrong is None:
        return Check(what=what, verdict=Verdict.OK, found=f"{peer.query} offers {wanted}")
    return Check(what=what, verdict=Verdict.WARNING, found=f"{wanted} at {peer.query} cannot be used", todo=wrong)


def _tls(config: NodeConfig) -> Iterator[Check]:
    tls = config.tls
    if tls.port is None and not any(d.tls for d in config.destinations.values()):
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    files = Files(certificate=tls.certificate, key=tls.key, trusted=tls.trusted)
    try:
        load_files(context, files, what="tls")
    except Misconfigured as error:
        yield Check(what="TLS", verdict=Verdict.FAULT, found=str(error), todo="see [tls]")
        return
    where = f"port {tls.port}" if tls.port is not None else "destinations only"
    key = tls.key or tls.certificate
    if key is not None and key.stat().st_mode & 0o077:
        yield Check(
            what="TLS", verdict=Verdict.WARNING, found=f"{where}; others can read {key}", todo=f"chmod 600 {key}"
        )
        return
    yield Check(what="TLS", verdict=Verdict.OK, found=where)
    if tls.certificate is not None:
        yield _validity(tls.certificate)


def _validity(path: Path) -> Check:
    """How long the node's own certificate is still valid."""
    begins, ends = validity(path.read_text(encoding="ascii", errors="replace"))
    days = int((ends - time.time()) // 86400)
    date = time.strftime("%Y-%m-%d", time.gmtime(ends))
    todo = f"renew {path}: a running node takes it up without a restart"
    if begins > time.time():
        since = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(begins))
        return Check(
            what="certificate",
            verdict=Verdict.FAULT,
            found=f"valid only from {since}",
            todo="check the machine's clock",
        )
    if ends < time.time():
        return Check(what="certificate", verdict=Verdict.FAULT, found=f"expired on {date}", todo=todo)
    verdict = Verdict.OK if days >= SOON_DAYS else Verdict.WARNING
    found = f"valid until {date}, {days} more days"
    return Check(what="certificate", verdict=verdict, found=found, todo="" if verdict is Verdict.OK else todo)


def validity(pem: str) -> tuple[float, float]:
    """When the first certificate of a PEM text begins and ends to be valid, seconds since the epoch (RFC 5280 4.1).

    The text must hold a certificate. Read by hand: the standard library shows dates of a peer's certificates alone.
    """
    start, end = pem.index("-----BEGIN CERTIFICATE-----"), pem.index("-----END CERTIFICATE-----")
    der = ssl.PEM_cert_to_DER_cert(pem[start:end] + "-----END CERTIFICATE-----\n")
    fields = _items(_items(_items(der)[0][1])[0][1])
    first = int(fields[0][0] == 0xA0)  # the version may be left out
    begins, ends = (_moment(tag, value) for tag, value in _items(fields[first + 3][1])[:2])
    return begins, ends


def _items(der: bytes) -> list[tuple[int, bytes]]:
    """Tag and content of the DER values that lie one after the other (X.690 8.1)."""
    found, at = [], 0
    while at + 2 <= len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(der[at : at + size]), at + size
        found.append((tag, der[at : at + length]))
        at += length
    return found


def _moment(tag: int, value: bytes) -> float:
    """UTCTime, whose years end in 2049, or GeneralizedTime (RFC 5280 4.1.2.5)."""
    text = value.decode("ascii")
    if tag == 0x17:
        text = ("20" if text[:2] < "50" else "19") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _destination(name: str, destination: DestinationSection, echo: Echo) -> Check:
    wrong = echo(destination)
    what = f"destination {name}"
    where = f"{destination.ae_title} at {destination.host}:{destination.port}"
    if wrong is None:
        return Check(what=what, verdict=Verdict.OK, found=f"{where} answers C-ECHO")
    return Check(what=what, verdict=Verdict.FAULT, found=where, todo=wrong)
