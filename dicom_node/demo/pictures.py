"""Draws each result on the image that shows most of it."""

from __future__ import annotations

import re
from pathlib import Path

from dicom_node.results import overlay
from dicom_node.results.looking import NoPixels
from dicom_node.results.material import look_in, mask_of
from storage.facts.prediction import Prediction
from storage.ledger import Ledger


def draw(ledger: Ledger, prediction: Prediction, folder: Path) -> Path | None:
    """A PNG of the result in ``folder``; None when nothing is marked, or the image cannot be decoded here."""
    labels = mask_of(ledger, prediction.mask)
    index = None if labels is None else overlay.key_frame(labels, len(prediction.segments))
    if labels is None or index is None or prediction.mask is None:
        return None
    with ledger.begin_reading() as tx:
        instances = tx.studies.instances(prediction.series_uid)
    try:
        pixels, geometry = look_in(ledger.data, instances)(prediction.mask.frames[index])
    except NoPixels:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{prediction.algorithm.package}-{re.sub('[^0-9]', '', prediction.series_uid)[-8:]}.png"
    (folder / name).write_bytes(overlay.picture(prediction, labels[index], pixels, geometry))
    return folder / name
