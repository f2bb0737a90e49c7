"""Holds what a model said of its self-test against what the self-test expects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from inference.packages.graded import condition, grade
from inference.packages.located import Scored, reported
from inference.packages.manifest import Manifest
from inference.packages.outputs import GradeEntry
from inference.packages.raw import Box, Raw
from inference.packages.selftest import Place, SelfTest, Sighting

Affine = npt.NDArray[np.float64]


def missed(manifest: Manifest, test: SelfTest, raw: Raw, affine: Affine) -> Iterator[str]:
    """What came out otherwise: measurements, probabilities, grades and detections; masks are the caller's.

    ``affine``: (frame, row, column, 1) to patient coordinates (LPS), mm.
    """
    yield from _values("", test, test.values, raw.values)
    yield from _chances(manifest, test, raw)
    yield from _grades(manifest, test, raw)
    for key, expected in test.detections.items():
        entry = next((e for e in manifest.detections if e.key == key), None)
        if entry is None:
            yield f"its self-test expects detections {key}, which its manifest does not name"
            continue
        found = reported(entry, raw.boxes)
        if len(found) != len(expected):
            yield f"{len(found)} {key} are reported, should be {len(expected)}"
        for one in expected:
            yield from _sighting(manifest, key, test, one, found, affine)


def _values(whose: str, test: SelfTest, wanted: Mapping[str, float], found: Mapping[str, float]) -> Iterator[str]:
    for key, expected in wanted.items():
        value = found.get(key)
        if value is None or not abs(value - expected) <= test.tolerance * abs(expected):
            said = None if value is None else f"{value:.6g}"
            yield f"{whose}{key} is {said}, should be {expected:g} within {test.tolerance:.1%}"


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
        else:
            yield from _grade("", entries[key], expected, raw.classes[key], raw.energies.get(key))


def _grade(
    whose: str, entry: GradeEntry, expected: str, classes: tuple[float, ...], energy: float | None
) -> Iterator[str]:
    answer = grade(entry, classes, energy).answer
    if ("" if answer is None else answer.value) != expected:
        said = "not determined" if answer is None else answer.value
        yield f"{whose}grade {entry.key} is {said}, should be {expected or 'not determined'}"


def _sighting(
    manifest: Manifest, key: str, test: SelfTest, wanted: Sighting, found: Sequence[Scored], affine: Affine
) -> Iterator[str]:
    where = f"{key} at ({', '.join(f'{x:g}' for x in wanted.at)})"
    far = [float(np.linalg.norm(np.subtract(middle(box, affine), wanted.at))) for box, _ in found]
    nearest = int(np.argmin(far)) if far else -1
    if not far or not far[nearest] <= test.reach:
        distance = f"{far[nearest]:.1f} mm off" if far else "nowhere"
        yield f"no {where} is reported within {test.reach:g} mm; the nearest lies {distance}"
        return
    box, score = found[nearest]
    if wanted.probability is not None and not abs(score - wanted.probability) <= test.within:
        yield f"{where}: its probability is {score:g}, should be {wanted.probability:g} within {test.within:g}"
    yield from _values(f"{where}: ", test, wanted.values, box.values)
    entries = {entry.key: entry for entry in manifest.grades if entry.detection == key}
    for name, expected in wanted.grades.items():
        if name not in entries or name not in box.classes:
            yield f"{where}: there is no grade {name} of it"
        else:
            yield from _grade(f"{where}: ", entries[name], expected, box.classes[name], box.energies.get(name))


def middle(box: Box, affine: Affine) -> Place:
    """The middle of a box in patient coordinates (LPS), mm."""
    centre = np.append((np.array(box.low) + np.array(box.high)) / 2, 1.0)
    x, y, z = (affine @ centre)[:3]
    return float(x), float(y), float(z)
