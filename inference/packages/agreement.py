"""How far two versions of a package agree on the same series: the evidence for putting one in the other's place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.facts.prediction import Measurement, Prediction, Segment

Labels = npt.NDArray[Any]  #: numbers of segments (maps, frames, rows, columns); several maps where segments overlap


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """One version against another, on one series."""

    status: bool  #: both ended in the same way
    dice: dict[str, float] = field(default_factory=dict)  #: by segment, of voxels; 1 where both have none
    differences: dict[str, float] = field(default_factory=dict)  #: by measurement, second less first, in its unit
    presences: dict[str, bool] = field(default_factory=dict)  #: by condition: both say the same of it
    grades: dict[str, bool] = field(default_factory=dict)  #: by question: both give the same class


def compare(first: Prediction, second: Prediction, masks: tuple[Labels | None, Labels | None]) -> Agreement:
    """Compare what two versions said; what only one of them speaks of is left out.

    Segments are matched by type and label, for their numbers may differ. Dice: Dice, Ecology 26(3):297-302 (1945).
    Raises ValueError where the masks are on different grids.
    """
    return Agreement(
        status=first.status is second.status,
        dice=dict(_dice(first, second, masks)),
        differences=dict(_differences(first, second)),
        presences=_same(
            {f.condition.meaning: f.presence for f in first.findings},
            {f.condition.meaning: f.presence for f in second.findings},
        ),
        grades=_same(
            {g.question.meaning: g.answer for g in first.grades if g.detection is None},
            {g.question.meaning: g.answer for g in second.grades if g.detection is None},
        ),
    )


def _same(first: dict[str, object], second: dict[str, object]) -> dict[str, bool]:
    return {key: said == second[key] for key, said in first.items() if key in second}


def _dice(
    first: Prediction, second: Prediction, masks: tuple[Labels | None, Labels | None]
) -> Iterator[tuple[str, float]]:
    one, other = masks
    if one is not None and other is not None and one.shape[-3:] != other.shape[-3:]:
        raise ValueError(f"masks of {one.shape[-3:]} and {other.shape[-3:]} voxels cannot be compared")
    numbers = {_identity(segment): segment.number for segment in second.segments}
    for segment in first.segments:
        if _identity(segment) not in numbers:
            continue
        here = None if one is None else _where(one, segment.number)
        there = None if other is None else _where(other, numbers[_identity(segment)])
        yield segment.label, _overlap(here, there)


def _where(labels: Labels, number: int) -> npt.NDArray[np.bool_]:
    """A segment in any of its maps."""
    found = labels == number
    return np.asarray(found.any(axis=0)) if labels.ndim > 3 else found


def _overlap(here: npt.NDArray[np.bool_] | None, there: npt.NDArray[np.bool_] | None) -> float:
    sizes = [0 if marked is None else int(np.count_nonzero(marked)) for marked in (here, there)]
    if not any(sizes):
        return 1.0
    common = 0 if here is None or there is None else int(np.count_nonzero(here & there))
    return 2.0 * common / sum(sizes)


def _identity(segment: Segment) -> tuple[str, str, str]:
    return segment.type.scheme, segment.type.value, segment.label


def _differences(first: Prediction, second: Prediction) -> Iterator[tuple[str, float]]:
    there = dict(_measurements(second))
    for name, one in _measurements(first):
        other = there.get(name)
        if other is not None and other.unit == one.unit:
            yield name, other.value - one.value


def _measurements(prediction: Prediction) -> Iterator[tuple[str, Measurement]]:
    for one in prediction.measurements:
        yield one.name.meaning, one
    for segment in prediction.segments:
        for one in segment.measurements:
            yield f"{segment.label}: {one.name.meaning}", one
