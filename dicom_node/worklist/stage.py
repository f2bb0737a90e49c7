"""The ANNOUNCE stage: raises an urgent study in the reading worklist."""

from __future__ import annotations

import uuid

from dicom_node.deliver.destination import Destination
from dicom_node.worklist.ups import Call, Input, create, workitem
from storage.facts.errors import Rejected
from storage.facts.study import Urgency
from storage.facts.task import Task
from storage.ledger import Ledger, Transaction
from storage.stage import Done, Handler


def announce(ledger: Ledger, destination: Destination) -> Handler:
    """One workitem for each urgent prediction, under a UID that a repetition finds again."""

    def work(task: Task) -> Done:
        with ledger.begin_reading() as tx:
            kept = tx.predictions.load(task.key)
            series = tx.studies.series(task.series_uid or "")
            instances = tx.studies.instances(task.series_uid or "")
        if kept is None or series is None:
            raise Rejected(f"there is no prediction {task.key}")
        urgency = Urgency(int(task.payload["urgency"]))
        call = Call(
            urgency=urgency,
            label=f"Read first: {kept.prediction.algorithm.name}",
            reason=str(task.payload["reason"]),
            at=kept.made_at,
        )
        inputs = Input(
            study_uid=series.study_uid,
            series_uid=series.series_uid,
            retrieve_ae=series.calling_ae,
            references=tuple((i.sop_class_uid, i.sop_instance_uid) for i in instances),
        )
        uid = f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'workitem {task.key}').int}"
        new = create(destination, uid, workitem(call, series.header, (inputs,)))

        def record(tx: Transaction) -> None:
            tx.predictions.record_workitem(uid, task.key, destination.name, urgency)

        return Done(record=record, note={"workitem": uid, "new": new})

    return Handler(work=work)
