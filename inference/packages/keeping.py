"""Turns the arrays of an outcome into blobs, and a prediction into one that names them."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.facts.prediction import Array, Frame, Mask, Prediction

Put = Callable[[bytes], str]  #: keeps bytes, returns their SHA-256


def keep(
    put: Put,
    prediction: Prediction,
    mask: tuple[npt.NDArray[np.uint8], tuple[Frame, ...]] | None,
    arrays: Sequence[npt.NDArray[Any]],
) -> Prediction:
    """The prediction with its mask and its arrays kept: zlib-compressed, C order, little endian.

    ``arrays`` are those of ``prediction.arrays``, in that order.
    """
    if mask is not None:
        voxels, sources = np.ascontiguousarray(mask[0], dtype=np.uint8), mask[1]
        frames, rows, columns = voxels.shape
        kept = Mask(blob=_put(put, voxels), shape=(frames, rows, columns), frames=sources)
        prediction = dataclasses.replace(prediction, mask=kept)
    named = iter([_named(put, one, values) for one, values in zip(prediction.arrays, arrays, strict=True)])
    return dataclasses.replace(
        prediction,
        heatmaps=tuple(dataclasses.replace(one, array=next(named)) for one in prediction.heatmaps),
        images=tuple(dataclasses.replace(one, array=next(named)) for one in prediction.images),
    )


def _named(put: Put, fact: Array, values: npt.NDArray[Any]) -> Array:
    return dataclasses.replace(fact, blob=_put(put, values))


def _put(put: Put, values: npt.NDArray[Any]) -> str:
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return put(zlib.compress(little.data, level=1))
