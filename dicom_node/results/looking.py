"""Reads the pixels of one source image, for the picture of a result."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels.processing import apply_rescale
from pydicom.pixels.utils import pixel_array

from dicom_node.results.planes import per_frame, place
from storage.facts.errors import Rejected
from storage.facts.prediction import Frame

Pixels = npt.NDArray[np.float32]

#: What pydicom and its decoders raise on pixels that they cannot read.
_UNREADABLE = (
    InvalidDicomError, BytesLengthException, OSError, EOFError, ValueError, LookupError, AttributeError, TypeError,
    RuntimeError, struct.error,
)  # fmt: skip
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  #: ITU-R BT.601


class NoPixels(Exception):
    """Why an image cannot be drawn upon; a sentence for the reader."""


#: Modality values (HU for CT) and geometry of one frame.
Look = Callable[[Frame], tuple[Pixels, Dataset]]


def look(path: Path | BinaryIO, frame: Frame) -> tuple[Pixels, Dataset]:
    """The modality values of a frame, colours as their luminance, and a header that says how it lies.

    Raises NoPixels.
    """
    try:
        with pydicom.config.disable_value_validation():
            dataset = pydicom.dcmread(path)
            index = None if frame.number is None else frame.number - 1
            stored = np.asarray(pixel_array(dataset, index=index))
            shown = stored @ _LUMA if stored.ndim == 3 else _modality(stored, dataset, frame)
    except _UNREADABLE as error:
        raise NoPixels(f"the pixels of the source cannot be decoded ({type(error).__name__})") from error
    if shown.ndim != 2:
        raise NoPixels("the source is no single image")
    return shown.astype(np.float32), _geometry(dataset, frame)


def _modality(stored: npt.NDArray[Any], dataset: Dataset, frame: Frame) -> npt.NDArray[Any]:
    """Rescaled values; an enhanced image says how in its functional groups (PS3.3 C.7.6.16.2.9)."""
    if frame.number is None or "PerFrameFunctionalGroupsSequence" not in dataset:
        return np.asarray(apply_rescale(stored, dataset))
    groups = (dataset.PerFrameFunctionalGroupsSequence[frame.number - 1], *dataset.SharedFunctionalGroupsSequence)
    for group in groups:
        for item in group.get("PixelValueTransformationSequence", []):
            rescaled: npt.NDArray[Any] = stored * float(item.RescaleSlope) + float(item.RescaleIntercept)
            return rescaled
    return stored


def _geometry(dataset: Dataset, frame: Frame) -> Dataset:
    """The header, for a frame of a multi-frame image with its own place."""
    if frame.number is None or "PerFrameFunctionalGroupsSequence" not in dataset:
        return dataset
    try:
        flat = per_frame(place(dataset))[frame.number - 1]
    except (Rejected, IndexError) as error:
        raise NoPixels("the source does not say how its frames lie") from error
    for keyword in ("Modality", "PhotometricInterpretation"):
        if keyword in dataset:
            setattr(flat, keyword, dataset[keyword].value)
    return flat
