"""Draws each result on the image that shows most of it."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_rescale

from dicom_node.results import overlay
from dicom_node.results.planes import per_frame
from storage.facts.prediction import Frame, Prediction
from storage.ledger import Ledger


def draw(ledger: Ledger, prediction: Prediction, folder: Path) -> Path | None:
    """A PNG of the result in ``folder``; None when nothing is marked."""
    if prediction.mask is None:
        return None
    raw = np.frombuffer(zlib.decompress(ledger.blobs.get(prediction.mask.blob)), dtype=np.uint8)
    labels = raw.reshape(prediction.mask.shape)
    index = overlay.key_frame(labels, len(prediction.segments))
    if index is None:
        return None
    frame = prediction.mask.frames[index]
    with ledger.begin_reading() as tx:
        paths = {i.sop_instance_uid: i.path for i in tx.studies.instances(prediction.series_uid)}
    pixels, geometry = _image(ledger.data / paths[frame.sop_instance_uid], frame)
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{prediction.algorithm.package}-{re.sub('[^0-9]', '', prediction.series_uid)[-8:]}.png"
    (folder / name).write_bytes(overlay.picture(prediction, labels[index], pixels, geometry))
    return folder / name


def _image(path: Path, frame: Frame) -> tuple[npt.NDArray[np.float32], Dataset]:
    dataset = pydicom.dcmread(path)
    stored = dataset.pixel_array
    if frame.number is not None:
        stored = stored[frame.number - 1]
        return stored.astype(np.float32), per_frame(dataset)[frame.number - 1]
    return np.asarray(apply_rescale(stored, dataset), dtype=np.float32), dataset
