"""``dicom-node import``: files from a folder, a ZIP or a DICOMDIR, into the running node, by DICOM as a peer would."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import pydicom
from pydicom.errors import InvalidDicomError

from dicom_node.commands.opening import read_config
from dicom_node.commands.options import config_option
from dicom_node.config import NodeConfig
from dicom_node.deliver.destination import Destination, Outgoing
from dicom_node.deliver.dimse import Outcome, Sent, send
from dicom_node.deliver.refusal import meaning
from storage.facts.errors import Misconfigured, Rejected

BATCH = 200  #: files of one association


@click.command(name="import")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option("--peer", help="AE title to send as; one of receive.peers. Default: the first of them.")
@config_option
def import_files(source: Path, peer: str | None, path: Path) -> None:
    """Take in SOURCE, a folder, a ZIP or a DICOMDIR. The node must run; what it answers is what counts."""
    config = read_config(path)
    to = node_of(config, peer)
    with opened(source) as paths:
        files, others = sort(paths)
        if not files:
            raise Rejected(f"{source} holds no DICOM file (PS3.10): nothing was imported")
        answers: list[Sent] = []
        with click.progressbar(length=len(files), label="importing") as bar:
            for start in range(0, len(files), BATCH):
                answers += send(files[start : start + BATCH], to, lambda _sent: bar.update(1))
    refused = [a for a in answers if a.outcome is Outcome.REFUSED]
    click.echo(
        f"{len(answers) - len(refused)} objects imported, {len(refused)} refused, {others} other files passed over"
    )
    for answer in refused[:20]:
        click.echo(f"  {answer.sop_instance_uid}: {meaning(answer.status)}")
    if refused:
        raise SystemExit(1)


def node_of(config: NodeConfig, peer: str | None) -> Destination:
    """The running node as a destination. Raises Misconfigured when nobody may send, or not under that title."""
    receive = config.receive
    titles = [p.ae_title for p in receive.peers]
    if peer is None and not titles and not receive.accept_unknown_peers:
        raise Misconfigured("receive.peers is empty: add [[receive.peers]] for the importing AE title, then restart")
    if peer is not None and peer not in titles and not receive.accept_unknown_peers:
        raise Misconfigured(f"--peer {peer} is not in receive.peers; known: {', '.join(titles) or 'none'}")
    if config.tls.only:
        raise Misconfigured("the node listens by TLS alone (tls.only): send with a TLS-capable sender instead")
    bind = config.node.bind
    host = "127.0.0.1" if bind in ("0.0.0.0", "::") else bind
    calling = peer or (titles[0] if titles else "IMPORT")
    return Destination(
        name="node",
        ae_title=config.node.ae_title,
        host=host,
        port=_port(config),
        calling_ae=calling,
        answer_seconds=60.0,
    )


def _port(config: NodeConfig) -> int:
    if config.node.port:
        return config.node.port
    import json  # only for a node on a free port

    ready = config.node.data / "run" / "ready.json"
    try:
        return int(json.loads(ready.read_text(encoding="utf-8"))["port"])
    except (OSError, ValueError, KeyError) as error:
        raise Misconfigured("the node does not run: start it (dicom-node serve), then import") from error


@contextmanager
def opened(source: Path) -> Iterator[Sequence[Path]]:
    """The files of a folder, of a ZIP (unpacked for the while), or those that a DICOMDIR names. Raises Rejected."""
    if source.is_dir():
        yield sorted(p for p in source.rglob("*") if p.is_file())
    elif zipfile.is_zipfile(source):
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(source) as archive:
            try:
                archive.extractall(folder)  # names that lead out of the folder are made harmless by it
            except (OSError, RuntimeError, zipfile.BadZipFile, NotImplementedError) as error:
                raise Rejected(f"{source} cannot be unpacked: {error}") from error
            yield sorted(p for p in Path(folder).rglob("*") if p.is_file())
    elif source.name.upper() == "DICOMDIR":
        yield named_by(source)
    else:
        yield [source]


def named_by(dicomdir: Path) -> list[Path]:
    """The files that the records of a DICOMDIR refer to (PS3.3 F.3.2.2). Raises Rejected when it is none."""
    try:
        records = pydicom.dcmread(dicomdir).DirectoryRecordSequence
    except (InvalidDicomError, OSError, AttributeError, ValueError) as error:
        raise Rejected(f"{dicomdir} is no DICOMDIR ({type(error).__name__})") from error
    found: list[Path] = []
    root = dicomdir.parent.resolve()
    for record in records:
        parts = record.get("ReferencedFileID")
        if not parts:
            continue
        path = root.joinpath(*([parts] if isinstance(parts, str) else parts)).resolve()
        if path.is_relative_to(root) and path.is_file():
            found.append(path)
    return found


def sort(paths: Sequence[Path]) -> tuple[list[Outgoing], int]:
    """The DICOM files among them, series together, and how many others there are. A DICOMDIR itself is no image."""
    found: list[tuple[str, Outgoing]] = []
    for path in paths:
        try:
            meta = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
            file = Outgoing(
                path=path,
                sop_class_uid=str(meta.file_meta.MediaStorageSOPClassUID),
                sop_instance_uid=str(meta.file_meta.MediaStorageSOPInstanceUID),
                transfer_syntax_uid=str(meta.file_meta.TransferSyntaxUID),
            )
        except (InvalidDicomError, AttributeError, ValueError, LookupError, OSError, EOFError, Rejected):
            continue
        if file.sop_class_uid != "1.2.840.10008.1.3.10":  # Media Storage Directory Storage
            found.append((str(meta.get("SeriesInstanceUID", "")), file))
    found.sort(key=lambda item: item[0])
    return [file for _, file in found], len(paths) - len(found)
