"""A shadow run is recorded in full and leaves the node in no way: no delivery, no raised worklist entry."""

from __future__ import annotations

import pytest

from dicom_node.deliver.stage import deliveries
from dicom_node.results.stage import Afterwards, report
from dicom_node.route.header import header_of, slice_header
from dicom_node.worklist import priority
from storage.facts.arrival import Arrival
from storage.facts.study import Instance, Urgency
from storage.facts.task import Kind, Next, Task
from storage.ledger import Ledger
from storage.stage import Done
from tests import builders
from tests.dicom_node.results.making import NODE

AFTERWARDS = Afterwards(
    decide=priority.decider(research_may_raise=True), deliveries=deliveries, announce_from=Urgency.HIGH
)


def reported(ledger: Ledger, shadow: bool) -> tuple[Done, str]:
    """Report an urgent prediction; what follows, and the key of the prediction."""
    sources = builders.slices()
    prediction = builders.prediction(sources, urgency=Urgency.STAT, urgency_reason="bleeding")
    arrivals = []
    for source in sources:
        path = ledger.data / f"{source.SOPInstanceUID}.dcm"
        source.save_as(path, enforce_file_format=True)
        instance = Instance(
            sop_instance_uid=str(source.SOPInstanceUID), sop_class_uid=str(source.SOPClassUID),
            transfer_syntax_uid="1.2.840.10008.1.2.1", series_uid=prediction.series_uid,
            study_uid=prediction.study_uid, path=path.name, size=1, digest="0",
            header=slice_header(header_of(source)),
        )  # fmt: skip
        arrivals.append(
            Arrival(instance=instance, association=None, calling_ae="CT1", called_ae="NODE", received_at=1.0)
        )
    payload = {"destinations": ["pacs"], "shadow": shadow, "asked": 0}
    with ledger.begin("test") as tx:
        tx.studies.record(arrivals)
        tx.studies.complete(prediction.series_uid, header_of(sources[0]))
        tx.predictions.save(prediction)
        tx.queue.enqueue(
            Next(
                kind=Kind.REPORT, key=prediction.key, payload=payload, series_uid=prediction.series_uid,
                study_uid=prediction.study_uid,
            )
        )  # fmt: skip
    with ledger.begin("test") as tx:
        task = tx.queue.claim([Kind.REPORT], 60.0)
    assert isinstance(task, Task)
    done = report(ledger, NODE, AFTERWARDS).work(task)
    assert isinstance(done, Done)
    with ledger.begin("test") as tx:
        assert done.record is not None
        done.record(tx)
    return done, prediction.key


@pytest.mark.parametrize("shadow", [False, True])
def test_what_a_shadow_rule_asked_for_is_neither_delivered_nor_raised(ledger: Ledger, shadow: bool) -> None:
    done, key = reported(ledger, shadow)

    assert {item.kind for item in done.follow} == (set() if shadow else {Kind.DELIVER, Kind.ANNOUNCE})
    with ledger.begin_reading() as tx:
        kept = tx.predictions.load(key)
        made = tx.predictions.objects(key)
    assert kept is not None
    assert made, "what would have been sent is there to look at"
    assert kept.prediction.urgency is (Urgency.ROUTINE if shadow else Urgency.STAT)
    if shadow:
        assert kept.prediction.urgency_reason.startswith(
            "a shadow rule asked for it, so that nothing is raised; it would be STAT: "
        )
