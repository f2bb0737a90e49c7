"""Asks a PACS what it has of a study (C-FIND, PS3.4 Annex C, Study Root)."""

from __future__ import annotations

import datetime
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.dsutils import decode

from dicom_node.deliver import command
from dicom_node.deliver.association import IMPLICIT, Association, Context
from dicom_node.deliver.command import Message
from dicom_node.deliver.destination import Destination
from dicom_node.deliver.refusal import meaning
from dicom_node.deliver.study_root import (
    FIND,
    PENDING,
    answers,
    associated,
    body_of,
    context_of,
    identifier,
    request_of,
)
from dicom_node.unreadable import UNREADABLE
from storage.facts.errors import Rejected, Transient

MOST_ANSWERS = 100_000
IS_BYTES = 12  #: longest Integer String (PS3.5 6.2)
_NUMBERS = ("NumberOfStudyRelatedInstances", "NumberOfSeriesRelatedInstances")
_SERIES_KEYS = ("SeriesInstanceUID", "Modality", "NumberOfSeriesRelatedInstances")


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyEntry:
    """A study as a PACS lists it."""

    study_uid: str
    instances: int | None  #: None where it does not tell (Number of Study Related Instances is optional)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesEntry:
    """A series as a PACS lists it."""

    series_uid: str
    modality: str
    instances: int


def counts(destination: Destination, study_uid: str) -> Mapping[str, int]:
    """How many objects the PACS has of each series of a study.

    Raises Rejected when it does not offer C-FIND to this node, Transient when it cannot be asked.
    """
    with Inquiry(destination) as inquiry:
        return {entry.series_uid: entry.instances for entry in inquiry.series(study_uid)}


class Inquiry:
    """Any number of questions on one association; use as a context manager.

    Raises Rejected when the PACS does not offer C-FIND to this node, Transient when it cannot be asked.
    """

    def __init__(self, destination: Destination) -> None:
        self._association = associated(destination, FIND)

    def __enter__(self) -> Inquiry:
        self._association.__enter__()
        try:
            self._context = context_of(self._association, FIND)
        except Rejected as error:
            self._association.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._association.__exit__(kind, error, at)

    def studies(self, since: datetime.date, until: datetime.date) -> list[StudyEntry]:
        """The studies of some days, both included, by Study Date (range matching, PS3.4 C.2.2.2.5)."""
        wanted = Dataset()
        wanted.QueryRetrieveLevel = "STUDY"
        wanted.StudyDate = f"{since:%Y%m%d}-{until:%Y%m%d}"
        wanted.StudyInstanceUID = None
        wanted.NumberOfStudyRelatedInstances = None
        found = {}
        for answer in self._find(wanted):
            study_uid = str(answer.get("StudyInstanceUID", "") or "")
            if study_uid:
                instances = _number(answer.get("NumberOfStudyRelatedInstances"))
                found[study_uid] = StudyEntry(study_uid=study_uid, instances=instances)
        return list(found.values())

    def series(self, study_uid: str) -> list[SeriesEntry]:
        """The series of a study, each with its number of objects.

        From Number of Series Related Instances (0020,1209) where the PACS tells, which is optional (PS3.4 C.3.4), else
        by counting its objects.
        """
        found: dict[str, tuple[str, int | None]] = {}
        for answer in self._find(identifier("SERIES", study_uid, *_SERIES_KEYS)):
            series_uid = str(answer.get("SeriesInstanceUID", "") or "")
            if not series_uid or str(answer.get("StudyInstanceUID", "") or study_uid) != study_uid:
                continue  # some archives answer for every study that they have
            modality = str(answer.get("Modality", "") or "")
            number = _number(answer.get("NumberOfSeriesRelatedInstances"))
            if series_uid in found and None not in (number, found[series_uid][1]):
                number = max(number or 0, found[series_uid][1] or 0)  # listed once for each place where it lies
            found[series_uid] = (modality, number)
        return [
            SeriesEntry(
                series_uid=series_uid,
                modality=modality,
                instances=len(self.objects(study_uid, series_uid)) if number is None else number,
            )
            for series_uid, (modality, number) in found.items()
        ]

    def objects(self, study_uid: str, series_uid: str) -> frozenset[str]:
        """The SOP Instance UIDs of a series."""
        image = identifier("IMAGE", study_uid, "SOPInstanceUID")
        image.SeriesInstanceUID = UID(series_uid)
        return frozenset(str(answer.get("SOPInstanceUID", "") or "") for answer in self._find(image)) - {""}

    def sop_classes(self, study_uid: str, series_uid: str) -> frozenset[str]:
        """The SOP Class UIDs of a series' objects, as far as the PACS tells them, which is optional."""
        image = identifier("IMAGE", study_uid, "SOPInstanceUID", "SOPClassUID")
        image.SeriesInstanceUID = UID(series_uid)
        return frozenset(str(answer.get("SOPClassUID", "") or "") for answer in self._find(image)) - {""}

    def _find(self, wanted: Dataset) -> Iterator[Dataset]:
        return _find(self._association, self._context, wanted)


def _number(value: object) -> int | None:
    """An IS as an int; None where it is empty, or no number of objects: they are counted then."""
    text = "" if value is None else str(value).strip()
    return int(text) if text.isascii() and text.isdigit() else None


def _find(association: Association, context: Context, wanted: Dataset) -> Iterator[Dataset]:
    request = request_of(FIND)
    message_id = association.send(context, request, body_of(wanted, context))
    for number, message in enumerate(answers(association, request, message_id)):
        status = message.number(command.STATUS) or 0
        if status not in PENDING:
            if status != 0x0000:
                raise Transient(f"{association.destination} did not answer the query: {meaning(status)}")
            return
        if number > MOST_ANSWERS:
            raise Transient(f"{association.destination} answers the query without end")
        yield _read(association, message, context)


def _read(association: Association, message: Message, context: Context) -> Dataset:
    """An answer, each of its elements read: pydicom would else stumble over a malformed one later."""
    try:
        answer = decode(io.BytesIO(message.data), context.transfer_syntax == IMPLICIT, True)
        for keyword in _NUMBERS:
            _drop_nonsense(answer, keyword)
        for _ in answer:
            pass
    except UNREADABLE as error:
        raise Transient(f"{association.destination} answers the query in a way that cannot be read") from error
    return answer


def _drop_nonsense(answer: Dataset, keyword: str) -> None:
    """Take a number for not told where it is none: "5.5", "5\\7" or "many" of one series is no word on the others."""
    raw = answer.get_item(keyword)
    value = getattr(raw, "value", None) or b""
    if isinstance(raw, RawDataElement) and not (value.strip(b" \0").isdigit() and len(value) <= IS_BYTES):
        del answer[keyword]
