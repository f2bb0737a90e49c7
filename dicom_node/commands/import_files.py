"""``dicom-node import``: files from a folder, a ZIP or a DICOMDIR, into the running node, by DICOM as a peer would."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from dicom_node.commands.import_sources import opened, sort
from dicom_node.commands.opening import read_config
from dicom_node.commands.options import config_option
from dicom_node.config import NodeConfig, own_titles
from dicom_node.deliver.destination import Destination, Outgoing
from dicom_node.deliver.dimse import Outcome, Sent, Unsendable, send
from dicom_node.deliver.refusal import meaning
from dicom_node.receive.policy import Caller, admit
from storage.facts.errors import Misconfigured, Rejected

BATCH = 200  #: files of one association


@click.command(name="import")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("--peer", help="AE title to send as; one of receive.peers. Default: the first that may call from here.")
@config_option
def import_files(source: Path, peer: str | None, path: Path) -> None:
    """Take in SOURCE, a folder, a ZIP or a DICOMDIR. The node must run; what it answers is what counts."""
    config = read_config(path)
    to = node_of(config, peer)
    with opened(source) as lot:
        found = sort(lot.paths)
        unreadable = lot.unreadable + found.unreadable
        if not found.files:
            why = _besides(found.others, unreadable, lot.missing)
            raise Rejected(f"{source} holds no DICOM file (PS3.10){why}: nothing was imported")
        answers: list[Sent] = []
        damaged: list[Outgoing] = []
        try:
            with click.progressbar(length=len(found.files), label="importing") as bar:

                def take(answer: Sent) -> None:
                    answers.append(answer)
                    bar.update(1)

                send_all(found.files, to, take, damaged.append)
        finally:  # also when the node went away, or after Ctrl-C
            left = len(found.files) - len(answers) - len(damaged)
            _say(answers, left, _besides(found.others, unreadable + len(damaged), lot.missing))
    if unreadable or damaged or lot.missing or any(answer.outcome is Outcome.REFUSED for answer in answers):
        raise SystemExit(1)


def send_all(
    files: Sequence[Outgoing],
    to: Destination,
    take: Callable[[Sent], None],
    drop: Callable[[Outgoing], None],
) -> None:
    """Send them, telling of each answer, and of each file that turns out on the way to be damaged. Raises Transient."""
    left = list(files)
    while left:
        batch, left = left[:BATCH], left[BATCH:]
        try:
            send(batch, to, take)
        except Unsendable as error:
            bad, *rest = _unanswered(batch, error.sent)
            drop(bad)
            left = rest + left


def _unanswered(batch: Sequence[Outgoing], sent: Sequence[Sent]) -> list[Outgoing]:
    """Those without an answer; the others were answered in their order."""
    left, number = [], 0
    for file in batch:
        if number < len(sent) and sent[number].sop_instance_uid == file.sop_instance_uid:
            number += 1
        else:
            left.append(file)
    return left


def _besides(others: int, unreadable: int, missing: int) -> str:
    said = [f"{others} other files passed over"]
    said += [f"{unreadable} damaged or not to be read"] if unreadable else []
    said += [f"{missing} that the DICOMDIR names not there"] if missing else []
    return "".join(f", {one}" for one in said)


def _say(answers: Sequence[Sent], left: int, besides: str) -> None:
    refused = [answer for answer in answers if answer.outcome is Outcome.REFUSED]
    click.echo(f"{len(answers) - len(refused)} objects imported, {len(refused)} refused{besides}")
    if left:
        click.echo(f"{left} were not sent, or not taken now: import again, what is there already does no harm")
    for answer in refused[:20]:
        click.echo(f"  {answer.sop_instance_uid}: {meaning(answer.status)}")


def node_of(config: NodeConfig, peer: str | None) -> Destination:
    """The running node as a destination. Raises Misconfigured when nobody may send, or not under that title."""
    if config.tls.only:
        raise Misconfigured("the node listens by TLS alone (tls.only): send with a TLS-capable sender instead")
    bind = config.node.bind
    host = "127.0.0.1" if bind in ("0.0.0.0", "::") else bind
    return Destination(
        name="node",
        ae_title=config.node.ae_title,
        host=host,
        port=_port(config),
        calling_ae=_calling(config, peer, host),
        answer_seconds=60.0,
    )


def _calling(config: NodeConfig, peer: str | None, host: str) -> str:
    """The AE title to send as: better refused here, with what to do, than by the node."""
    receive = config.receive
    titles = [p.ae_title for p in receive.peers]
    if receive.accept_unknown_peers:
        return peer or (titles[0] if titles else "IMPORT")
    if not titles:
        raise Misconfigured("receive.peers is empty: add [[receive.peers]] for the importing AE title, then restart")
    if peer is not None and peer not in titles:
        raise Misconfigured(f"--peer {peer} is not in receive.peers; known: {', '.join(titles)}")
    wanted = [peer] if peer is not None else titles
    if not _is_address(host):
        return wanted[0]
    for title in wanted:
        if admit(Caller(calling=title, called=config.node.ae_title, address=host), own_titles(config), receive) is None:
            return title
    raise Misconfigured(
        f"none of receive.peers ({', '.join(wanted)}) may call from {host} without a certificate: add "
        f'[[receive.peers]] with ae_title = "IMPORT" and addresses = ["{host}"], then restart the node'
    )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _port(config: NodeConfig) -> int:
    if config.node.port:
        return config.node.port
    import json  # only for a node on a free port

    ready = config.node.data / "run" / "ready.json"
    try:
        return int(json.loads(ready.read_text(encoding="utf-8"))["port"])
    except (OSError, ValueError, KeyError) as error:
        raise Misconfigured("the node does not run: start it (dicom-node serve), then import") from error
