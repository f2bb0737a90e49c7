"""Composes all objects of one prediction, and lets none leave that our own checker faults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_node.results import region, source
from dicom_node.results.check import faults
from dicom_node.results.document import Circumstance, Reference
from dicom_node.results.identity import Naming, NodeIdentity
from dicom_node.results.seg import NoSegmentation, segmentation
from dicom_node.results.sr import measurement_report
from dicom_node.results.statement import was_analysed
from dicom_node.results.text_report import text_report
from storage.facts.errors import Rejected
from storage.facts.prediction import Prediction

Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    """An object ready to be kept and sent, in a series of its own."""

    kind: str  #: sr or seg
    dataset: Dataset


def compose(
    prediction: Prediction,
    mask: Labels | None,
    sources: Sequence[Dataset],
    node: NodeIdentity,
    made_at: datetime,
    predecessors: Sequence[Reference] = (),
) -> list[Composed]:
    """A SEG where there is something to outline, and always one SR.

    ``mask`` is the prediction's label map (frames, rows, columns). ``sources`` are the headers of the series, pixels
    not needed. ``made_at`` is kept with the prediction, so that composing again gives the same bytes. Raises Rejected
    for mixed patients, for a mask that does not fit, and for any fault that the checker finds.
    """
    origin = source.read(sources)
    _require_same_series(prediction, origin)
    naming = Naming(prediction=prediction, node=node, made_at=made_at)
    labels = _usable(prediction, mask, origin)
    made, remarks = [], list(origin.remarks)
    if labels is None:
        made.append(Composed(kind="sr", dataset=text_report(_circumstance(naming, origin, predecessors, remarks))))
    else:
        counts = region.areas(labels, len(prediction.segments))
        try:
            made.append(Composed(kind="seg", dataset=segmentation(naming, origin, labels)))
        except NoSegmentation as why:
            remarks.append(f"No segmentation object is sent: {why}.")
        circumstance = _circumstance(naming, origin, predecessors, remarks, made)
        made.append(Composed(kind="sr", dataset=measurement_report(circumstance, labels, counts)))
    _require_faultless(prediction, made)
    return made


def _circumstance(
    naming: Naming,
    origin: source.Source,
    predecessors: Sequence[Reference],
    remarks: Sequence[str],
    made: Sequence[Composed] = (),
) -> Circumstance:
    return Circumstance(
        naming=naming,
        source=origin,
        made=tuple(one.dataset for one in made),
        predecessors=tuple(predecessors),
        remarks=tuple(remarks),
    )


def _require_same_series(prediction: Prediction, origin: source.Source) -> None:
    if (prediction.study_uid, prediction.series_uid) != (origin.study_uid, origin.series_uid):
        raise Rejected(
            f"prediction {prediction.key} is of series {prediction.series_uid}, "
            f"but the source objects are of {origin.series_uid}: no result can be filed"
        )


def _usable(prediction: Prediction, mask: Labels | None, origin: source.Source) -> Labels | None:
    """The mask if it has geometry to show; None where the result is words only. Raises Rejected where it misfits."""
    if mask is None or prediction.mask is None:
        if prediction.mask is not None:
            raise Rejected(f"the mask of prediction {prediction.key} was not given: its blob is missing")
        return None
    stated, frames = prediction.mask.shape, prediction.mask.frames
    if mask.dtype != np.uint8 or mask.shape != stated or len(frames) != len(mask):
        raise Rejected(
            f"the mask of prediction {prediction.key} is {mask.dtype} {mask.shape}, "
            f"stated are {stated} and {len(frames)} frames"
        )
    for uid in {frame.sop_instance_uid for frame in frames}:
        image = origin.image(uid)
        if (image.get("Rows"), image.get("Columns")) != mask.shape[1:]:
            raise Rejected(f"image {uid} is {image.get('Rows')} x {image.get('Columns')}, its mask {mask.shape[1:]}")
    numbers = [segment.number for segment in prediction.segments]
    if numbers != list(range(1, len(numbers) + 1)) or int(mask.max(initial=0)) > len(numbers):
        raise Rejected(
            f"segments of prediction {prediction.key} are not numbered from 1 as its mask has them: {numbers}"
        )
    return mask if was_analysed(prediction) and mask.any() else None


def _require_faultless(prediction: Prediction, made: Sequence[Composed]) -> None:
    found = [f"{one.kind}: {fault}" for one in made for fault in faults(one.dataset)]
    if found:
        shown = "; ".join(found[:5]) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")
        raise Rejected(f"the result of prediction {prediction.key} is faulty and was held back: {shown}")
