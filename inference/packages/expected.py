"""Holds what a model said of its self-test against what the self-test expects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from inference.packages.graded import condition, grade
from inference.packages.located import reported
from inference.packages.manifest import Manifest
from inference.packages.raw import Box, Raw
from inference.packages.selftest import Place, SelfTest

Affine = npt.NDArray[np.float64]


def missed(manifest: Manifest, test: SelfTest, raw: Raw, affine: Affine) -> Iterator[str]:
    """What came out otherwise: measurements, probabilities, grades and detections; masks are the caller's.

    ``affine``: (frame, row, column, 1) to patient coordinates (LPS), mm.
    """
    for key, expected in test.values.items():
        found = raw.values.get(key)
        if found is None or not abs(found - expected) <= test.tolerance * abs(expected):
            yield f"{key} is {found}, should be {expected:g} within {test.tolerance:.1%}"
    yield from _chances(manifest, test, raw)
    yield from _grades(manifest, test, raw)
    for key, places in test.detections.items():
        entry = next((e for e in manifest.detections if e.key == key), None)
        if entry is None:
            yield f"its self-test expects detections {key}, which its manifest does not name"
        else:
            yield from _places(key, places, test.reach, [box for box, _ in reported(entry, raw.boxes)], affine)


def _chances(manifest: Manifest, test: SelfTest, raw: Raw) -> Iterator[str]:
    entries = {entry.key: entry for entry in manifest.conditions}
    for key, expected in test.chances.items():
        if key not in entries or key not in raw.chances:
            yield f"there is no probability of {key}"
            continue
        found = condition(entries[key], raw.chances[key], raw.energies.get(key)).probability
        if found is None or not abs(found - expected) <= test.within:
            yield f"the probability of {key} is {found}, should be {expected:g} within {test.within:g}"


def _grades(manifest: Manifest, test: SelfTest, raw: Raw) -> Iterator[str]:
    entries = {entry.key: entry for entry in manifest.grades if entry.detection is None}
    for key, expected in test.grades.items():
        if key not in entries or key not in raw.classes:
            yield f"there is no grade {key} of the series"
            continue
        said = grade(entries[key], raw.classes[key], raw.energies.get(key)).answer
        if said is None or said.value != expected:
            yield f"grade {key} is {said.value if said else 'not determined'}, should be {expected}"


def _places(key: str, places: Sequence[Place], reach: float, boxes: Sequence[Box], affine: Affine) -> Iterator[str]:
    found = [middle(box, affine) for box in boxes]
    if len(found) != len(places):
        yield f"{len(found)} {key} are reported, should be {len(places)}"
    for place in places:
        nearest = min((float(np.linalg.norm(np.subtract(one, place))) for one in found), default=float("inf"))
        if not nearest <= reach:
            where = ", ".join(f"{x:g}" for x in place)
            yield f"no {key} is reported within {reach:g} mm of ({where}); the nearest lies {nearest:.1f} mm off"


def middle(box: Box, affine: Affine) -> Place:
    """The middle of a box in patient coordinates (LPS), mm."""
    centre = np.append((np.array(box.low) + np.array(box.high)) / 2, 1.0)
    x, y, z = (affine @ centre)[:3]
    return float(x), float(y), float(z)
