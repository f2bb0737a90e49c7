"""Tables of what sources said of their studies, beside what came: notices, looks, absences, pauses, counts."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from storage.facts.arrival import AbsenceState
from storage.tables import Base, one_of


class NoticeRow(Base):
    """What a modality said of a step (MPPS), an archive of what it has (IAN), a workflow manager of input (UPS)."""

    __tablename__ = "notice"
    sop_instance_uid: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]  #: MPPS, IAN or UPS
    state: Mapped[str]  #: of an MPPS: IN PROGRESS, COMPLETED, DISCONTINUED; of an IAN: AVAILABLE; of a UPS: READY, ...
    peer: Mapped[str]  #: calling AE title
    study_uid: Mapped[str] = mapped_column(index=True)
    modality: Mapped[str]
    told_at: Mapped[float]
    changed_at: Mapped[float]


class NoticedObjectRow(Base):
    """An object that a notice names: it exists, whether or not it came here.

    A series or a study that is named as a whole stands here under its own UID in both columns.
    """

    __tablename__ = "noticed_object"
    notice_uid: Mapped[str] = mapped_column(ForeignKey("notice.sop_instance_uid"), primary_key=True)
    sop_instance_uid: Mapped[str] = mapped_column(primary_key=True)
    series_uid: Mapped[str] = mapped_column(index=True)


class LookRow(Base):
    """The last time that a source was asked for its recent studies."""

    __tablename__ = "look"
    peer: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[float]
    studies: Mapped[int]
    lacking: Mapped[int]  #: series of which it has more than the node
    fetched: Mapped[int]  #: series that it was asked to send
    why: Mapped[str]  #: why it could not be asked; empty when it answered


class AgreedRow(Base):
    """A study of which the node had all when the source had so many objects: it need not be asked again."""

    __tablename__ = "agreed"
    peer: Mapped[str] = mapped_column(primary_key=True)
    study_uid: Mapped[str] = mapped_column(primary_key=True)
    instances: Mapped[int]
    at: Mapped[float]


class AbsenceRow(Base):
    """A series of which a source has more than the node, and what was done about it."""

    __tablename__ = "absence"
    peer: Mapped[str] = mapped_column(primary_key=True)
    series_uid: Mapped[str] = mapped_column(primary_key=True)
    study_uid: Mapped[str] = mapped_column(index=True)
    modality: Mapped[str]
    expected: Mapped[int]
    here: Mapped[int]
    tries: Mapped[int]
    seen_at: Mapped[float]
    next_at: Mapped[float]
    state: Mapped[str]
    __table_args__ = (CheckConstraint(one_of("state", [a.value for a in AbsenceState]), name="ck_absence_state"),)


class PauseRow(Base):
    """How long the longest pauses within series of a source were: a histogram with logarithmic bins."""

    __tablename__ = "pause"
    source: Mapped[str] = mapped_column(primary_key=True)  #: calling AE title
    protocol: Mapped[str] = mapped_column(primary_key=True)  #: modality, or a digest of how the images are made
    bin: Mapped[int] = mapped_column(primary_key=True)
    series: Mapped[float]  #: how many, older ones counting less


class CountRow(Base):
    """Whether the numbers of images that headers state were those of the series, as they turned out."""

    __tablename__ = "stated_count"
    source: Mapped[str] = mapped_column(primary_key=True)  #: calling AE title
    protocol: Mapped[str] = mapped_column(primary_key=True)  #: as of a pause
    kept: Mapped[float]  #: series, older ones counting less
    broken: Mapped[float]
