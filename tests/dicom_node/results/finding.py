"""Predictions that find, grade, map and derive, with the arrays that they speak of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from storage.facts.prediction import (
    Array,
    Code,
    DerivedImage,
    Detection,
    Finding,
    Grade,
    Heatmap,
    Location,
    Measurement,
    Prediction,
    Presence,
    Probability,
    Shown,
)
from tests import builders

NODULE = Code(value="27925004", scheme="SCT", meaning="Nodule")
ABNORMAL = Code(value="49755003", scheme="SCT", meaning="Morphologically Abnormal Structure")
DIAMETER = Code(value="81827009", scheme="SCT", meaning="Diameter")
MILLIMETRE = Code(value="mm", scheme="UCUM", meaning="millimeter")
HOUNSFIELD = Code(value="[hnsf'U]", scheme="UCUM", meaning="Hounsfield unit")
DENSITY = Code(value="DENSITY", scheme="99TEST", meaning="Breast density")
SMOOTHING = Code(value="113087", scheme="DCM", meaning="Smoothing")
STEPS = tuple(Code(value=letter, scheme="99TEST", meaning=f"Step {letter}") for letter in "ABCD")


@dataclass(slots=True)
class Store:
    """Arrays by the name of their blob."""

    blobs: dict[str, npt.NDArray[Any]] = field(default_factory=dict)

    def keep(self, values: npt.NDArray[Any]) -> Array:
        """What stands for the values in a prediction."""
        name = hashlib.sha256(values.tobytes()).hexdigest()
        self.blobs[name] = values
        frames, rows, columns = values.shape
        return Array(blob=name, shape=(frames, rows, columns), dtype=values.dtype.name)

    def read(self, array: Array) -> npt.NDArray[Any]:
        """See drawing.Read."""
        return self.blobs[array.blob]


def boxed(number: int, low: Sequence[float], high: Sequence[float], **changes: Any) -> Detection:
    """A nodule in a box."""
    given: dict[str, Any] = {
        "number": number, "label": f"Nodule {number}", "category": ABNORMAL, "type": NODULE,
        "location": Location(low=tuple(low), high=tuple(high)), "score": round(0.95 - 0.1 * number, 2),  # type: ignore[arg-type]
        "colour": (255, 200, 0),
        "measurements": (Measurement(name=DIAMETER, value=6.25, unit=MILLIMETRE, method="longest axis of the box"),),
    }  # fmt: skip
    return Detection(**(given | changes))


def detections(frames: int, rows: int, columns: int) -> tuple[Detection, ...]:
    """A box over up to three images and a point on one, clear of the border."""
    middle = (frames - 1) // 2
    low, high = max(middle - 1, 0), min(middle + 1, frames - 1)
    return (
        boxed(1, (low, rows * 0.25, columns * 0.5), (high, rows * 0.25 + 6, columns * 0.5 + 8)),
        boxed(2, (middle, rows * 0.7, columns * 0.2), (middle, rows * 0.7, columns * 0.2), measurements=()),
    )


def graded(detection: int | None = None, **changes: Any) -> Grade:
    """An ordinal answer: the second of four steps."""
    given: dict[str, Any] = {
        "question": DENSITY, "answer": STEPS[1], "text": "Scattered areas.", "ordinal": True, "detection": detection,
        "probabilities": tuple(
            Probability(value=step, probability=p) for step, p in zip(STEPS, (0.1, 0.7, 0.15, 0.05), strict=True)
        ),
        "uncertainty": 0.42, "threshold": 0.5, "threshold_source": "validation set",
    }  # fmt: skip
    return Grade(**(given | changes))


def nodules(presence: Presence = Presence.PRESENT, **changes: Any) -> Finding:
    """What is said of nodules in the series."""
    given: dict[str, Any] = {
        "condition": NODULE, "presence": presence, "text": "", "threshold": 0.4,
        "threshold_source": "0.5 false positives a scan on the validation set",
    }  # fmt: skip
    return Finding(**(given | changes))


def shape_of(sources: Sequence[Dataset]) -> tuple[int, int, int]:
    """Frames, rows, columns."""
    return len(builders.frames(sources)), int(sources[0].Rows), int(sources[0].Columns)


def found(sources: Sequence[Dataset], **changes: Any) -> Prediction:
    """A run that found two things, and graded the first and the series."""
    shape = shape_of(sources)
    given: dict[str, Any] = {
        "frames": builders.frames(sources), "detections": detections(*shape), "findings": (nodules(),),
        "grades": (graded(), graded(detection=1, uncertainty=None)),
    }  # fmt: skip
    return builders.prediction(sources, **(given | changes))


def bump(shape: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """A map with one bright place left of the middle, 0 on the first image of several."""
    z, y, x = np.indices(shape)
    centre = ((shape[0] - 1) / 2, shape[1] * 0.3, shape[2] * 0.25)
    away = sum(((a - c) / (s / 6)) ** 2 for a, c, s in zip((z, y, x), centre, shape, strict=True))
    values = np.exp(-away / 2)
    if shape[0] > 2:
        values[0] = 0
    return np.asarray(np.where(values < 0.01, 0, values), np.float32)


def everything(
    sources: Sequence[Dataset], labels: builders.Labels | None = None, **changes: Any
) -> tuple[Prediction, Callable[[Array], npt.NDArray[Any]]]:
    """The same with two maps and new images, and a mask if labels are given; and how to read the arrays."""
    store, shape = Store(), shape_of(sources)
    values = bump(shape)
    images = np.round(1000 * values).astype(np.int16)
    both = builders.prediction(sources, labels)
    prediction = replace(found(sources), mask=both.mask, segments=both.segments, measurements=both.measurements)
    maps = (
        Heatmap(
            shown=Shown.SALIENCY, label="Saliency for Nodule", method="Grad-CAM (Selvaraju et al. 2017)",
            array=store.keep(values), explains=NODULE,
        ),
        Heatmap(
            shown=Shown.UNCERTAINTY, label="Uncertainty", method="Entropy of five passes",
            array=store.keep((values / 2).astype(np.float32)),
        ),
    )  # fmt: skip
    derived = DerivedImage(
        label="Denoised", method=SMOOTHING, text="Gaussian smoothing, 1 mm", array=store.keep(images), intercept=-1024.0
    )
    return replace(prediction, **({"heatmaps": maps, "images": (derived,)} | changes)), store.read
