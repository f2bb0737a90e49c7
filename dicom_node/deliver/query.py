"""Asks a PACS what it has of a study, and to send again what is missing here (PS3.4 Annex C, Study Root)."""

from __future__ import annotations

import datetime
import io
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.dsutils import decode, encode

from dicom_node.deliver import command
from dicom_node.deliver.association import EXPLICIT, IMPLICIT, Association, Body, Context, Proposal
from dicom_node.deliver.command import Message
from dicom_node.deliver.destination import Destination
from dicom_node.deliver.refusal import meaning
from dicom_node.unreadable import UNREADABLE
from storage.facts.errors import Rejected, Transient

log = logging.getLogger(__name__)

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
_PENDING = frozenset({0xFF00, 0xFF01})
_COMPLETED, _FAILED = 0x1021, 0x1022  #: Number of Completed and of Failed Sub-operations
MOST_ANSWERS = 100_000
MOST_OBJECTS = 200  #: that are asked for by their UIDs: a list of UIDs in explicit VR ends at 64 KiB
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
        self._association = _associated(destination, FIND)

    def __enter__(self) -> Inquiry:
        self._association.__enter__()
        try:
            self._context = _context(self._association, FIND)
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
        for answer in self._find(_identifier("SERIES", study_uid, *_SERIES_KEYS)):
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
        image = _identifier("IMAGE", study_uid, "SOPInstanceUID")
        image.SeriesInstanceUID = UID(series_uid)
        return frozenset(str(answer.get("SOPInstanceUID", "") or "") for answer in self._find(image)) - {""}

    def _find(self, wanted: Dataset) -> Iterator[Dataset]:
        return _find(self._association, self._context, wanted)


def _number(value: object) -> int | None:
    """An IS as an int; None where it is empty, or no number of objects: they are counted then."""
    text = "" if value is None else str(value).strip()
    return int(text) if text.isascii() and text.isdigit() else None


def fetch(
    destination: Destination, study_uid: str, series_uid: str, to_ae: str, here: Collection[str]
) -> tuple[int, int]:
    """Have the PACS send to ``to_ae`` what lacks of a series, of which the objects ``here`` need not come again.

    These alone where it tells them, and they are few; else the series. Returns how many objects it sent and how many it
    could not. Raises as ``retrieve``.
    """
    lacking = _few_lacking(destination, study_uid, series_uid, here) if here else ()
    if lacking:
        try:
            completed, failed = retrieve(destination, study_uid, series_uid, to_ae, lacking)
        except Transient as error:
            log.info("series %s: %s; the whole series is asked for", series_uid, error)
        else:
            if completed + failed >= len(lacking):
                return completed, failed
            log.info("series %s: %s did not send each object by its UID: all are asked for", series_uid, destination)
    return retrieve(destination, study_uid, series_uid, to_ae)


def _few_lacking(destination: Destination, study_uid: str, series_uid: str, here: Collection[str]) -> Sequence[str]:
    """What the PACS has of a series beside ``here``; nothing where it does not tell, or the series is as well sent."""
    try:
        with Inquiry(destination) as inquiry:
            there = inquiry.objects(study_uid, series_uid)
    except (Rejected, Transient) as error:
        log.info("series %s: its objects cannot be asked for: %s", series_uid, error)
        return ()
    lacking = sorted(there.difference(here))
    return lacking if len(lacking) <= MOST_OBJECTS and 2 * len(lacking) < len(there) else ()


def retrieve(
    destination: Destination, study_uid: str, series_uid: str, to_ae: str, objects: Sequence[str] = ()
) -> tuple[int, int]:
    """Have the PACS send a series, or some objects of it, to ``to_ae`` (C-MOVE).

    Returns how many objects it sent and how many it could not; 0 and 0 where it does not tell.
    Raises Rejected when it does not offer C-MOVE or does not know that AE title, Transient when it cannot be asked.
    """
    with _associated(destination, MOVE) as association:
        context = _context(association, MOVE)
        wanted = _identifier("IMAGE" if objects else "SERIES", study_uid)
        wanted.SeriesInstanceUID = UID(series_uid)
        if objects:
            wanted.SOPInstanceUID = [UID(uid) for uid in objects]  # list of UID matching, PS3.4 C.2.2.2.2
        request = _request(0x0021, MOVE) | {command.MOVE_DESTINATION: to_ae}
        message_id = association.send(context, request, _body(wanted, context))
        for message in _answers(association, request, message_id):
            status = message.number(command.STATUS) or 0
            if status in _PENDING:
                continue
            if status == 0xA801:
                raise Rejected(f"{destination} does not know the AE title {to_ae}: add it there as a C-MOVE target")
            if status != 0x0000 and status & 0xF000 != 0xB000:
                raise Transient(f"{destination} did not send series {series_uid}: {meaning(status)}")
            return message.number(_COMPLETED) or 0, message.number(_FAILED) or 0
    raise Transient(f"{destination} ended the retrieval without an answer")


def _associated(destination: Destination, sop_class: str) -> Association:
    return Association(destination, [Proposal(abstract_syntax=sop_class, transfer_syntaxes=(EXPLICIT, IMPLICIT))])


def _context(association: Association, sop_class: str) -> Context:
    context = association.context(sop_class)
    if context is None:
        what = "C-FIND" if sop_class == FIND else "C-MOVE"
        raise Rejected(f"{association.destination} does not offer {what} (Study Root) to this node: allow it there")
    return context


def _identifier(level: str, study_uid: str, *empty: str) -> Dataset:
    dataset = Dataset()
    dataset.QueryRetrieveLevel = level
    dataset.StudyInstanceUID = UID(study_uid)
    for keyword in empty:
        setattr(dataset, keyword, None)
    return dataset


def _request(field: int, sop_class: str) -> dict[int, int | str]:
    return {command.COMMAND_FIELD: field, command.AFFECTED_CLASS: sop_class, command.PRIORITY: 0}


def _body(dataset: Dataset, context: Context) -> Body:
    raw = encode(dataset, context.transfer_syntax == IMPLICIT, True)
    if raw is None:
        raise Rejected("the query cannot be encoded: a UID is malformed")
    return Body.of(raw)


def _find(association: Association, context: Context, wanted: Dataset) -> Iterator[Dataset]:
    request = _request(0x0020, FIND)
    message_id = association.send(context, request, _body(wanted, context))
    for number, message in enumerate(_answers(association, request, message_id)):
        status = message.number(command.STATUS) or 0
        if status not in _PENDING:
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


def _answers(association: Association, request: Mapping[int, int | str], message_id: int) -> Iterator[Message]:
    """Every response to a request, until the caller has had the last."""
    while True:
        message = association.receive(association.destination.answer_seconds)
        if message is None:
            raise Transient(f"{association.destination} released the association instead of answering")
        association.check_answer(message, request, message_id)
        yield message
