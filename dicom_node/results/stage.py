"""The REPORT stage: makes SR and SEG of a prediction, checks them, and has them delivered."""

from __future__ import annotations

import dataclasses
import datetime
import io
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from dicom_node.results.identity import NodeIdentity
from dicom_node.results.report import ResultObject as Composed
from dicom_node.results.report import compose
from pydicom.dataset import Dataset

from storage.facts.errors import Rejected
from storage.facts.prediction import Mask, Prediction
from storage.facts.result import ResultObject
from storage.facts.study import Header, Instance, Urgency
from storage.facts.task import Kind, Next, Task
from storage.ledger import Ledger, Transaction
from storage.stage import Done, Handler

#: The urgency of a result and the sentence that says why, from the prediction, the order's header and the rules' urgency.
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
        if kept is None or series is None:
            raise Rejected(f"there is no prediction {task.key}")
        urgency, why = afterwards.decide(kept.prediction, series.header, task.urgency)
        prediction = dataclasses.replace(kept.prediction, urgency=urgency, urgency_reason=why)
        composed = compose(
            prediction,
            _mask(ledger, prediction.mask),
            _sources(ledger.data, prediction, instances),
            node,
            datetime.datetime.fromtimestamp(kept.made_at, datetime.UTC),
        )
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
            note={"objects": [o.kind for o in objects], "urgency": urgency.name},
        )

    return Handler(work=work)


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
