"""The book of results: predictions, the DICOM objects made of them, and where those have arrived."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from storage.audit import Trail
from storage.facts.prediction import Prediction
from storage.facts.result import Kept, ResultObject
from storage.facts.study import Urgency
from storage.facts.wire import from_json, to_json
from storage.tables import ChoiceRow, CommitmentRow, DeliveryRow, ObjectRow, PredictionRow, WorkitemRow


class Predictions:
    """Appends and questions, inside one transaction."""

    def __init__(self, session: Session, trail: Trail) -> None:
        self._session, self._trail = session, trail

    def save(self, prediction: Prediction) -> None:
        """Keep what a model said; saving the same key twice keeps the first."""
        if self._session.get(PredictionRow, prediction.key) is not None:
            return
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
        """The objects that an earlier run of the same package got: on an earlier revision of the same series, or on
        the series that its rule had chosen of the study before."""
        chosen = select(ChoiceRow.explanation).where(ChoiceRow.run == prediction.key)
        replaced = [str(key) for told in self._session.scalars(chosen) for key in told.get("replaces", ())]
        query = (
            select(ObjectRow)
            .join(PredictionRow, PredictionRow.key == ObjectRow.prediction_key)
            .where(
                PredictionRow.package == prediction.algorithm.package,
                or_(
                    and_(
                        PredictionRow.series_uid == prediction.series_uid,
                        PredictionRow.revision < prediction.revision,
                    ),
                    PredictionRow.key.in_(replaced),
                ),
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
        """Digests of the masks, maps and objects that were made for a study."""
        documents = select(PredictionRow.document).where(PredictionRow.study_uid == study_uid)
        found: set[str] = set()
        for document in self._session.scalars(documents):
            made = from_json(Prediction, document)
            found |= {array.blob for array in made.arrays}
            if made.mask is not None:
                found |= set(made.mask.blobs)
        return found | set(self._session.scalars(select(ObjectRow.blob).where(ObjectRow.study_uid == study_uid)))

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
