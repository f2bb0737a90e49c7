"""Turns the arrays of an outcome into blobs, and a prediction into one that names them."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.packages.raw import Labels
from storage.facts.prediction import Array, Frame, Mask, Prediction

Put = Callable[[bytes], str]  #: keeps bytes, returns their SHA-256


def keep(
    put: Put,
    prediction: Prediction,
    mask: tuple[Sequence[Labels], tuple[Frame, ...]] | None,
    arrays: Sequence[npt.NDArray[Any]],
) -> Prediction:
    """The prediction with its mask and its arrays kept: zlib-compressed, C order, little endian.

    ``mask``: the maps of its segments, more than one where these overlap, and the source of each of their frames.
    ``arrays`` are those of ``prediction.arrays``, in that order.
    """
    if mask is not None:
        prediction = dataclasses.replace(prediction, mask=_mask(put, *mask))
    named = iter([_named(put, one, values) for one, values in zip(prediction.arrays, arrays, strict=True)])
    return dataclasses.replace(
        prediction,
        heatmaps=tuple(dataclasses.replace(one, array=next(named)) for one in prediction.heatmaps),
        images=tuple(dataclasses.replace(one, array=next(named)) for one in prediction.images),
    )


def _mask(put: Put, maps: Sequence[Labels], sources: tuple[Frame, ...]) -> Mask:
    """All maps in a byte a voxel, or in two where any has numbers from 256."""
    wide = any(int(one.max(initial=0)) > np.iinfo(np.uint8).max for one in maps)
    kind = np.dtype(np.uint16 if wide else np.uint8)
    blob, *over = (_put(put, one.astype(kind, copy=False)) for one in maps)
    frames, rows, columns = maps[0].shape
    return Mask(blob=blob, shape=(frames, rows, columns), frames=sources, dtype=kind.name, over=tuple(over))


def _named(put: Put, fact: Array, values: npt.NDArray[Any]) -> Array:
    return dataclasses.replace(fact, blob=_put(put, values))


def _put(put: Put, values: npt.NDArray[Any]) -> str:
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return put(zlib.compress(little.data, level=1))
