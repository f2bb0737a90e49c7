"""Hostile and odd files over DICOM: each is stored or refused with a status, none stops the node or fools a model."""

from __future__ import annotations

import struct
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from pydicom.filereader import read_file_meta_info

from dicom_node.deliver import command
from dicom_node.deliver.association import Association, Body, Proposal
from dicom_node.deliver.destination import Destination
from dicom_node.demo.session import NODE, PACS, Session
from storage import views
from storage.facts.errors import NodeError
from storage.facts.routing import Rule
from tests.acceptance.conftest import OpenSession

CT, IMPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """A data set exactly as it lies in the file."""

    name: str
    sop_class: str
    sop_instance: str
    syntax: str
    data: bytes


def read_raw(path: Path, number: int) -> Raw:
    """The file's own bytes behind its meta information; what is missing there is made up, as a broken sender would."""
    content = path.read_bytes()
    at, sop_class, sop_instance, syntax = 0, CT, f"1.2.826.0.1.99.{number}", IMPLICIT
    if content[128:132] == b"DICM":
        at = 144 + struct.unpack("<L", content[140:144])[0] if content[136:138] == b"UL" else 132
        try:
            meta = read_file_meta_info(path)
            sop_class = str(meta.get("MediaStorageSOPClassUID", sop_class))
            sop_instance = str(meta.get("MediaStorageSOPInstanceUID", sop_instance))
            syntax = str(meta.get("TransferSyntaxUID", syntax))
        except Exception:
            pass
    else:
        try:
            header = pydicom.dcmread(path, force=True, stop_before_pixels=True)
            sop_class = str(header.get("SOPClassUID") or sop_class)
            sop_instance = str(header.get("SOPInstanceUID") or sop_instance)
        except Exception:
            pass
    return Raw(name=path.name, sop_class=sop_class, sop_instance=sop_instance, syntax=syntax, data=content[at:])


def send_raw(session: Session, raw: Raw) -> int | str:
    """The status of the answer, or why there was none."""
    node = Destination(name="node", ae_title=NODE, host="127.0.0.1", port=session.port, calling_ae=PACS)
    try:
        with Association(
            node, [Proposal(abstract_syntax=raw.sop_class, transfer_syntaxes=(raw.syntax,))]
        ) as association:
            context = association.context(raw.sop_class)
            if context is None:
                return "context refused"
            fields: command.Fields = {
                command.COMMAND_FIELD: command.C_STORE_RQ,
                command.AFFECTED_CLASS: raw.sop_class,
                command.AFFECTED_INSTANCE: raw.sop_instance,
                command.PRIORITY: 0,
            }
            status = association.ask(context, fields, Body.of(raw.data)).number(command.STATUS)
            assert status is not None
            return status
    except NodeError as error:
        return str(error)


@pytest.mark.shared_data
@pytest.mark.filterwarnings("ignore")  # of pydicom, about these files
@pytest.mark.timeout(300)
def test_no_file_stops_the_node_reaches_a_wrong_model_or_leaves_a_stuck_task(
    open_session: OpenSession, shared_data: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(shared_data / "nasty.zip") as archive:
        archive.extractall(tmp_path / "nasty")
    paths = sorted(p for p in (tmp_path / "nasty").rglob("*") if p.is_file() and p.suffix != ".md")
    with open_session() as session:
        _put_product_rules(session)
        answers = {path: send_raw(session, read_raw(path, n)) for n, path in enumerate(paths)}
        _wait_until_idle(session)

        assert session.alive()
        assert len(paths) == 144
        assert {a for a in answers.values() if isinstance(a, str)} <= {"context refused"}
        assert set(answers.values()) <= {0x0000, 0xA900, 0xC000, "context refused"}
        assert sum(a == 0 for a in answers.values()) > 110
        with session.ledger.read() as reading:
            tasks = views.tasks(reading, limit=10_000)
            results = views.worklist(reading, limit=1000)
        assert [t for t in tasks if t.state in ("waiting", "running")] == []
        assert all(r.prediction.reason is not None for r in results), "a model gave a result on one of these files"
        assert [t.reason for t in tasks if t.state == "failed"] == []
        assert session.ledger.verify().faults == ()
        assert send_raw(session, read_raw(paths[0], 0)) == answers[paths[0]]


def _put_product_rules(session: Session) -> None:
    with session.ledger.begin("test") as tx:
        rule = next(r for r in tx.catalogue.rules() if r.name == "coarse")
        tx.catalogue.put_rule(
            Rule(name="coarse", expression=rule.expression, package="ct-lung-densitometry", destinations=("pacs",))
        )


def _wait_until_idle(session: Session, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with session.ledger.read() as reading:
            counts = views.counts(reading)
        if not any(n for (_, state), n in counts.items() if state in ("waiting", "running")):
            return
        time.sleep(0.2)
    raise AssertionError(f"tasks are still open: {counts}")
