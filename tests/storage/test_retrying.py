"""A dead letter that is tried again: what it says then counts. And numbers that a database does not know."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from storage import views
from storage.facts.errors import Rejected
from storage.facts.prediction import SOFTWARE_FAILURE, Code, Measurement, Prediction, Reason, Status
from storage.facts.result import ResultObject
from storage.facts.study import Urgency
from storage.facts.task import Kind, Next, Task
from storage.ledger import Ledger, Transaction
from storage.stage import Done, Handler, Stage
from tests.storage.predicting import prediction_of
from tests.storage.series import arrive

STUDY, SERIES = "1.2.1", "1.2.1.1"
KEY = f"{SERIES}/1/p@1"


def stage(ledger: Ledger, handlers: dict[Kind, Handler]) -> Stage:
    return Stage(ledger=ledger, handlers=handlers, actor="test", stop=threading.Event())


def drain(ledger: Ledger, handlers: dict[Kind, Handler]) -> None:
    while stage(ledger, handlers).step():
        pass


def saving(prediction: Prediction) -> Done:
    def record(tx: Transaction) -> None:
        tx.predictions.save(prediction)

    return Done(follow=(Next(kind=Kind.REPORT, key=prediction.key),), record=record)


def given_up(task: Task, why: str) -> Done:
    reason = Reason(code=SOFTWARE_FAILURE, text=why)
    return saving(replace(prediction_of(STUDY), key=task.key, status=Status.FAILED, reason=reason))


def reporting(ledger: Ledger, told: list[str]) -> Callable[[Task], Done]:
    """Makes one object of each prediction, named after how the run ended."""

    def work(task: Task) -> Done:
        with ledger.begin_reading() as tx:
            kept = tx.predictions.load(task.key)
        assert kept is not None
        status = kept.prediction.status.value
        told.append(status)
        made = ResultObject(
            sop_instance_uid=f"1.9.{len(told)}", sop_class_uid="1.2", transfer_syntax_uid="1.2", series_uid="1.9",
            study_uid=STUDY, prediction_key=task.key, kind="sr", description=status, blob="ab", size=1,
        )  # fmt: skip

        def record(tx: Transaction) -> None:
            tx.predictions.keep_objects([made])
            tx.predictions.record_workitem("1.8.1", task.key, "worklist", Urgency.STAT)

        return Done(record=record)

    return work


def failing_once() -> Callable[[Task], Done]:
    """An INFER stage that is refused at first, and succeeds when it is tried again."""
    answers = iter([Rejected("the weights are not there"), None])

    def infer(_task: Task) -> Done:
        answer = next(answers)
        if answer is not None:
            raise answer
        return saving(prediction_of(STUDY))

    return infer


def test_the_result_of_a_run_that_was_given_up_and_tried_again_is_reported(ledger: Ledger) -> None:
    told: list[str] = []
    infer = failing_once()
    handlers = {
        Kind.INFER: Handler(work=infer, bury=given_up),
        Kind.REPORT: Handler(work=reporting(ledger, told)),
    }
    with ledger.begin("test") as tx:
        arrive(tx, SERIES, STUDY)
        tx.queue.enqueue(Next(kind=Kind.INFER, key=KEY, study_uid=STUDY, series_uid=SERIES))
    drain(ledger, handlers)
    with ledger.read() as session:
        dead = next(t for t in views.tasks(session) if t.kind == Kind.INFER)
    with ledger.begin("operator") as tx:
        tx.queue.revive(dead.id)
    drain(ledger, handlers)

    assert told == ["failed", "succeeded"]
    with ledger.begin_reading() as tx:
        kept = tx.predictions.load(KEY)
        assert kept is not None
        assert kept.prediction.status is Status.SUCCEEDED
        assert [one.description for one in tx.predictions.objects(KEY)] == ["succeeded"]
        assert [one.description for one in tx.predictions.predecessors(kept.prediction)] == ["failed"]
    assert ledger.verify().faults == ()


def test_a_dead_letter_is_not_revived_while_what_it_left_behind_is_at_work(ledger: Ledger) -> None:
    def refused(_task: Task) -> Done:
        raise Rejected("the weights are not there")

    with ledger.begin("test") as tx:
        arrive(tx, SERIES, STUDY)
        tx.queue.enqueue(Next(kind=Kind.INFER, key=KEY, study_uid=STUDY, series_uid=SERIES))
    drain(ledger, {Kind.INFER: Handler(work=refused, bury=given_up)})
    with ledger.begin("stages") as tx:
        assert tx.queue.claim([Kind.REPORT], 30.0) is not None

    with pytest.raises(Rejected, match="at work"), ledger.begin("operator") as tx:
        tx.queue.revive(1)


@pytest.mark.parametrize("ended", ["dead", "waiting"])
def test_what_a_failed_run_left_behind_is_over_once_the_run_is_tried_again(ledger: Ledger, ended: str) -> None:
    """A report of the failure that is dead, or that has not begun: neither may be taken for the new one's."""
    told: list[str] = []
    infer = failing_once()

    def refused(_task: Task) -> Done:
        raise Rejected("no template")

    with ledger.begin("test") as tx:
        arrive(tx, SERIES, STUDY)
        tx.queue.enqueue(Next(kind=Kind.INFER, key=KEY, study_uid=STUDY, series_uid=SERIES))
    drain(ledger, {Kind.INFER: Handler(work=infer, bury=given_up)})
    if ended == "dead":
        drain(ledger, {Kind.REPORT: Handler(work=refused)})
    with ledger.begin("operator") as tx:
        tx.queue.revive(1)
    drain(ledger, {Kind.REPORT: Handler(work=reporting(ledger, told))})
    drain(ledger, {Kind.INFER: Handler(work=infer), Kind.REPORT: Handler(work=reporting(ledger, told))})

    assert told == ["succeeded"]
    with ledger.read() as session:
        found = {(t.kind, t.key): (t.state, t.reason) for t in views.tasks(session)}
    assert found[Kind.REPORT, f"{KEY}#2"] == ("cancelled", "overtaken: task 1 is tried again")
    assert {state for state, _ in found.values()} == {"done", "cancelled"}
    assert ledger.verify().faults == ()


def test_a_number_that_is_none_is_kept_by_every_database(ledger: Ledger) -> None:
    """PostgreSQL takes no NaN in JSON: a run whose one number could not be computed would be lost with all others."""
    unit = Code(value="mm", scheme="UCUM", meaning="millimeter")
    name = Code(value="81827009", scheme="SCT", meaning="Diameter")
    values = (math.nan, math.inf, -math.inf, 1.5)
    given = replace(
        prediction_of(STUDY), measurements=tuple(Measurement(name=name, value=value, unit=unit) for value in values)
    )
    with ledger.begin("test") as tx:
        arrive(tx, SERIES, STUDY)
        tx.predictions.save(given)

    with ledger.begin_reading() as tx:
        kept = tx.predictions.load(given.key)
    assert kept is not None
    found = [one.value for one in kept.prediction.measurements]
    assert math.isnan(found[0])
    assert found[1:] == [math.inf, -math.inf, 1.5]
