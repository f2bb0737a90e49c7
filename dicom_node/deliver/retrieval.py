"""Has a PACS send again what is missing here: by C-MOVE to this node's port, or by C-GET on the association that asks.

PS3.4 Annex C, Study Root.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_node.deliver import command
from dicom_node.deliver.association import Association, Context, Proposal
from dicom_node.deliver.command import Message
from dicom_node.deliver.destination import Destination
from dicom_node.deliver.pieces import Write
from dicom_node.deliver.query import Inquiry
from dicom_node.deliver.refusal import meaning
from dicom_node.deliver.study_root import (
    GET,
    MOVE,
    PENDING,
    answers,
    associated,
    body_of,
    context_of,
    identifier,
    proposal,
    request_of,
)
from storage.facts.errors import Rejected, Transient

log = logging.getLogger(__name__)

MOST_OBJECTS = 200  #: that are asked for by their UIDs: a list of UIDs in explicit VR ends at 64 KiB

_COMPLETED, _FAILED = 0x1021, 0x1022  #: Number of Completed and of Failed Sub-operations
_UNKNOWN_DESTINATION = 0xA801
_UID = re.compile(r"[0-9.]{1,64}")

#: Has a PACS send a study's series, or those of its objects that are named: how many it sent, and could not.
Retrieve = Callable[[str, str, Sequence[str]], tuple[int, int]]


class Answer(Protocol):
    """What the PACS is told of an object."""

    @property
    def code(self) -> int:
        """The status (PS3.4 B.2.3)."""

    @property
    def comment(self) -> str:
        """Error Comment (0000,0902)."""


class Taking(Protocol):
    """Takes one object. ``tell`` follows its answer, whatever became of it; ``abort`` replaces both."""

    def write(self, pieces: Sequence[memoryview]) -> None:
        """Take bytes of the data set."""

    def close(self) -> Answer:
        """All bytes are here. After 0x0000 the object is durable."""

    def tell(self) -> None:
        """Say what became of it."""

    def abort(self) -> None:
        """Leave nothing behind."""


class Storage(Protocol):
    """Where the objects of a C-GET go."""

    def offer(self, sop_classes: Collection[str]) -> Sequence[Proposal]:
        """At most 127 presentation contexts in which they may come; of these SOP classes, where any are known."""

    def begin(self, context: Context, sop_class: str, sop_instance: str) -> Taking:
        """Take one object."""


def fetch(
    destination: Destination, study_uid: str, series_uid: str, here: Collection[str], retrieve: Retrieve
) -> tuple[int, int]:
    """Have the PACS send what lacks of a series, of which the objects ``here`` need not come again.

    These alone where it tells them, and they are few; else the series. Returns how many objects it sent and how many it
    could not. Raises as ``retrieve``.
    """
    lacking = _few_lacking(destination, study_uid, series_uid, here) if here else ()
    if lacking:
        try:
            completed, failed = retrieve(study_uid, series_uid, lacking)
        except Transient as error:
            log.info("series %s: %s; the whole series is asked for", series_uid, error)
        else:
            if completed + failed >= len(lacking):
                return completed, failed
            log.info("series %s: %s did not send each object by its UID: all are asked for", series_uid, destination)
    return retrieve(study_uid, series_uid, ())


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


def move(
    destination: Destination, to_ae: str, study_uid: str, series_uid: str, objects: Sequence[str] = ()
) -> tuple[int, int]:
    """Have the PACS send a series, or some objects of it, to ``to_ae`` (C-MOVE).

    Returns how many objects it sent and how many it could not; 0 and 0 where it does not tell.
    Raises Rejected when it does not offer C-MOVE or does not know that AE title, Transient when it cannot be asked.
    """
    with associated(destination, MOVE) as association:
        context = context_of(association, MOVE)
        request = request_of(MOVE) | {command.MOVE_DESTINATION: to_ae}
        wanted = body_of(_wanted(study_uid, series_uid, objects), context)
        message_id = association.send(context, request, wanted)
        for message in answers(association, request, message_id):
            status = message.number(command.STATUS) or 0
            if status in PENDING:
                continue
            if status == _UNKNOWN_DESTINATION:
                raise Rejected(f"{destination} does not know the AE title {to_ae}: add it there as a C-MOVE target, "
                               'or set fetch_by = "C-GET" for this peer')  # fmt: skip
            _check(destination, series_uid, status)
            return message.number(_COMPLETED) or 0, message.number(_FAILED) or 0
    raise Transient(f"{destination} ended the retrieval without an answer")


def get(
    destination: Destination, storage: Storage, study_uid: str, series_uid: str, objects: Sequence[str] = ()
) -> tuple[int, int]:
    """Have the PACS send a series, or some objects of it, on this association (C-GET, PS3.4 C.4.3).

    Returns how many objects were stored and how many were not. What came before an error stays.
    Raises Rejected when it does not offer C-GET, Transient when it cannot be asked.
    """
    offered = storage.offer(_sop_classes(destination, study_uid, series_uid))
    with Association(destination, [proposal(GET), *offered]) as association:
        context = context_of(association, GET)
        request = request_of(GET)
        wanted = body_of(_wanted(study_uid, series_uid, objects), context)
        coming = _Coming(association, storage)
        message_id = association.send(context, request, wanted)
        try:
            while (message := association.receive(destination.answer_seconds, coming.begin)) is not None:
                if message.number(command.COMMAND_FIELD) == command.C_STORE_RQ:
                    coming.answer(message)
                    continue
                association.check_answer(message, request, message_id)
                status = message.number(command.STATUS) or 0
                if status not in PENDING:
                    _check(destination, series_uid, status)
                    return coming.stored, max(message.number(_FAILED) or 0, coming.refused)
        finally:
            coming.abort()
    raise Transient(f"{destination} released the association in the middle of a retrieval: look into its log")


def _wanted(study_uid: str, series_uid: str, objects: Sequence[str]) -> Dataset:
    wanted = identifier("IMAGE" if objects else "SERIES", study_uid)
    wanted.SeriesInstanceUID = UID(series_uid)
    if objects:
        wanted.SOPInstanceUID = [UID(uid) for uid in objects]  # list of UID matching, PS3.4 C.2.2.2.2
    return wanted


def _check(destination: Destination, series_uid: str, status: int) -> None:
    """Raises Transient for the status of a retrieval that failed as a whole."""
    if status != 0x0000 and status & 0xF000 != 0xB000:
        raise Transient(f"{destination} did not send series {series_uid}: {meaning(status)}")


def _sop_classes(destination: Destination, study_uid: str, series_uid: str) -> frozenset[str]:
    """The SOP classes of a series; none where the PACS does not tell, as it need not (PS3.4 Table C.6-4)."""
    try:
        with Inquiry(destination) as inquiry:
            return inquiry.sop_classes(study_uid, series_uid)
    except (Rejected, Transient) as error:
        log.info("series %s: its SOP classes cannot be asked for: %s", series_uid, error)
        return frozenset()


class _Coming:
    """The C-STORE sub-operations of a C-GET, one at a time."""

    def __init__(self, association: Association, storage: Storage) -> None:
        self._association, self._storage = association, storage
        self._contexts = {context.context_id: context for context in association.accepted}
        self._taking: Taking | None = None
        self.stored = self.refused = 0

    def begin(self, message: Message) -> Write | None:
        """See Begin. Raises Transient for a request that cannot be answered."""
        if message.number(command.COMMAND_FIELD) != command.C_STORE_RQ:
            return None
        taking = self._taking = self._begin(message)
        return lambda piece: taking.write([piece])

    def answer(self, message: Message) -> None:
        """The object is whole: say what became of it."""
        taking = self._taking or self._begin(message)  # without a data set, begin was not asked
        self._taking = None
        status = taking.close()
        said = {command.COMMENT: status.comment} if status.comment else {}
        response: dict[int, int | str] = {
            command.COMMAND_FIELD: command.STORED,
            command.ANSWERS: message.number(command.MESSAGE_ID) or 0,
            command.AFFECTED_CLASS: message.text(command.AFFECTED_CLASS),
            command.AFFECTED_INSTANCE: message.text(command.AFFECTED_INSTANCE),
            command.STATUS: status.code,
            **said,
        }
        try:
            self._association.send(self._contexts[message.context_id], response)
        finally:
            taking.tell()
        if status.code:
            self.refused += 1
        else:
            self.stored += 1

    def abort(self) -> None:
        """The association ends; harmless between two objects."""
        if self._taking is not None:
            self._taking.abort()
            self._taking = None

    def _begin(self, message: Message) -> Taking:
        context = self._contexts.get(message.context_id)
        sop_class, sop_instance = (message.text(n) for n in (command.AFFECTED_CLASS, command.AFFECTED_INSTANCE))
        if context is None or message.number(command.MESSAGE_ID) is None:
            raise Transient(f"{self._association.destination} sends an object out of turn: look into its log")
        if not _UID.fullmatch(sop_class) or not _UID.fullmatch(sop_instance):
            raise Transient(f"{self._association.destination} sends an object without a UID: look into its log")
        return self._storage.begin(context, sop_class, sop_instance)
