"""At which pace a source sends, learned from what came: the quiet time of a source that cannot be asked adapts to it.

For each source and protocol the ledger keeps a histogram of the longest pause within a series: 1.25 from bin to bin, so
that some thirty rows say it within 25 %. A series is started too early just when one of its pauses is longer than the
quiet time; so the quiet time is a multiple of the pause that nearly no series exceeded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from storage.facts.arrival import Habit, bin_edge
from storage.facts.study import Header

LEAST_SERIES = 20  #: before anything is believed
RARE = 0.002  #: of the series may have had a longer pause
#: Quiet time in pauses: generous while little was seen, as the longest of few says little of the longest of many.
MARGIN_FEW, MARGIN_MANY, MANY_SERIES = 2.5, 1.5, 100
SHORTEST, LONGEST = 1.0, 55.0  #: quiet times, seconds; a fixed 60 s is never waited for

_MAKING = ("Modality", "ImageType", "Rows", "Columns", "SliceThickness")


def protocols_of(modality: str, header: Header) -> tuple[str, ...]:
    """What a source's habits are kept under: how the images are made, then the modality alone. Nothing of a patient."""
    making = json.dumps([header.get(keyword) for keyword in _MAKING], default=str)
    return hashlib.sha256(making.encode()).hexdigest()[:16], f"modality {modality}"


def habit_of(pauses: Mapping[int, float]) -> Habit | None:
    """What a histogram says; None while it says too little."""
    total = sum(pauses.values())
    if total < LEAST_SERIES:
        return None
    above = 0.0
    for number in sorted(pauses, reverse=True):
        above += pauses[number]
        if above > RARE * total:
            return Habit(series=total, pause=bin_edge(number))
    return None


def quiet_time(habit: Habit, least: float = SHORTEST) -> float:
    """Seconds of silence after which a series of that habit is over."""
    few = max(0.0, (MANY_SERIES - habit.series) / (MANY_SERIES - LEAST_SERIES))
    margin = MARGIN_MANY + (MARGIN_FEW - MARGIN_MANY) * few
    return min(max(margin * habit.pause, least), LONGEST)
