"""How things arrive: one object, and what bears on whether a series is complete."""

from __future__ import annotations

from dataclasses import dataclass

from storage.facts.study import Instance, Series


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """An instance that lies in ``incoming``, and how it came."""

    instance: Instance  #: its path is where it will lie once it is in the ledger
    association: str | None
    calling_ae: str
    called_ae: str
    received_at: float


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
