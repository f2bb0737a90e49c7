"""A ledger that holds a source series and a prediction of it, as a worker leaves it."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydicom.dataset import Dataset

from dicom_node.results.identity import NodeIdentity
from dicom_node.results.profiles import Profile
from dicom_node.results.stage import Afterwards, report
from storage.facts.arrival import Arrival
from storage.facts.prediction import Prediction
from storage.facts.study import Instance, Urgency
from storage.facts.task import Kind, Next, Task
from storage.ledger import Ledger
from storage.stage import Done
from tests.builders import Labels
from tests.dicom_node.results.making import NODE


def receive(ledger: Ledger, sources: Sequence[Dataset]) -> None:
    """Put the files of a complete series in."""
    arrivals = []
    for ds in sources:
        path = ledger.data / "instances" / f"{ds.SOPInstanceUID}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        ds.save_as(path, enforce_file_format=True)
        instance = Instance(
            sop_instance_uid=str(ds.SOPInstanceUID), sop_class_uid=str(ds.SOPClassUID),
            transfer_syntax_uid=str(ds.file_meta.TransferSyntaxUID), series_uid=str(ds.SeriesInstanceUID),
            study_uid=str(ds.StudyInstanceUID), path=str(path.relative_to(ledger.data)), size=path.stat().st_size,
            digest="0" * 64, header={"Modality": str(ds.Modality), "InstanceNumber": int(ds.InstanceNumber)},
        )  # fmt: skip
        arrivals.append(
            Arrival(instance=instance, association=None, calling_ae="PACS", called_ae="NODE", received_at=time.time())
        )
    with ledger.begin("test") as tx:
        tx.studies.record(arrivals)
        tx.studies.complete(str(sources[0].SeriesInstanceUID), {"Modality": str(sources[0].Modality)})


def predict(ledger: Ledger, prediction: Prediction, labels: Labels | None) -> Prediction:
    """Keep a prediction with its mask."""
    if labels is not None and prediction.mask is not None:
        blob = ledger.blobs.put(zlib.compress(labels.tobytes()))
        prediction = replace(prediction, mask=replace(prediction.mask, blob=blob))
    with ledger.begin("test") as tx:
        tx.predictions.save(prediction)
    return prediction


def reported(
    ledger: Ledger,
    prediction: Prediction,
    destinations: dict[str, Profile],
    node: NodeIdentity = NODE,
    afterwards: Afterwards | None = None,
) -> Done:
    """Run the REPORT stage, and record what it says."""
    payload = {"destinations": list(destinations)}
    task = Task(
        id=1, kind=Kind.REPORT, key=prediction.key, payload=payload, urgency=Urgency.ROUTINE, attempt=1, failures=0,
        study_uid=prediction.study_uid, series_uid=prediction.series_uid, created_at=0.0,
    )  # fmt: skip
    done = report(ledger, node, afterwards or after(destinations)).work(task)
    assert isinstance(done, Done)
    assert done.record is not None
    with ledger.begin("test") as tx:
        done.record(tx)
        for item in done.follow:
            tx.queue.enqueue(replace(item, study_uid=prediction.study_uid, series_uid=prediction.series_uid))
    return done


def after(destinations: dict[str, Profile], **changes: Any) -> Afterwards:
    """What follows a report where nothing is announced."""
    given: dict[str, Any] = {
        "decide": lambda given, _header, _asked: (given.urgency, given.urgency_reason), "deliveries": deliveries,
        "announce_from": None, "profiles": destinations,
    }  # fmt: skip
    return Afterwards(**(given | changes))


def deliveries(key: str, names: Sequence[str]) -> tuple[Next, ...]:
    """As the delivery stage wants them."""
    return tuple(
        Next(kind=Kind.DELIVER, key=f"{key}>{name}", payload={"prediction": key, "destination": name}) for name in names
    )
