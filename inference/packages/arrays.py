"""Heat maps and derived images as they are kept: on the source grid, in the smallest type that says what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.packages.manifest import Manifest
from inference.packages.outputs import ImageEntry
from inference.packages.raw import Map, Raw
from storage.facts.prediction import Array, Code, DerivedImage, Heatmap

STEPS = 256  #: values of a map between 0 and 1: what a colour scale shows, and what compresses well


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pictures:
    """Facts whose arrays still have no blob, and those arrays in the order of ``Prediction.arrays``."""

    heatmaps: tuple[Heatmap, ...] = ()
    images: tuple[DerivedImage, ...] = ()
    arrays: tuple[npt.NDArray[Any], ...] = ()


def pictures(manifest: Manifest, raw: Raw) -> Pictures:
    """Maps and images of a sound outcome, in codes."""
    entries = {entry.key: entry for entry in manifest.images}
    maps = [np.round(np.clip(one.voxels, 0, 1) * STEPS).astype(np.float16) / np.float16(STEPS) for one in raw.maps]
    stored = [_stored(entries[one.key], one.voxels) for one in raw.images]
    heatmaps = tuple(
        Heatmap(
            shown=one.shown,
            label=one.label[:64],
            method=one.method,
            array=_fact(values),
            explains=_explained(manifest, one),
        )
        for one, values in zip(raw.maps, maps, strict=True)
    )
    images = tuple(
        DerivedImage(
            label=entries[one.key].label,
            method=entries[one.key].method.code(),
            text=entries[one.key].text,
            array=_fact(values),
            slope=entries[one.key].slope,
            intercept=entries[one.key].intercept,
        )
        for one, values in zip(raw.images, stored, strict=True)
    )
    return Pictures(heatmaps=heatmaps, images=images, arrays=(*maps, *stored))


def _fact(values: npt.NDArray[Any]) -> Array:
    frames, rows, columns = values.shape
    return Array(blob="", shape=(frames, rows, columns), dtype=values.dtype.name)


def _stored(entry: ImageEntry, voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    values: npt.NDArray[np.float32] = (voxels.astype(np.float32) - np.float32(entry.intercept)) / np.float32(
        entry.slope
    )
    if entry.stored == "float32":
        return values
    limits = np.iinfo(entry.stored)
    stored: npt.NDArray[Any] = np.clip(np.rint(values), limits.min, limits.max).astype(entry.stored)
    return stored


def _explained(manifest: Manifest, one: Map) -> Code | None:
    for condition in manifest.conditions:
        if condition.key == one.explains:
            return condition.condition.code()
    for graded in manifest.grades:
        if graded.key == one.explains:
            return graded.question.code()
    return next((entry.type.code() for entry in manifest.detections if entry.key == one.explains), None)
