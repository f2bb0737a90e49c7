"""A challenger beside the champion: what both say of a series is compared when the second has spoken."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from inference.packages.agreement import compare
from storage import workers
from storage.facts.prediction import Grade, Presence, Status
from tests import builders
from tests.inference.executors.rig import Rig


def test_masks_measurements_and_findings_are_compared_by_what_they_mean() -> None:
    labels = builders.two_blobs()
    first = builders.prediction(builders.slices(), labels)
    other = labels.copy()
    other[labels == 1] = 2
    other[labels == 2] = 1
    other[0:4][labels[0:4] == 2] = 0
    swapped = tuple(
        dataclasses.replace(s, number=3 - s.number, measurements=tuple(_plus(m, 1.5) for m in s.measurements))
        for s in first.segments
    )
    said = tuple(dataclasses.replace(f, presence=Presence.UNDETERMINED) for f in first.findings)
    grade = Grade(question=builders.EMPHYSEMA, answer=builders.LUNG, probabilities=(), text="")
    first = dataclasses.replace(first, grades=(grade,))
    second = dataclasses.replace(first, segments=swapped, findings=said)
    found = compare(first, second, (labels, other))

    whole, half = (int(np.count_nonzero(labels == 2)), int(np.count_nonzero(other == 1)))
    assert found.status
    assert found.dice == {
        first.segments[0].label: 1.0,
        first.segments[1].label: pytest.approx(2 * half / (whole + half)),
    }
    assert set(found.differences.values()) <= {0.0, 1.5}
    assert 1.5 in found.differences.values()
    assert found.presences == {f.condition.meaning: False for f in first.findings}
    assert found.grades == {builders.EMPHYSEMA.meaning: True}


def _plus(measurement, by):  # type: ignore[no-untyped-def]
    return dataclasses.replace(measurement, value=measurement.value + by)


def test_masks_on_different_grids_and_empty_ones() -> None:
    labels = builders.two_blobs()
    first = builders.prediction(builders.slices(), labels)
    with pytest.raises(ValueError, match="cannot be compared"):
        compare(first, first, (labels, labels[:-1]))
    assert set(compare(first, first, (None, None)).dice.values()) == {1.0}
    assert set(compare(first, first, (labels, None)).dice.values()) == {0.0}


def test_two_versions_on_the_same_series_leave_their_agreement_in_the_trail(rig: Rig) -> None:
    rig.package("model")
    rig.package("model", version="1.1.0")
    rig.ask("1", "model")
    rig.ask_also("2", "model", like="1", version="1.1.0")
    with rig.working(rig.config(2)):
        rig.wait_over(["1", "2"])
        rig.wait(lambda: len(rig.trail("versions compared")) == 1)
    with rig.ledger.read() as session:
        [seen] = workers.overlaps(session, "model", "1.1.0", "1.0.0")
        rates = workers.rates(session, since=0.0)
    assert (seen.segment, seen.series, seen.mean, seen.least) == ("All", 1, 1.0, 1.0)
    [row] = rig.trail("versions compared")
    assert (row.details["versions"], row.details["status"]) == (["1.0.0", "1.1.0"], True)
    assert (row.details["dice"], row.details["differences"]) == ({"All": 1.0}, {"Volume": 0.0})
    assert [(r.package, r.version, r.runs) for r in rates] == [("model", "1.0.0", 1), ("model", "1.1.0", 1)]
    assert all(0 < r.seconds <= r.longest and r.waited >= 0 for r in rates)
    assert rig.said("1").status is Status.SUCCEEDED
