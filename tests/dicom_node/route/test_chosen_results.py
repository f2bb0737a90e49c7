"""What becomes of the result of a choice when a better series comes; and what shadow runs count for in a forecast."""

from __future__ import annotations

import dataclasses

from storage import views
from storage.facts.prediction import Prediction
from storage.facts.result import ResultObject
from storage.facts.study import Urgency
from storage.facts.task import Task
from storage.ledger import Ledger
from tests import builders
from tests.dicom_node.route.test_chooser import THICK, THIN, enact, receive, rule, runs, work


def said(task: Task, **changes: object) -> Prediction:
    """What the model said in a run."""
    algorithm = builders.algorithm(package="lung", version="1.0")
    made = builders.prediction(builders.slices(1), None)
    given = {"key": task.key, "study_uid": task.study_uid, "series_uid": task.series_uid, "algorithm": algorithm}
    return dataclasses.replace(made, **(given | changes))  # type: ignore[arg-type]


def report_of(prediction: Prediction) -> ResultObject:
    return ResultObject(
        sop_instance_uid=f"2.25.{abs(hash(prediction.key))}", sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
        transfer_syntax_uid="1.2.840.10008.1.2.1", series_uid="2.25.1", study_uid=prediction.study_uid,
        prediction_key=prediction.key, kind="sr", description="", blob="0" * 64, size=1,
    )  # fmt: skip


def keep(ledger: Ledger, prediction: Prediction) -> ResultObject:
    with ledger.begin("test") as tx:
        tx.predictions.save(prediction)
        tx.predictions.keep_objects([report_of(prediction)])
    return report_of(prediction)


def test_the_report_of_a_better_series_names_the_one_it_replaces_and_stands_alone(ledger: Ledger) -> None:
    enact(ledger, rule())
    receive(ledger, 0, THICK)
    work(ledger)
    [first] = runs(ledger)
    old = keep(ledger, said(first))
    receive(ledger, 1, THIN)
    work(ledger)
    [second] = runs(ledger)
    assert second.series_uid != first.series_uid

    with ledger.begin_reading() as tx:
        assert tx.predictions.predecessors(said(second)) == [old]
        assert tx.predictions.predecessors(said(first)) == []
    keep(ledger, said(second))
    with ledger.read() as session:
        assert [item.prediction.key for item in views.worklist(session)] == [second.key]


def test_a_shadow_run_counts_in_the_forecast_for_what_its_findings_claimed(ledger: Ledger) -> None:
    enact(ledger, rule(shadow=True))
    for number, claim in enumerate((Urgency.STAT, Urgency.ROUTINE)):
        receive(ledger, number, THIN, study=f"1.{number + 5}")
        work(ledger)
        [run] = runs(ledger)
        keep(ledger, said(run, urgency=Urgency.ROUTINE, claim=claim))
    with ledger.begin_reading() as tx:
        experience = tx.catalogue.experience()["lung"]
    assert (experience.results, experience.raised) == (2, 1)
