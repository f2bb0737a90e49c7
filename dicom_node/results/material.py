"""Fetches what objects are made from: the mask, the headers and the pixels that the node keeps."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset

from dicom_node.results.drawing import Read
from dicom_node.results.looking import Look, NoPixels, Pixels, look
from dicom_node.results.region import Labels
from storage.facts.errors import Rejected
from storage.facts.prediction import Array, Frame, Mask, Prediction
from storage.facts.study import Instance
from storage.ledger import Ledger


def mask_of(ledger: Ledger, mask: Mask | None) -> Labels | None:
    """The labels (see region.Labels). Raises Rejected where a blob is missing or altered."""
    if mask is None:
        return None
    read = arrays_of(ledger)
    maps = [read(Array(blob=blob, shape=mask.shape, dtype=mask.dtype)) for blob in mask.blobs]
    return maps[0] if len(maps) == 1 else np.stack(maps, axis=1)


def arrays_of(ledger: Ledger) -> Read:
    """How to get at the values of maps and images. What it returns raises Rejected for a missing or altered blob."""

    def read(array: Array) -> npt.NDArray[np.generic]:
        raw = zlib.decompress(ledger.blobs.get(array.blob))
        kind = np.dtype(array.dtype).newbyteorder("<")
        if len(raw) != kind.itemsize * math.prod(array.shape):
            raise Rejected(f"blob {array.blob} does not hold {array.dtype} {array.shape}: the result cannot be made")
        return np.frombuffer(raw, kind).reshape(array.shape)

    return read


def headers_of(data: Path, prediction: Prediction, instances: Sequence[Instance]) -> list[Dataset]:
    """The source objects without pixels: those of mask and places in their order, else one that speaks for the series.

    Raises Rejected where one is gone.
    """
    paths = {instance.sop_instance_uid: instance.path for instance in instances}
    frames = (*(prediction.mask.frames if prediction.mask is not None else ()), *prediction.frames)
    wanted = list(dict.fromkeys(frame.sop_instance_uid for frame in frames))
    if not frames:
        wanted = [instances[len(instances) // 2].sop_instance_uid] if instances else []
    missing = [uid for uid in wanted if uid not in paths]
    if missing or not wanted:
        raise Rejected(
            f"{len(missing)} source objects of series {prediction.series_uid} are gone: nothing can be reported"
        )
    with pydicom.config.disable_value_validation():
        return [pydicom.dcmread(data / paths[uid], stop_before_pixels=True) for uid in wanted]


def look_in(data: Path, instances: Sequence[Instance]) -> Look:
    """How to get at the pixels of stored images."""
    paths = {instance.sop_instance_uid: data / instance.path for instance in instances}

    def at(frame: Frame) -> tuple[Pixels, Dataset]:
        if frame.sop_instance_uid not in paths:
            raise NoPixels("the source is no longer here")
        return look(paths[frame.sop_instance_uid], frame)

    return at
