"""Refuses a prediction that does not fit its sources, before anything is drawn at a wrong place."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from dicom_node.results.region import Labels
from dicom_node.results.source import Source
from dicom_node.results.statement import reach, was_analysed
from storage.facts.errors import Rejected
from storage.facts.prediction import Array, Detection, Frame, Prediction

_LABELS = frozenset({"uint8", "uint16"})
_DTYPES = frozenset({"float32", "float16", "int16", "uint16", "uint8"})


def require_same_series(prediction: Prediction, origin: Source) -> None:
    """Raises Rejected unless the sources are of the series that was analysed."""
    if (prediction.study_uid, prediction.series_uid) != (origin.study_uid, origin.series_uid):
        raise Rejected(
            f"prediction {prediction.key} is of series {prediction.series_uid}, "
            f"but the source objects are of {origin.series_uid}: no result can be filed"
        )


def usable(prediction: Prediction, mask: Labels | None, origin: Source) -> Labels | None:
    """The mask if it has geometry to show; None where the result is words only. Raises Rejected where it misfits."""
    if mask is None or prediction.mask is None:
        if prediction.mask is not None:
            raise Rejected(f"the mask of prediction {prediction.key} was not given: its blob is missing")
        return None
    stated, frames, dtype = prediction.mask.shape, prediction.mask.frames, prediction.mask.dtype
    shape = mask.shape if mask.ndim == 3 else (mask.shape[0], *mask.shape[2:])
    if mask.dtype.name != dtype or dtype not in _LABELS or shape != stated or len(frames) != len(mask):
        raise Rejected(
            f"the mask of prediction {prediction.key} is {mask.dtype} {mask.shape}, "
            f"stated are {dtype} {stated} and {len(frames)} frames"
        )
    _require_size(frames, stated[1:], origin, "its mask")
    numbers = [segment.number for segment in prediction.segments]
    if numbers != list(range(1, len(numbers) + 1)) or int(mask.max(initial=0)) > len(numbers):
        raise Rejected(
            f"segments of prediction {prediction.key} are not numbered from 1 as its mask has them: {numbers}"
        )
    return _flat(mask) if was_analysed(prediction) and mask.any() else None


def _flat(mask: Labels) -> Labels:
    """One map of several, where no two of them mark a pixel."""
    if mask.ndim == 3 or any((np.count_nonzero(frame, axis=0) > 1).any() for frame in mask):
        return mask
    flat: Labels = mask.max(axis=1)
    return flat


def require_places(prediction: Prediction, origin: Source) -> None:
    """Raises Rejected for a detection that lies nowhere, and for maps and images of another grid than the sources'."""
    detections = prediction.detections
    if [one.number for one in detections] != list(range(1, len(detections) + 1)):
        raise Rejected(f"the detections of prediction {prediction.key} are not numbered from 1 in order")
    for one in detections:
        _require_place(one, prediction, origin)
    for array in prediction.arrays:
        _require_array(array, prediction, origin)


def _require_place(one: Detection, prediction: Prediction, origin: Source) -> None:
    who = f"detection {one.number} of prediction {prediction.key}"
    low, high = one.location.low, one.location.high
    if not all(math.isfinite(v) for v in (*low, *high)) or any(a > b for a, b in zip(low, high, strict=True)):
        raise Rejected(f"{who} has no box: its corners are {low} and {high}")
    if not 0 <= one.score <= 1:
        raise Rejected(f"{who} has a score of {one.score}, which is no probability")
    if not (low[0] > -0.5 and high[0] < len(prediction.frames) - 0.5):
        raise Rejected(f"{who} lies on frames {low[0]:g} to {high[0]:g}, of {len(prediction.frames)}")
    first, last = reach(one)
    for frame in prediction.frames[first : last + 1]:
        image = origin.image(frame.sop_instance_uid)
        rows, columns = image.get("Rows", 0), image.get("Columns", 0)
        if not (low[1] < rows and low[2] < columns and high[1] > -1 and high[2] > -1):
            raise Rejected(f"{who} lies outside of its image of {rows} x {columns}")


def _require_array(array: Array, prediction: Prediction, origin: Source) -> None:
    frames = prediction.frames
    if array.dtype not in _DTYPES or array.shape[0] != len(frames):
        raise Rejected(
            f"a map or image of prediction {prediction.key} is {array.dtype} {array.shape}, but there are "
            f"{len(frames)} frames"
        )
    _require_size(frames, array.shape[1:], origin, "its map")


def _require_size(frames: Iterable[Frame], shape: tuple[Any, ...], origin: Source, what: str) -> None:
    for uid in {frame.sop_instance_uid for frame in frames}:
        image = origin.image(uid)
        if (image.get("Rows"), image.get("Columns")) != tuple(shape):
            raise Rejected(f"image {uid} is {image.get('Rows')} x {image.get('Columns')}, {what} {tuple(shape)}")
