"""The series that a question about rules is about: stored ones, or files on disk."""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from dicom_node.receive.assembly import representative
from dicom_node.route.facts import SeriesFacts, facts_of
from dicom_node.route.header import slice_header
from dicom_node.route.kept import facts_from
from dicom_node.route.provenance import NodeIdentity
from dicom_node.route.rehearsal import described
from dicom_node.route.router import series_facts
from dicom_node.wiring import read_header, read_series
from storage import views
from storage.facts.errors import Rejected
from storage.facts.routing import RecordedSeries
from storage.facts.study import Header, Instance, Series
from storage.ledger import Ledger

#: What lies beside images and is none; not worth a remark.
_BESIDE = frozenset({".txt", ".md", ".csv", ".json", ".xml", ".html", ".zip", ".pdf", ".py"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One series, ready to be asked about."""

    series_uid: str
    study_uid: str
    facts: SeriesFacts
    about: str  #: in a few words, without who the patient is


def _subject(series: Series, facts: SeriesFacts) -> Subject:
    return Subject(series_uid=series.series_uid, study_uid=series.study_uid, facts=facts, about=described(facts))


def of_uid(ledger: Ledger, uid: str, node: NodeIdentity) -> list[Subject]:
    """The series of that UID, or those of the study of that UID; as it was recorded where its files are gone.

    Raises Rejected for a UID that is not known.
    """
    with ledger.read() as session:
        members = [each.series_uid for each in views.study_series(session, uid) if each.instances]
    with ledger.begin_reading() as tx:
        recorded = {each.series_uid: each for each in tx.catalogue.recorded(0.0, uid=uid)}
        recorded = {known: each for known, each in recorded.items() if not tx.studies.instances(known)}
    found = [_of_recorded(each) for each in recorded.values()]
    for each in members or ([] if found else [uid]):
        series, instances = read_series(ledger, each)
        found.append(_subject(series, series_facts(series, instances, node)))
    return found


def _of_recorded(recorded: RecordedSeries) -> Subject:
    facts = facts_from(recorded)
    return Subject(series_uid=recorded.series_uid, study_uid=recorded.study_uid, facts=facts, about=described(facts))


def of_files(target: Path, sender: str, node: NodeIdentity) -> list[Subject]:
    """The series that a file or a folder holds. Raises Rejected when there is none."""
    paths = sorted(p for p in target.rglob("*") if p.is_file()) if target.is_dir() else [target]
    paths = [p for p in paths if len(paths) == 1 or p.suffix.lower() not in _BESIDE]
    series: dict[str, list[tuple[Path, Header]]] = defaultdict(list)
    unreadable: list[Path] = []
    with click.progressbar(paths, label="reading", file=sys.stderr, hidden=len(paths) < 100) as shown:
        for path in shown:
            try:
                header = read_header(path)
            except Rejected:
                unreadable.append(path)
                continue
            series[str(header.get("SeriesInstanceUID", path.name))].append((path, header))
    if not series:
        raise Rejected(f"{target} holds no DICOM file that can be read")
    if unreadable:
        click.secho(
            f"note: {len(unreadable)} file(s) cannot be read as DICOM, e.g. {unreadable[0]}", fg="yellow", err=True
        )
    return [_of_headers(uid, found, sender, node) for uid, found in series.items()]


def _of_headers(uid: str, found: list[tuple[Path, Header]], sender: str, node: NodeIdentity) -> Subject:
    headers = {str(path): header for path, header in found}
    chosen = headers[representative([_instance(path, header) for path, header in found]).path]
    series = Series(
        series_uid=uid,
        study_uid=_text(chosen, "StudyInstanceUID"),
        modality=_text(chosen, "Modality"),
        calling_ae=sender,
        called_ae="",
        revision=1,
        instances=len(found),
        header=chosen,
    )
    return _subject(series, facts_of(series, [slice_header(header) for _, header in found], node))


def _instance(path: Path, header: Header) -> Instance:
    kept: dict[str, Any] = slice_header(header)
    return Instance(
        sop_instance_uid=_text(header, "SOPInstanceUID"),
        sop_class_uid=_text(header, "SOPClassUID"),
        transfer_syntax_uid="",
        series_uid=_text(header, "SeriesInstanceUID"),
        study_uid=_text(header, "StudyInstanceUID"),
        path=str(path),
        size=0,
        digest="",
        header=kept,
    )


def _text(header: Header, keyword: str) -> str:
    return str(header.get(keyword, ""))
