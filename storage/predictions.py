"""The book of results: predictions, the DICOM objects made of them, and where those have arrived."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.orm import Session

from storage.audit import Trail
from storage.facts.prediction import Prediction, Status
from storage.facts.result import Kept, ResultObject
from storage.facts.study import Urgency
from storage.facts.wire import from_json, to_json
from storage.tables import (
    ChoiceRow,
    CommitmentRow,
    DeliveryRow,
    InstanceRow,
    ObjectRow,
    PredictionRow,
    SeriesRow,
    WorkitemRow,
)


class Predictions:
    """Appends and questions, inside one transaction."""

    def __init__(self, session: Session, trail: Trail) -> None:
        self._session, self._trail = session, trail

    def save(self, prediction: Prediction) -> None:
        """Keep what a model said; saving the same key twice keeps the first, unless that run failed.

        A run that failed and was tried again stands aside, with its objects.
        """
        known = self._session.get(PredictionRow, prediction.key)
        if known is not None and known.status != Status.FAILED:
            return
        if known is not None:
            self._set_aside(known)
        row = PredictionRow(
            key=prediction.key,
            study_uid=prediction.study_uid,
            series_uid=prediction.series_uid,
            revision=prediction.revision,
            package=prediction.algorithm.package,
            version=prediction.algorithm.version,
            status=prediction.status.value,
            urgency=int(prediction.urgency),
            document=to_json(prediction),
            made_at=time.time(),
        )
        self._session.add(row)
        self._session.flush()
        self._trail.append(
            "prediction made",
            outcome=0 if prediction.reason is None else 4,
            study=prediction.study_uid,
            series=prediction.series_uid,
            key=prediction.key,
            algorithm=f"{prediction.algorithm.package}@{prediction.algorithm.version}",
            algorithm_digest=prediction.algorithm.digest,
            status=prediction.status.value,
            reason=prediction.reason.code.meaning if prediction.reason else None,
            mask=prediction.mask.blob if prediction.mask else None,
            urgency=prediction.urgency.name,
        )

    def _set_aside(self, row: PredictionRow) -> None:
        """Keep a prediction and its objects under a key of their own, so that another can have the key."""
        aside = _aside(row.key)
        tries = select(func.count()).where(
            PredictionRow.series_uid == row.series_uid, PredictionRow.key.startswith(aside, autoescape=True)
        )
        number = self._session.scalar(tries)
        values = {column.key: getattr(row, column.key) for column in PredictionRow.__table__.columns}
        key = f"{aside}{(number or 0) + 1}"
        self._session.add(PredictionRow(**(values | {"key": key, "document": {**row.document, "key": key}})))
        self._session.flush()
        for table in (ObjectRow, WorkitemRow):
            self._session.execute(update(table).where(table.prediction_key == row.key).values(prediction_key=key))
        self._session.delete(row)
        self._session.flush()

    def set_urgency(self, key: str, urgency: Urgency, reason: str, claim: Urgency) -> None:
        """Note how urgent the result is once findings, order and rules were weighed."""
        row = self._session.get_one(PredictionRow, key)
        row.urgency = int(urgency)
        row.document = {**row.document, "urgency": int(urgency), "urgency_reason": reason, "claim": int(claim)}

    def load(self, key: str) -> Kept | None:
        """The prediction of that key."""
        row = self._session.get(PredictionRow, key)
        return None if row is None else Kept(prediction=from_json(Prediction, row.document), made_at=row.made_at)

    def predecessors(self, prediction: Prediction) -> list[ResultObject]:
        """The objects that an earlier run of the same package got: on an earlier revision of the same series, on the
        series that its rule had chosen of the study before, or where the run itself failed and was tried again."""
        chosen = select(ChoiceRow.explanation).where(ChoiceRow.run == prediction.key)
        replaced = [str(key) for told in self._session.scalars(chosen) for key in told.get("replaces", ())]
        # What stood aside is of the same series: its name need not be looked for among all.
        earlier = and_(
            PredictionRow.series_uid == prediction.series_uid,
            or_(
                PredictionRow.revision < prediction.revision,
                PredictionRow.key.startswith(_aside(prediction.key), autoescape=True),
            ),
        )
        query = (
            select(ObjectRow)
            .join(PredictionRow, PredictionRow.key == ObjectRow.prediction_key)
            .where(
                PredictionRow.package == prediction.algorithm.package,
                or_(earlier, PredictionRow.key.in_(replaced)) if replaced else earlier,
            )
            .order_by(PredictionRow.made_at.desc())
        )
        return [_object(row) for row in self._session.scalars(query)]

    def keep_objects(self, objects: Iterable[ResultObject]) -> None:
        """Note the objects that a report is made of."""
        for item in objects:
            if self._session.get(ObjectRow, item.sop_instance_uid) is not None:
                continue
            row = ObjectRow(
                sop_instance_uid=item.sop_instance_uid,
                prediction_key=item.prediction_key,
                series_uid=item.series_uid,
                study_uid=item.study_uid,
                sop_class_uid=item.sop_class_uid,
                transfer_syntax_uid=item.transfer_syntax_uid,
                kind=item.kind,
                description=item.description,
                blob=item.blob,
                size=item.size,
                made_at=time.time(),
            )
            self._session.add(row)
            self._session.flush()
            self._trail.append(
                "object made", study=item.study_uid, series=item.series_uid, object=item.sop_instance_uid,
                kind=item.kind, digest=item.blob, prediction=item.prediction_key,
            )  # fmt: skip

    def objects(self, prediction_key: str) -> list[ResultObject]:
        """The objects of a prediction."""
        query = select(ObjectRow).where(ObjectRow.prediction_key == prediction_key).order_by(ObjectRow.kind)
        return [_object(row) for row in self._session.scalars(query)]

    def blobs(self, study_uid: str) -> set[str]:
        """Digests of the masks, maps and objects that were made for a study; other studies may hold them, too."""
        kept = select(*_KEPT).where(PredictionRow.study_uid == study_uid)
        found: set[str] = set()
        for blob, over, *listed in self._session.execute(kept):
            found |= _blobs_in(blob, over, *listed)
        return found | set(self._session.scalars(select(ObjectRow.blob).where(ObjectRow.study_uid == study_uid)))

    def holders(self) -> dict[str, set[str]]:
        """The masks and maps of all studies whose received files are here, each with the studies that hold it.

        Objects are not among them: they name their study, so that no two studies have the same.
        """
        here = (
            select(SeriesRow.series_uid)
            .join(InstanceRow, InstanceRow.series_uid == SeriesRow.series_uid)
            .where(SeriesRow.study_uid == PredictionRow.study_uid)
        )
        query = select(PredictionRow.study_uid, *_KEPT).where(here.exists())
        found: dict[str, set[str]] = {}
        for study_uid, *kept in self._session.execute(query.execution_options(yield_per=500)):
            for blob in _blobs_in(*kept):
                found.setdefault(blob, set()).add(study_uid)
        return found

    def delivered(self, prediction_key: str, destination: str) -> set[str]:
        """SOP Instance UIDs that the destination already acknowledged."""
        query = (
            select(DeliveryRow.sop_instance_uid)
            .join(ObjectRow, ObjectRow.sop_instance_uid == DeliveryRow.sop_instance_uid)
            .where(ObjectRow.prediction_key == prediction_key, DeliveryRow.destination == destination)
        )
        return set(self._session.scalars(query))

    def record_delivery(self, destination: str, statuses: Mapping[str, int], study: str | None) -> None:
        """Note which objects a destination has stored, with the C-STORE status of each."""
        for uid, status in statuses.items():
            if self._session.get(DeliveryRow, (uid, destination)) is None:
                self._session.add(
                    DeliveryRow(sop_instance_uid=uid, destination=destination, status=status, stored_at=time.time())
                )
        self._session.flush()
        if statuses:
            shown = {uid: f"0x{status:04X}" for uid, status in statuses.items()}
            self._trail.append("objects delivered", study=study, destination=destination, objects=shown)

    def request_commitment(self, transaction_uid: str, task_key: str, destination: str) -> None:
        """Note that a destination was asked to commit."""
        if self._session.get(CommitmentRow, transaction_uid) is None:
            row = CommitmentRow(
                transaction_uid=transaction_uid, task_key=task_key, destination=destination,
                requested_at=time.time(), failed={},
            )  # fmt: skip
            self._session.add(row)

    def report_commitment(
        self, transaction_uid: str, committed: Iterable[str], failed: Mapping[str, int]
    ) -> str | None:
        """Enter an N-EVENT-REPORT; objects that failed count as not delivered.

        Returns the key of the COMMIT task that waits for it; None for an unknown transaction.
        """
        row = self._session.get(CommitmentRow, transaction_uid)
        if row is None:
            return None
        row.reported_at, row.failed = time.time(), dict(failed)
        for uid in committed:
            delivery = self._session.get(DeliveryRow, (uid, row.destination))
            if delivery is not None:
                delivery.committed_at = time.time()
        self.forget_deliveries(row.destination, failed)
        self._trail.append(
            "storage commitment", outcome=8 if failed else 0, destination=row.destination,
            transaction=transaction_uid, committed=list(committed), failed=dict(failed),
        )  # fmt: skip
        return row.task_key

    def awaited_commitment(self, task_key: str) -> float | None:
        """When the last request was made that is not reported yet, seconds since the epoch; None when there is none."""
        query = select(func.max(CommitmentRow.requested_at)).where(
            CommitmentRow.task_key == task_key, CommitmentRow.reported_at.is_(None)
        )
        return self._session.scalar(query)

    def withdraw_commitment(self, transaction_uid: str) -> None:
        """The request did not reach the destination: no report will come."""
        row = self._session.get(CommitmentRow, transaction_uid)
        if row is not None and row.reported_at is None:
            self._session.delete(row)

    def set_back(self, now: float) -> None:
        """The clock was set back: what was asked for later than ``now`` was asked for now."""
        future = update(CommitmentRow).where(CommitmentRow.requested_at > now)
        self._session.execute(future.values(requested_at=now))

    def uncommitted(self, prediction_key: str, destination: str) -> set[str]:
        """SOP Instance UIDs delivered there and not committed yet."""
        query = (
            select(DeliveryRow.sop_instance_uid)
            .join(ObjectRow, ObjectRow.sop_instance_uid == DeliveryRow.sop_instance_uid)
            .where(
                ObjectRow.prediction_key == prediction_key,
                DeliveryRow.destination == destination,
                DeliveryRow.committed_at.is_(None),
            )
        )
        return set(self._session.scalars(query))

    def forget_deliveries(self, destination: str, uids: Iterable[str]) -> None:
        """The destination does not have these after all: they will be sent again."""
        for uid in uids:
            row = self._session.get(DeliveryRow, (uid, destination))
            if row is not None:
                self._session.delete(row)

    def record_workitem(self, sop_instance_uid: str, prediction_key: str, destination: str, urgency: Urgency) -> None:
        """Note that the study was raised in a reading worklist."""
        if self._session.get(WorkitemRow, sop_instance_uid) is None:
            row = WorkitemRow(
                sop_instance_uid=sop_instance_uid, prediction_key=prediction_key, destination=destination,
                urgency=int(urgency), created_at=time.time(),
            )  # fmt: skip
            self._session.add(row)
            self._trail.append(
                "worklist raised", destination=destination, workitem=sop_instance_uid, urgency=urgency.name
            )


def _aside(key: str) -> str:
    """What the keys of earlier tries of a run begin with."""
    return f"{key}#"


#: What a kept prediction says of its blobs. Only the database looks at all of it: it names each slice of a mask.
_KEPT = (
    PredictionRow.document["mask"]["blob"],
    PredictionRow.document["mask"]["over"],
    PredictionRow.document["heatmaps"],
    PredictionRow.document["images"],
)


def _blobs_in(blob: str | None, over: list[str] | None, *listed: list[dict[str, Any]] | None) -> set[str]:
    """Digests of the blobs that a kept prediction refers to, see ``_KEPT``."""
    of_arrays = {one["array"]["blob"] for several in listed for one in several or ()}
    return of_arrays | set(over or ()) | ({blob} if blob else set())


def _object(row: ObjectRow) -> ResultObject:
    return ResultObject(
        sop_instance_uid=row.sop_instance_uid,
        sop_class_uid=row.sop_class_uid,
        transfer_syntax_uid=row.transfer_syntax_uid,
        series_uid=row.series_uid,
        study_uid=row.study_uid,
        prediction_key=row.prediction_key,
        kind=row.kind,
        description=row.description,
        blob=row.blob,
        size=row.size,
    )
