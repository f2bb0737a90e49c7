"""Reads what peers say of objects: the bytes of MPPS, Instance Availability Notification and UPS as a Notice."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping

from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode

from dicom_node.receive.contexts import AVAILABILITY, PERFORMED_STEP, UPS_EVENT, UPS_PUSH
from dicom_node.receive.events import Noticed
from dicom_node.receive.notices import (
    DUPLICATE,
    INVALID_VALUE,
    NO_SUCH_CLASS,
    NO_SUCH_INSTANCE,
    NO_SUCH_STEP,
    NOT_BEGUN,
    NOT_SCHEDULED,
    OVER,
    PROCESSING_FAILURE,
    Refused,
)
from dicom_node.unreadable import UNREADABLE
from storage.facts.arrival import (
    AVAILABLE,
    CANCELED,
    COMPLETED,
    DISCONTINUED,
    IN_PROGRESS,
    INCOMPLETE,
    READY,
    UNAVAILABLE,
    Notice,
    NoticeKind,
)

#: Reads a data set that was decoded, given the state that the notice had before. Raises Refused.
_Reader = Callable[[Noticed, str | None, Dataset], Notice]


def read(event: Noticed, before: str | None) -> Notice:
    """What the bytes say, given the state that the notice had before. Raises Refused."""
    reader = _READERS.get(event.sop_class_uid)
    if reader is None:
        raise Refused(NO_SUCH_CLASS, "it is neither a procedure step nor an availability notification")
    if event.created and before is not None:
        raise Refused(DUPLICATE, "it was created before")
    try:
        return reader(event, before, decode(io.BytesIO(event.data), event.implicit, True))
    except UNREADABLE as error:
        raise Refused(PROCESSING_FAILURE, f"it cannot be read ({type(error).__name__})") from error


def _availability(event: Noticed, _before: str | None, dataset: Dataset) -> Notice:
    """PS3.3 C.4.23. Of a series of which an archive lacks something it does not say when the rest is all."""
    if not event.created:
        raise Refused(NO_SUCH_CLASS, "an availability notification is created, never changed")
    partial = {
        _text(one, "SeriesInstanceUID")
        for one in dataset.get("ReferencedSeriesSequence") or ()
        for item in one.get("ReferencedSOPSequence") or ()
        if _text(item, "InstanceAvailability") == "UNAVAILABLE"
    }
    named = _referenced(dataset, "ReferencedSeriesSequence", "ReferencedSOPSequence")
    objects = {uid: place for uid, place in named if place not in partial}
    return _notice(event, dataset, NoticeKind.IAN, AVAILABLE, objects)


def _performed_step(event: Noticed, before: str | None, dataset: Dataset) -> Notice:
    """PS3.3 C.4.13 and C.4.14."""
    if not event.created and before is None:
        raise Refused(NO_SUCH_INSTANCE, "it was never created")
    if not event.created and before != IN_PROGRESS:
        raise Refused(PROCESSING_FAILURE, "it is over and may no longer be updated (PS3.4 F.7.2.2)")
    state = _text(dataset, "PerformedProcedureStepStatus") or before or ""
    if state not in ((IN_PROGRESS,) if event.created else (IN_PROGRESS, COMPLETED, DISCONTINUED)):
        raise Refused(INVALID_VALUE, "its Performed Procedure Step Status is not one that it may have now")
    inner = ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence")
    objects = _referenced(dataset, "PerformedSeriesSequence", *inner)
    return _notice(event, dataset, NoticeKind.MPPS, state, dict(objects))


def _workitem(event: Noticed, before: str | None, dataset: Dataset) -> Notice:
    """PS3.3 C.30.3: Input Readiness State, and the input, which a report of its state does not repeat."""
    step, readiness = _text(dataset, "ProcedureStepState"), _text(dataset, "InputReadinessState")
    if event.created and step != "SCHEDULED":
        raise Refused(NOT_SCHEDULED, "a step is created with the Procedure Step State SCHEDULED")
    named = dict(_input(dataset))
    if not event.created and before is None and not (named and event.sop_class_uid == UPS_EVENT):
        status = NO_SUCH_INSTANCE if event.sop_class_uid == UPS_EVENT else NO_SUCH_STEP
        raise Refused(status, "it was never created here, so what its input is, is not known")
    if not event.created and event.sop_class_uid == UPS_PUSH:
        _check_update(dataset, before)
    # An earlier report may come late: a cancelled step stays cancelled.
    state = CANCELED if CANCELED in (step, before) else readiness or before or ""
    if state not in (READY, INCOMPLETE, UNAVAILABLE, CANCELED):
        raise Refused(INVALID_VALUE, "its Input Readiness State is none of READY, INCOMPLETE, UNAVAILABLE")
    wholes = frozenset(uid for uid, place in named.items() if uid == place)
    objects = {uid: place for uid, place in named.items() if uid != place}
    return _notice(event, dataset, NoticeKind.UPS, state, objects, wholes)


def _check_update(dataset: Dataset, before: str | None) -> None:
    """An N-SET of a step that nobody performs (PS3.4 CC.2.6.3). Raises Refused."""
    if before == CANCELED:
        raise Refused(OVER, "it is cancelled and may no longer be updated")
    if _text(dataset, "TransactionUID"):
        raise Refused(NOT_BEGUN, "nobody performs it, so there is no transaction")
    if _text(dataset, "ProcedureStepState") not in ("", "SCHEDULED"):
        raise Refused(INVALID_VALUE, "its Procedure Step State is changed by N-ACTION, not by N-SET")


_READERS: dict[str, _Reader] = {
    PERFORMED_STEP: _performed_step,
    AVAILABILITY: _availability,
    UPS_PUSH: _workitem,
    UPS_EVENT: _workitem,
}


def _notice(
    event: Noticed,
    dataset: Dataset,
    kind: NoticeKind,
    state: str,
    objects: Mapping[str, str],
    wholes: frozenset[str] = frozenset(),
) -> Notice:
    return Notice(
        sop_instance_uid=event.sop_instance_uid,
        kind=kind,
        state=state,
        peer=event.peer,
        study_uid=_study(dataset),
        modality=_text(dataset, "Modality"),
        objects=objects,
        wholes=wholes,
    )


def _study(dataset: Dataset) -> str:
    """The study, which an MPPS names in its scheduled step (PS3.3 C.4.13), an IAN by itself, a UPS in its input."""
    uid = dataset.get("StudyInstanceUID")
    for sequence in ("ScheduledStepAttributesSequence", "InputInformationSequence"):
        for item in dataset.get(sequence) or ():
            uid = uid or item.get("StudyInstanceUID")
    return str(uid or "")


def _referenced(dataset: Dataset, outer: str, *inner: str) -> Iterator[tuple[str, str]]:
    """Each object that is named, with its series."""
    for one in dataset.get(outer) or ():
        series_uid = _text(one, "SeriesInstanceUID")
        for keyword in inner:
            for item in one.get(keyword) or ():
                uid = _text(item, "ReferencedSOPInstanceUID")
                if uid and series_uid:
                    yield uid, series_uid


def _input(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Each object of the input with its series; a series or a study without objects stands for all that it has.

    PS3.3 Table 10-3b asks for objects, but workflow managers that do not know them name the series, or the study.
    """
    for item in dataset.get("InputInformationSequence") or ():
        place = _text(item, "SeriesInstanceUID") or _text(item, "StudyInstanceUID")
        uids = [_text(one, "ReferencedSOPInstanceUID") for one in item.get("ReferencedSOPSequence") or ()]
        if _text(item, "SeriesInstanceUID") and any(uids):
            yield from ((uid, place) for uid in uids if uid)
        elif place:
            yield place, place


def _text(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword, "") or "").strip()
