"""Studies to look at: synthetic sources with UIDs of their own, and where things lie in the patient."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from pydicom.dataset import Dataset

from dicom_node.results import profiles
from dicom_node.results.drawing import Read
from dicom_node.results.report import Composed, Order, compose
from inference.pipeline import Outcome
from storage.facts.prediction import Code, Mask, Measurement, Prediction, Segment
from tests import builders
from tests.builders import Labels
from tests.dicom_node.results.making import NODE, looking


def study(number: int, sources: Sequence[Dataset]) -> list[Dataset]:
    """The same images as a study of their own, with square pixels and little noise."""
    root = f"{builders.ROOT}.600.{number}"
    for index, ds in enumerate(sources, 1):
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = f"{root}.0", f"{root}.1", f"{root}.1.{index}"
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.PatientID, ds.AccessionNumber = f"T-{number:04}", f"A{number:04}"
        if "FrameOfReferenceUID" in ds:
            ds.FrameOfReferenceUID = f"{root}.9"
            ds.PixelSpacing = [0.75, 0.75]
    return list(sources)


def results(
    prediction: Prediction, labels: Labels | None, sources: Sequence[Dataset], *kinds: str, read: Read | None = None
) -> list[Composed]:
    """The objects of these kinds, or of the default profile."""
    order = Order(
        kinds=kinds or profiles.DEFAULT.kinds, look=looking(sources), read=read,
        square_only=profiles.DEFAULT.square_only, whole_maps=profiles.DEFAULT.whole_maps,
    )  # fmt: skip
    return compose(prediction, labels, sources, NODE, builders.MADE_AT, order)


def inside(labels: Labels, number: int, sources: Sequence[Dataset]) -> tuple[float, float, float]:
    """A point of the patient (LPS, mm) in the middle of a segment."""
    frame, row, column = np.argwhere(labels == number).mean(axis=0).round().astype(int)
    assert labels[frame, row, column] == number
    return place(sources[frame], float(row), float(column))


def place(source: Dataset, row: float, column: float) -> tuple[float, float, float]:
    """Where a pixel of a single-frame image lies in the patient (PS3.3 C.7.6.2.1.1)."""
    along, down = np.reshape([float(v) for v in source.ImageOrientationPatient], (2, 3))
    rows, columns = (float(v) for v in source.PixelSpacing)
    x, y, z = np.asarray([float(v) for v in source.ImagePositionPatient]) + along * columns * column + down * rows * row
    return float(x), float(y), float(z)


def many_segments(shape: tuple[int, int, int], count: int) -> tuple[Labels, tuple[Segment, ...]]:
    """Blocks in rows, each of another colour, in all frames."""
    labels = np.zeros(shape, np.uint8)
    across = int(np.ceil(np.sqrt(count)))
    height, width = shape[1] // across, shape[2] // across
    segments = []
    for index in range(count):
        row, column = divmod(index, across)
        labels[:, row * height + 1 : (row + 1) * height - 1, column * width + 1 : (column + 1) * width - 1] = index + 1
        colour = ((index * 97) % 200 + 55, (index * 53 + 90) % 256, (index * 151 + 30) % 256)
        volume = Measurement(name=builders.VOLUME, value=float(index), unit=builders.MILLILITRE)
        kind = Code(value=f"{index + 1}", scheme="99TEST", meaning=f"Class {index + 1}")
        segments.append(
            dataclasses.replace(
                builders.segments()[0], number=index + 1, label=f"Class {index + 1}", type=kind, colour=colour,
                measurements=(volume,),
            )
        )  # fmt: skip
    return labels, tuple(segments)


def with_mask(outcome: Outcome) -> Prediction:
    """The prediction as the worker keeps it, but for the blob."""
    assert outcome.mask is not None
    frames, rows, columns = outcome.mask.shape
    mask = Mask(blob="00" * 32, shape=(frames, rows, columns), frames=outcome.mask_frames)
    return dataclasses.replace(outcome.prediction, mask=mask)
