"""Typed tables with their invariants beside the columns. Times are seconds since the epoch (UTC)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from storage.facts.release import Move
from storage.facts.routing import Outcome
from storage.facts.task import State


def one_of(column: str, values: list[str]) -> str:
    """The condition that a column has one of these values."""
    return f"{column} IN ({', '.join(repr(v) for v in values)})"


class Base(DeclarativeBase):
    """All tables of the ledger."""

    type_annotation_map = {dict[str, Any]: JSON, list[Any]: JSON, int: BigInteger, str: Text}


class AuditRow(Base):
    """The trail: each row carries a keyed digest over itself and its predecessor."""

    __tablename__ = "audit"
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[float]
    actor: Mapped[str]
    action: Mapped[str]
    outcome: Mapped[int]  #: PS3.15 A.5: 0 success, 4 minor, 8 serious, 12 major failure
    study_uid: Mapped[str | None] = mapped_column(index=True)
    series_uid: Mapped[str | None]
    details: Mapped[dict[str, Any]]
    digest: Mapped[str]


class AuditHead(Base):
    """Where the trail ends: without it, cutting off its last rows would go unseen."""

    __tablename__ = "audit_head"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    seq: Mapped[int]
    digest: Mapped[str]
    seal: Mapped[str]
    __table_args__ = (CheckConstraint("id = 1", name="ck_audit_head_single"),)


class TaskRow(Base):
    """The one table of work."""

    __tablename__ = "task"
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)
    kind: Mapped[str]
    key: Mapped[str]
    state: Mapped[str] = mapped_column(default=State.WAITING.value)
    urgency: Mapped[int] = mapped_column(default=0)
    payload: Mapped[dict[str, Any]]
    attempt: Mapped[int] = mapped_column(default=0)  #: claims so far; fences the lease
    failures: Mapped[int] = mapped_column(default=0)  #: transient failures and lost leases so far
    not_before: Mapped[float] = mapped_column(default=0.0)
    lease_until: Mapped[float | None]
    owner: Mapped[str | None]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("task.id"))
    study_uid: Mapped[str | None]
    series_uid: Mapped[str | None]
    reason: Mapped[str | None]  #: of the last failure or deferral
    created_at: Mapped[float]
    ready_at: Mapped[float]  #: when it could first have been claimed; with claimed_at, the wait of a hand-off
    claimed_at: Mapped[float | None]
    ended_at: Mapped[float | None]
    __table_args__ = (
        UniqueConstraint("kind", "key", name="uq_task_kind_key"),
        CheckConstraint(one_of("state", [s.value for s in State]), name="ck_task_state"),
        CheckConstraint("(state = 'running') = (lease_until IS NOT NULL)", name="ck_task_lease"),
        Index("ix_task_claim", "state", "kind", "urgency", "not_before"),
        Index("ix_task_study", "study_uid"),
        Index("ix_task_series", "series_uid"),
    )


class SeriesRow(Base):
    """A series: how much of it is here, and what it is."""

    __tablename__ = "series"
    series_uid: Mapped[str] = mapped_column(primary_key=True)
    study_uid: Mapped[str] = mapped_column(index=True)
    modality: Mapped[str]
    calling_ae: Mapped[str]
    called_ae: Mapped[str]
    revision: Mapped[int] = mapped_column(default=0)  #: how often it has become complete
    complete_instances: Mapped[int] = mapped_column(default=0)  #: instances at the last completion
    header: Mapped[dict[str, Any]]
    first_at: Mapped[float]
    last_at: Mapped[float]


class InstanceRow(Base):
    """A stored SOP instance."""

    __tablename__ = "instance"
    sop_instance_uid: Mapped[str] = mapped_column(primary_key=True)
    series_uid: Mapped[str] = mapped_column(ForeignKey("series.series_uid"), index=True)
    study_uid: Mapped[str]
    sop_class_uid: Mapped[str]
    transfer_syntax_uid: Mapped[str]
    path: Mapped[str]
    size: Mapped[int]
    digest: Mapped[str]
    header: Mapped[dict[str, Any]]
    received_at: Mapped[float]


class VariantRow(Base):
    """Other bytes under a SOP Instance UID that was already stored: kept beside, never overwriting."""

    __tablename__ = "variant"
    sop_instance_uid: Mapped[str] = mapped_column(ForeignKey("instance.sop_instance_uid"), primary_key=True)
    digest: Mapped[str] = mapped_column(primary_key=True)
    path: Mapped[str]
    size: Mapped[int]
    received_at: Mapped[float]


class RemovalRow(Base):
    """A study whose received files are gone, while rows of its instances are still being removed."""

    __tablename__ = "removal"
    study_uid: Mapped[str] = mapped_column(primary_key=True)
    instances: Mapped[int]  #: that it had
    begun_at: Mapped[float]


class AssociationRow(Base):
    """An association with a peer: evidence for completeness."""

    __tablename__ = "association"
    id: Mapped[str] = mapped_column(primary_key=True)
    calling_ae: Mapped[str]
    called_ae: Mapped[str]
    address: Mapped[str]
    opened_at: Mapped[float]
    closed_at: Mapped[float | None] = mapped_column(index=True)
    ending: Mapped[str | None]  #: released, aborted, or lost (the node was restarted)


class AssociationSeriesRow(Base):
    """Which series an association carried."""

    __tablename__ = "association_series"
    association_id: Mapped[str] = mapped_column(ForeignKey("association.id"), primary_key=True)
    series_uid: Mapped[str] = mapped_column(ForeignKey("series.series_uid"), primary_key=True, index=True)


class RuleVersionRow(Base):
    """A rule set that is or was in force. Rows are added, never changed; the highest number is in force."""

    __tablename__ = "rule_version"
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    document: Mapped[dict[str, Any]]  #: storage.facts.routing.set_document
    author: Mapped[str]
    approver: Mapped[str]
    reason: Mapped[str]
    restores: Mapped[int | None]
    at: Mapped[float]


class RuleDraftRow(Base):
    """The rule set as it shall become: there is one draft at most."""

    __tablename__ = "rule_draft"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    base: Mapped[int]
    document: Mapped[dict[str, Any]]
    authors: Mapped[list[Any]]
    reason: Mapped[str]
    proposed: Mapped[bool]
    at: Mapped[float]
    __table_args__ = (CheckConstraint("id = 1", name="ck_rule_draft_single"),)


class SeriesFactRow(Base):
    """What was derived from all slices of a complete series: rules can be asked again when its files are gone."""

    __tablename__ = "series_fact"
    series_uid: Mapped[str] = mapped_column(ForeignKey("series.series_uid"), primary_key=True)
    revision: Mapped[int]
    derivation: Mapped[str]  #: which way of deriving made them
    facts: Mapped[dict[str, Any]]
    patient: Mapped[str | None] = mapped_column(index=True)  #: digest of PatientID and issuer; finds earlier studies


class DecisionRow(Base):
    """Why a rule did or did not match a series."""

    __tablename__ = "decision"
    series_uid: Mapped[str] = mapped_column(ForeignKey("series.series_uid"), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True)
    rule: Mapped[str] = mapped_column(primary_key=True)
    matched: Mapped[bool]
    explanation: Mapped[dict[str, Any]]
    at: Mapped[float]
    version: Mapped[int | None]  #: of the rule set
    shadow: Mapped[bool] = mapped_column(default=False)
    __table_args__ = (Index("ix_decision_at", "at"),)


class ChoiceRow(Base):
    """Which series of a study a rule took."""

    __tablename__ = "choice"
    key: Mapped[str] = mapped_column(primary_key=True)  #: of the CHOOSE task
    study_uid: Mapped[str] = mapped_column(index=True)
    rule: Mapped[str]
    outcome: Mapped[str]
    series_uid: Mapped[str | None]
    run: Mapped[str | None] = mapped_column(index=True)  #: key of the INFER task, and so of its prediction
    explanation: Mapped[dict[str, Any]]
    rules_version: Mapped[int | None]
    at: Mapped[float]
    __table_args__ = (CheckConstraint(one_of("outcome", [o.value for o in Outcome]), name="ck_choice_outcome"),)


class PackageRow(Base):
    """A model package that a worker has verified."""

    __tablename__ = "package"
    package: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str]
    title: Mapped[str]
    manifest: Mapped[dict[str, Any]]
    registered_at: Mapped[float]
    origin: Mapped[str | None]  #: how it came; none: a worker found it
    signer: Mapped[str | None]  #: name of the trusted key
    files: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  #: SHA-256 by path
    report: Mapped[str | None]  #: text of its validation report
    retired_at: Mapped[float | None]
    retired_reason: Mapped[str | None]


class ReleaseRow(Base):
    """A change of the version of a package that is in use. Rows are added, never changed; the last one counts."""

    __tablename__ = "release"
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    package: Mapped[str] = mapped_column(index=True)
    version: Mapped[str | None]  #: none: the package was withdrawn
    before: Mapped[str | None]
    move: Mapped[str]
    reason: Mapped[str]
    author: Mapped[str]
    evidence: Mapped[dict[str, Any]]
    restores: Mapped[int | None]
    at: Mapped[float]
    __table_args__ = (CheckConstraint(one_of("move", [m.value for m in Move]), name="ck_release_move"),)


class ProofRow(Base):
    """That a version of a package works on a device, and how fast."""

    __tablename__ = "proof"
    package: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str] = mapped_column(primary_key=True)
    device: Mapped[str] = mapped_column(primary_key=True)
    passed: Mapped[bool]
    document: Mapped[dict[str, Any]]
    at: Mapped[float]
    __table_args__ = (ForeignKeyConstraint(["package", "version"], ["package.package", "package.version"]),)


class PredictionRow(Base):
    """What a model said: the evidence behind every object sent."""

    __tablename__ = "prediction"
    key: Mapped[str] = mapped_column(primary_key=True)
    study_uid: Mapped[str] = mapped_column(index=True)
    series_uid: Mapped[str] = mapped_column(ForeignKey("series.series_uid"))
    revision: Mapped[int]
    package: Mapped[str]
    version: Mapped[str]
    status: Mapped[str]
    urgency: Mapped[int]
    document: Mapped[dict[str, Any]]  #: the whole Prediction (storage.facts.wire)
    made_at: Mapped[float] = mapped_column(index=True)
    __table_args__ = (Index("ix_prediction_series", "series_uid", "package", "revision"),)


class ObjectRow(Base):
    """A DICOM object made of a prediction."""

    __tablename__ = "object"
    sop_instance_uid: Mapped[str] = mapped_column(primary_key=True)
    prediction_key: Mapped[str] = mapped_column(ForeignKey("prediction.key"), index=True)
    series_uid: Mapped[str]  #: of the object itself
    study_uid: Mapped[str] = mapped_column(index=True)
    sop_class_uid: Mapped[str]
    transfer_syntax_uid: Mapped[str]
    kind: Mapped[str]  #: sr, seg, ...
    description: Mapped[str]
    blob: Mapped[str]
    size: Mapped[int]
    made_at: Mapped[float]


class DeliveryRow(Base):
    """One object at one destination."""

    __tablename__ = "delivery"
    sop_instance_uid: Mapped[str] = mapped_column(ForeignKey("object.sop_instance_uid"), primary_key=True)
    destination: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[int]  #: of the C-STORE response (PS3.7 Annex C)
    stored_at: Mapped[float]
    committed_at: Mapped[float | None]


class CommitmentRow(Base):
    """A storage commitment request and what came of it (PS3.4 Annex J)."""

    __tablename__ = "commitment"
    transaction_uid: Mapped[str] = mapped_column(primary_key=True)
    task_key: Mapped[str]
    destination: Mapped[str]
    requested_at: Mapped[float]
    reported_at: Mapped[float | None]
    failed: Mapped[dict[str, Any]]  #: SOP Instance UID to failure reason


class WorkitemRow(Base):
    """A Unified Procedure Step that the node created to raise a study."""

    __tablename__ = "workitem"
    sop_instance_uid: Mapped[str] = mapped_column(primary_key=True)
    prediction_key: Mapped[str] = mapped_column(ForeignKey("prediction.key"))
    destination: Mapped[str]
    urgency: Mapped[int]
    created_at: Mapped[float]
