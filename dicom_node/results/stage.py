"""The REPORT stage: makes SR and SEG of a prediction, checks them, and has them delivered."""

from __future__ import annotations

import dataclasses
import datetime
import io
import logging
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset

from dicom_node.results.document import Reference
from dicom_node.results.identity import NodeIdentity
from dicom_node.results.report import Composed, compose
from storage.facts.errors import Rejected
from storage.facts.prediction import Code, Mask, Prediction, Reason, Status
from storage.facts.result import ResultObject
from storage.facts.study import MISSING, Header, Instance, Urgency
from storage.facts.task import Kind, Next, Task
from storage.ledger import Ledger, Transaction
from storage.stage import Done, Handler

log = logging.getLogger(__name__)

SOFTWARE_FAILURE = Code(value="111218", scheme="DCM", meaning="Software failure")

#: The urgency of a result and why, from the prediction, the source's header and the urgency of the rules.
Decide = Callable[[Prediction, Header, Urgency], tuple[Urgency, str]]
#: The tasks that bring a prediction's objects to destinations.
Deliveries = Callable[[str, Sequence[str]], tuple[Next, ...]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Afterwards:
    """What follows a report."""

    decide: Decide
    deliveries: Deliveries
    announce_from: Urgency | None  #: least urgency that is raised in the worklist; None: no worklist is configured


def report(ledger: Ledger, node: NodeIdentity, afterwards: Afterwards) -> Handler:
    """The REPORT stage. Making the objects again gives the same bytes, so that a crash doubles nothing."""

    def work(task: Task) -> Done:
        with ledger.begin_reading() as tx:
            kept = tx.predictions.load(task.key)
            instances = tx.studies.instances(task.series_uid or "")
            series = tx.studies.series(task.series_uid or "")
            earlier = tx.predictions.predecessors(kept.prediction) if kept else []
            made = bool(tx.predictions.objects(task.key))
        if kept is None or series is None:
            raise Rejected(f"there is no prediction {task.key}")
        urgency, why = kept.prediction.urgency, kept.prediction.urgency_reason
        if not made:  # what was once written into objects stays, whatever the policy is now
            asked = Urgency(int(task.payload.get("asked", Urgency.ROUTINE)))
            urgency, why = afterwards.decide(kept.prediction, series.header, asked)
        warnings = (*kept.prediction.warnings, *_limitations(series.header))
        prediction = dataclasses.replace(kept.prediction, urgency=urgency, urgency_reason=why, warnings=warnings)
        made_at = datetime.datetime.fromtimestamp(kept.made_at).astimezone()
        sources = _sources(ledger.data, prediction, instances)
        replaced = [_reference(o) for o in earlier if o.kind == "sr"]
        fault = ""
        try:
            composed = compose(prediction, _mask(ledger, prediction.mask), sources, node, made_at, replaced)
        except Rejected as error:
            # The result cannot be said in DICOM. That must be said, too: no study ends in silence.
            fault = str(error)
            log.error("prediction %s is reported as failed: %s", task.key, fault)
            composed = compose(_failed(prediction), None, sources[:1], node, made_at, replaced)
        objects = [_kept(ledger, task.key, item) for item in composed]
        follow = [*afterwards.deliveries(task.key, [str(d) for d in task.payload.get("destinations", ())])]
        if afterwards.announce_from is not None and urgency >= afterwards.announce_from:
            follow.append(Next(kind=Kind.ANNOUNCE, key=task.key, payload={"urgency": int(urgency), "reason": why}))

        def record(tx: Transaction) -> None:
            tx.predictions.keep_objects(objects)
            tx.predictions.set_urgency(task.key, urgency, why)

        return Done(
            follow=tuple(dataclasses.replace(item, urgency=urgency) for item in follow),
            record=record,
            note={"objects": [o.kind for o in objects], "urgency": urgency.name, "fault": fault or None},
        )

    return Handler(work=work)


def _limitations(header: Header) -> tuple[str, ...]:
    """What the reader must know of the series itself."""
    missing = header.get(MISSING)
    if not missing:
        return ()
    return (f"The series was incomplete: its source holds {missing} more object(s) that never reached this node.",)


def _failed(prediction: Prediction) -> Prediction:
    reason = Reason(
        code=SOFTWARE_FAILURE, text="The result could not be written as a DICOM object; see the node's log."
    )
    return dataclasses.replace(
        prediction, status=Status.FAILED, reason=reason, findings=(), segments=(), measurements=(), mask=None
    )


def _reference(made: ResultObject) -> Reference:
    return Reference(
        sop_class_uid=made.sop_class_uid,
        sop_instance_uid=made.sop_instance_uid,
        series_uid=made.series_uid,
        study_uid=made.study_uid,
    )


def _mask(ledger: Ledger, mask: Mask | None) -> npt.NDArray[np.uint8] | None:
    if mask is None:
        return None
    raw = np.frombuffer(zlib.decompress(ledger.blobs.get(mask.blob)), dtype=np.uint8)
    return raw.reshape(mask.shape)


def _sources(data: Path, prediction: Prediction, instances: Sequence[Instance]) -> list[Dataset]:
    """The source objects without pixels: those of the mask in its order, else one that speaks for the series."""
    paths = {instance.sop_instance_uid: instance.path for instance in instances}
    if prediction.mask is None:
        wanted = [instances[len(instances) // 2].sop_instance_uid] if instances else []
    else:
        wanted = list(dict.fromkeys(frame.sop_instance_uid for frame in prediction.mask.frames))
    missing = [uid for uid in wanted if uid not in paths]
    if missing or not wanted:
        raise Rejected(
            f"{len(missing)} source objects of series {prediction.series_uid} are gone: nothing can be reported"
        )
    with pydicom.config.disable_value_validation():
        return [pydicom.dcmread(data / paths[uid], stop_before_pixels=True) for uid in wanted]


def _kept(ledger: Ledger, key: str, composed: Composed) -> ResultObject:
    dataset = composed.dataset
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    content = buffer.getvalue()
    return ResultObject(
        sop_instance_uid=str(dataset.SOPInstanceUID),
        sop_class_uid=str(dataset.SOPClassUID),
        transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
        series_uid=str(dataset.SeriesInstanceUID),
        study_uid=str(dataset.StudyInstanceUID),
        prediction_key=key,
        kind=composed.kind,
        description=str(dataset.get("SeriesDescription", "")),
        blob=ledger.blobs.put(content),
        size=len(content),
    )
