"""How things arrive: one object, and what bears on whether a series is complete."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from storage.facts.study import Instance, Series


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """An instance that lies in ``incoming``, and how it came."""

    instance: Instance  #: its path is where it will lie once it is in the ledger
    association: str | None
    calling_ae: str
    called_ae: str
    received_at: float


class NoticeKind(StrEnum):
    """Who says that objects exist."""

    MPPS = "MPPS"  #: the modality: Modality Performed Procedure Step (PS3.4 Annex F)
    IAN = "IAN"  #: the archive: Instance Availability Notification (PS3.4 Annex R)
    UPS = "UPS"  #: the workflow manager: input of a Unified Procedure Step (PS3.4 Annex CC)


IN_PROGRESS, COMPLETED, DISCONTINUED = "IN PROGRESS", "COMPLETED", "DISCONTINUED"  #: of an MPPS (PS3.3 C.4.14)
AVAILABLE = "AVAILABLE"  #: of an IAN
READY, INCOMPLETE, UNAVAILABLE = "READY", "INCOMPLETE", "UNAVAILABLE"  #: Input Readiness State (PS3.3 C.30.3)
CANCELED = "CANCELED"  #: Procedure Step State of a UPS: nobody waits for its input any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What a peer said of the objects of a study."""

    sop_instance_uid: str
    kind: NoticeKind
    state: str
    peer: str  #: calling AE title
    study_uid: str  #: empty where an N-SET does not repeat it
    modality: str = ""
    objects: Mapping[str, str] = field(default_factory=dict)  #: SOP Instance UID to Series Instance UID
    wholes: frozenset[str] = frozenset()  #: UIDs of series, or studies, named as a whole and not by their objects


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What the notices about a series come to."""

    objects: int = 0  #: that a finished step or an archive names
    missing: int = 0  #: of them that are not here
    by: str = ""  #: MPPS, IAN or UPS, with the peer; empty when no notice says that it is all there
    awaits: str = ""  #: what says that it is not all there yet: MPPS or UPS, with the peer; empty when nothing does
    whole: bool = False  #: a UPS that is READY means all of it, whatever its objects


BIN_RATIO = 1.25  #: of the edges of two bins of a histogram of pauses
SHORTEST_PAUSE = 0.05  #: seconds; bin 0 holds what is shorter


def pause_bin(seconds: float) -> int:
    """The bin of a histogram of pauses."""
    return 0 if seconds <= SHORTEST_PAUSE else math.ceil(math.log(seconds / SHORTEST_PAUSE, BIN_RATIO) - 1e-9)


def bin_edge(number: int) -> float:
    """The longest pause of a bin, seconds."""
    return SHORTEST_PAUSE * BIN_RATIO**number


@dataclass(frozen=True, slots=True, kw_only=True)
class Habit:
    """The longest pause within a series, as series of this source and protocol were seen to have it."""

    series: float  #: how many were seen; older ones count less
    pause: float  #: seconds; the longest pause of nearly every series stayed below


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How often the number of images that headers state was that of the series, for a source and protocol."""

    kept: float = 0.0  #: series; older ones count less
    broken: float = 0.0


class AbsenceState(StrEnum):
    """What became of something that the node lacks."""

    WAITING = "waiting"  #: it may come by itself, or is fetched when its time has come
    GIVEN_UP = "given up"  #: it was asked for as often as is polite
    CLOSED = "closed"  #: it is here


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """A series of which a source has more than the node. Times are seconds since the epoch."""

    peer: str  #: calling AE title of the source
    series_uid: str
    study_uid: str
    modality: str
    expected: int  #: objects that the source has
    here: int
    tries: int  #: how often it was asked to send them
    seen_at: float
    next_at: float  #: when it is asked to, if nothing changes before
    state: AbsenceState


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What came of asking a source for its recent studies."""

    peer: str
    at: float
    studies: int = 0
    lacking: int = 0  #: series of which it has more than the node
    fetched: int = 0  #: series that it was asked to send
    why: str = ""  #: why it could not be asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What the node has of a study."""

    here: Mapping[str, int]  #: objects by series
    arriving: frozenset[str]  #: series that an ASSEMBLE task sees to
    excluded: frozenset[str]  #: series that are never fetched: the node's own results
    removed: bool = False  #: retention removed its files


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the node knows about whether a series is all there."""

    series: Series
    complete_instances: int  #: at the last completion; equal to series.instances when nothing new came
    last_at: float  #: arrival of the last object
    open_associations: int  #: that carried objects of this series and are still open
    last_closed_at: float  #: end of the last association that carried it; 0 if none ended
    last_ending: str  #: released, aborted, lost, or empty
    associations: int = 0  #: that carried objects of this series
    gap: float = 0.0  #: mean time between two objects, seconds
    stated: Stated = field(default_factory=Stated)
    habit: Habit | None = None  #: None while too little is known of the source
    counts: Tally | None = None  #: None where its headers never stated a number
