"""The DELIVER and COMMIT stages, and what is done with an archive's commitment report."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from pydicom.dataset import Dataset

from dicom_node.deliver import commitment
from dicom_node.deliver.destination import Destination
from dicom_node.deliver.sending import Sending
from dicom_node.deliver.standby import Make
from storage.facts.errors import Misconfigured, NodeError, Transient
from storage.facts.result import ResultObject
from storage.facts.task import Kind, Later, Next, Task
from storage.ledger import Ledger
from storage.stage import Done, Handler

log = logging.getLogger(__name__)

#: For a report on the association that asked. Archives that find it closed open one of their own, as most do anyway.
LINGER_SECONDS = 0.1
UNKNOWN_TRANSACTION = commitment.UNKNOWN_TRANSACTION


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A destination, and whether its word is asked for that it keeps what it got."""

    destination: Destination
    commitment: bool
    patience_seconds: float  #: for the commitment report


Routes = Mapping[str, Route]


def deliveries(prediction_key: str, destinations: Sequence[str]) -> tuple[Next, ...]:
    """The tasks that bring a prediction's objects to their destinations."""
    return tuple(
        Next(
            kind=Kind.DELIVER,
            key=f"{prediction_key}>{name}",
            payload={"prediction": prediction_key, "destination": name},
        )
        for name in destinations
    )


def deliver(ledger: Ledger, routes: Routes, actor: str, make: Make | None = None) -> Handler:
    """The DELIVER stage: sends what the destination has not acknowledged yet, in the form that it takes.

    ``make`` makes what stands for a kind that is refused; without it only what was made already can.
    """

    def work(task: Task) -> Done:
        route = _route(routes, task)
        sending = Sending(ledger, route.destination, task, actor, make)
        sent = sending.send_missing()
        payload = {**task.payload, "kinds": list(sending.kinds)}
        follow = (Next(kind=Kind.COMMIT, key=task.key, payload=payload),) if route.commitment else ()
        return Done(follow=follow, note={"destination": route.destination.name, "objects": sent})

    return Handler(work=work)


def commit(ledger: Ledger, routes: Routes, actor: str, make: Make | None = None) -> Handler:
    """The COMMIT stage: asks for commitment and waits for the report; what was not committed is sent again.

    A report may have come while the node was down, and few archives report twice: what was asked before this process
    began is asked again. What a report leaves out is asked again after ``patience_seconds``, as if none had come.
    """
    began = time.time()

    def work(task: Task) -> Done | Later:
        route = _route(routes, task)
        name, key = route.destination.name, str(task.payload["prediction"])
        sending = Sending(ledger, route.destination, task, actor, make)
        objects, missing = sending.objects(), sending.missing()
        with ledger.begin_reading() as tx:
            uncommitted = tx.predictions.uncommitted(key, name)
            asked_at = tx.predictions.awaited_commitment(task.key)
        if missing:
            number = sending.send_missing()
            raise Transient(f"{route.destination} did not keep {number} object(s): sent again, asking again")
        if not uncommitted:
            return Done(note={"destination": name, "objects": len(objects)})
        if asked_at is not None and asked_at < began:
            asked_at = None
        if asked_at is not None and asked_at + route.patience_seconds > time.time():
            return Later(at=asked_at + route.patience_seconds, why="waiting for the commitment report")
        if asked_at is not None:
            log.warning("%s: no commitment report came; asking again", route.destination)
        elif (until := _left_out_until(task, uncommitted, route)) > time.time():
            log.warning("%s: a commitment report left out %d objects", route.destination, len(uncommitted))
            return Later(at=until, why="the commitment report left out objects; they are asked for again")
        _ask(ledger, route, task, [o for o in objects if o.sop_instance_uid in uncommitted], actor)
        return Later(at=time.time() + route.patience_seconds, why="waiting for the commitment report")

    return Handler(work=work)


def _left_out_until(task: Task, uncommitted: Collection[str], route: Route) -> float:
    """When to ask again for what the last report said nothing of; 0 where it said something, or none came."""
    payload = task.payload
    if "answered" not in payload or not set(uncommitted).isdisjoint(payload["answered"]):
        return 0.0
    return float(payload["touched"]) + route.patience_seconds


def take_reports(ledger: Ledger, actor: str) -> Callable[[int, Dataset], int]:
    """What the SCP calls with an N-EVENT-REPORT; returns the DIMSE status of its answer."""

    def take(_event_type: int, information: Dataset) -> int:
        try:
            report = commitment.parse_report(information)
            known = _enter(ledger, report, actor)
        except NodeError as error:
            log.warning("a commitment report was not taken: %s", error)
            return UNKNOWN_TRANSACTION
        if not known:
            log.warning("a commitment report for an unknown transaction %s", report.transaction_uid)
        return 0x0000 if known else UNKNOWN_TRANSACTION

    return take


def _route(routes: Routes, task: Task) -> Route:
    name = str(task.payload["destination"])
    try:
        return routes[name]
    except KeyError:
        raise Misconfigured(
            f"destination {name!r} is not in node.toml (there: {', '.join(routes) or 'none'}): add it, restart the "
            "node, then `dicom-node tasks retry`"
        ) from None


def _ask(ledger: Ledger, route: Route, task: Task, objects: Sequence[ResultObject], actor: str) -> None:
    # The attempt grows with every claim: each request is a transaction of its own, known before a report can come.
    transaction = f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{task.key}#{task.attempt}').int}"
    with ledger.begin(actor) as tx:
        tx.predictions.request_commitment(transaction, task.key, route.destination.name)
    references = [
        commitment.Reference(sop_class_uid=o.sop_class_uid, sop_instance_uid=o.sop_instance_uid) for o in objects
    ]
    report = None
    try:
        report = commitment.request(
            route.destination, transaction, references, LINGER_SECONDS, lambda other: _enter(ledger, other, actor)
        )
    except Transient:
        with ledger.begin(actor) as tx:
            tx.predictions.withdraw_commitment(transaction)
        raise
    if report is not None:
        _enter(ledger, report, actor)


class _Over(Exception):
    """Nobody waits for a report any more."""


def _enter(ledger: Ledger, report: commitment.CommitReport, actor: str) -> bool:
    """Write down what the archive says, and let the waiting task look at it. False for an unknown transaction.

    Some archives report twice, and late. What was kept in the end is not taken for lost because an early report comes
    again: nobody would send it.
    """
    try:
        return _write(ledger, report, actor)
    except _Over:
        log.warning(
            "a commitment report on %s came late: what it calls failed is left as it is", report.transaction_uid
        )
        return _write(ledger, replace(report, failed=()), actor)


def _write(ledger: Ledger, report: commitment.CommitReport, actor: str) -> bool:
    answered = [*report.committed, *(uid for uid, _ in report.failed)]
    with ledger.begin(actor) as tx:
        key = tx.predictions.report_commitment(report.transaction_uid, report.committed, dict(report.failed))
        if key is None:
            return False
        now = time.time()
        waits = tx.queue.hasten(Kind.COMMIT, key, now, {"touched": now, "answered": answered})
        if report.failed and not waits:
            raise _Over
    return True
