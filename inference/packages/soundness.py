"""Finds what must not be shown: numbers that are missing, impossible or implausible, and arrays off the grid.

One fault withholds the whole result: what a broken run says elsewhere is not to be trusted either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.imaging.irregular import INSUFFICIENT_QUALITY
from inference.packages.located import reported
from inference.packages.manifest import Manifest, MeasurementEntry
from inference.packages.outputs import Abstention, ConditionEntry, GradeEntry
from inference.packages.raw import Box, Raw
from inference.packages.wording import name_of, number_of
from storage.facts.figures import exact, figure
from storage.facts.prediction import SOFTWARE_FAILURE, Code, Reason

SLOP = 1e-3  #: by which probabilities of half precision may miss 0, 1 or their sum
Shape = tuple[int, ...]


class _Fault(Exception):
    """Carries the first fault out of the checks."""

    def __init__(self, text: str, code: Code = SOFTWARE_FAILURE) -> None:
        super().__init__(text)
        self.reason = Reason(code=code, text=text)


def unsound(manifest: Manifest, raw: Raw, absent: Collection[int] = (), shape: Shape | None = None) -> Reason | None:
    """Why the outcome must not be shown; None where all of it is sound.

    Nothing is asked of segments that are ``absent`` from the mask: there is nothing to measure, as of a removed lung.
    ``shape`` is that of the grid (frames, rows, columns); without it, places and arrays are not judged.
    """
    checks: tuple[Callable[[], None], ...] = (
        lambda: _measurements(manifest, raw.values, absent, None),
        lambda: _conditions(manifest, raw),
        lambda: _grades(manifest, raw.classes, raw.energies, None),
        lambda: _boxes(manifest, raw.boxes, shape),
        lambda: _arrays(manifest, raw, shape),
    )
    try:
        for check in checks:
            check()
    except _Fault as fault:
        return fault.reason
    return None


def _measurements(
    manifest: Manifest, values: Mapping[str, float], absent: Collection[int], detection: str | None
) -> None:
    for entry in manifest.measurements:
        if entry.detection == detection and entry.segment not in absent:
            _measurement(manifest, entry, values.get(entry.key))


def _measurement(manifest: Manifest, entry: MeasurementEntry, value: float | None) -> None:
    if value is None or not math.isfinite(value):
        what = "no value" if value is None else "no finite number"
        raise _Fault(f"The algorithm gave {what} for {name_of(manifest, entry)}; its other numbers are withheld.")
    least, greatest = entry.plausible
    if not least <= value <= greatest:
        shown = number_of(manifest, entry, value, least, greatest)
        raise _Fault(
            f"{name_of(manifest, entry)} came out as {shown}, outside of what is plausible "
            f"({exact(least)} to {exact(greatest)}): the result is withheld.",
            INSUFFICIENT_QUALITY,
        )


def _conditions(manifest: Manifest, raw: Raw) -> None:
    _known("condition", raw.chances, [entry.key for entry in manifest.conditions])
    for entry in manifest.conditions:
        chance = raw.chances.get(entry.key)
        if chance is None:
            raise _Fault(f"The algorithm gave no probability for {entry.condition.meaning}: the result is withheld.")
        _probabilities(entry.condition.meaning, (chance,))
        _energy(entry, entry.abstain, raw.energies)


def _grades(
    manifest: Manifest,
    classes: Mapping[str, tuple[float, ...]],
    energies: Mapping[str, float],
    detection: str | None,
) -> None:
    asked = [entry for entry in manifest.grades if entry.detection == detection]
    _known("grade", classes, [entry.key for entry in asked])
    for entry in asked:
        found, what = classes.get(entry.key), entry.question.meaning
        if found is None or len(found) != len(entry.classes):
            given = 0 if found is None else len(found)
            raise _Fault(f"The algorithm gave {given} of {len(entry.classes)} probabilities for {what}: withheld.")
        _probabilities(what, found)
        if abs(sum(found) - 1) > SLOP * len(found):
            total = figure(sum(found), 3, 1.0)
            raise _Fault(f"The probabilities for {what} sum to {total}, not to 1: the result is withheld.")
        _energy(entry, entry.abstain, energies)


def _boxes(manifest: Manifest, boxes: Sequence[Box], shape: Shape | None) -> None:
    _known("detection", [box.key for box in boxes], [entry.key for entry in manifest.detections])
    for box in boxes:
        what = next(entry.label for entry in manifest.detections if entry.key == box.key)
        _probabilities(what, (box.score,))
        if shape is not None:
            _place(what, box, shape)
    for entry in manifest.detections:
        for box, _ in reported(entry, boxes):
            _measurements(manifest, box.values, (), entry.key)
            _grades(manifest, box.classes, box.energies, entry.key)


def _place(what: str, box: Box, shape: Shape) -> None:
    for low, high, size in zip(box.low, box.high, shape, strict=True):
        if not -0.5 <= low <= high <= size - 0.5:  # NaN fails too
            text = f"The algorithm placed a {what} outside of the images, or turned over: the result is withheld."
            raise _Fault(text)


def _arrays(manifest: Manifest, raw: Raw, shape: Shape | None) -> None:
    keys = [e.key for e in manifest.conditions] + [e.key for e in manifest.grades]
    keys += [e.key for e in manifest.detections]
    _known("output", [one.explains for one in raw.maps if one.explains], keys)
    for one in raw.maps:
        _on_grid("map", one.voxels, shape)
        if not (float(one.voxels.min(initial=0)) >= -SLOP and float(one.voxels.max(initial=0)) <= 1 + SLOP):
            raise _Fault(f"The map {one.shown.value} has values outside of 0 to 1: the result is withheld.")
    made = [image.key for image in raw.images]
    _known("image", made, [entry.key for entry in manifest.images])
    for entry in manifest.images:
        if made.count(entry.key) != 1:
            raise _Fault(f"The algorithm made {made.count(entry.key)} series of images {entry.key}, not one.")
    for image in raw.images:
        _on_grid("image", image.voxels, shape)


def _on_grid(what: str, voxels: npt.NDArray[Any], shape: Shape | None) -> None:
    if voxels.ndim != 3 or (shape is not None and voxels.shape != shape):
        raise _Fault(f"The algorithm's {what} has the shape {voxels.shape}, not that of the series.")
    if voxels.dtype.kind not in "fiu" or (voxels.dtype.kind == "f" and not np.isfinite(voxels).all()):
        raise _Fault(f"The algorithm's {what} has values that are no finite numbers: the result is withheld.")


def _known(what: str, given: Collection[str], known: Sequence[str]) -> None:
    strange = sorted(set(given) - set(known))
    if strange:
        raise _Fault(f"The algorithm gave {what} {strange[0]}, which its package does not name.")


def _probabilities(what: str, values: Sequence[float]) -> None:
    for value in values:
        if not -SLOP <= value <= 1 + SLOP:  # NaN fails too
            shown = figure(value, 4, 0.0, 1.0)
            raise _Fault(f"A probability for {what} came out as {shown}: the result is withheld.")


def _energy(entry: ConditionEntry | GradeEntry, abstain: Abstention | None, energies: Mapping[str, float]) -> None:
    if abstain is not None and abstain.by == "energy" and not math.isfinite(energies.get(entry.key, math.nan)):
        raise _Fault(f"The algorithm gave no energy for {entry.key}, by which its package abstains: withheld.")
