"""A package that says one thing of every kind, read from marked voxels, and series whose answer is so known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.uid import UID

from inference.imaging.volume import Volume
from inference.packages.package import Package, open_package
from inference.packages.raw import Box, Raw
from inference.runtime import Runtime
from tests import builders
from tests.inference.manifests import (
    DENSITIES,
    DENSITY,
    EFFUSION,
    NODULE_OF_LUNG,
    accepts,
    condition,
    detection,
    grade,
    head,
    measurement,
    packed,
    segment,
)
from tests.inference.manifests import NODULE as A_NODULE
from tests.inference.series import series_of, write

NAME = "test-marks"
ALGORITHM = ("tests.inference.bringing.judged", "read_marks")
SHAPE, STEP, PIXEL = (8, 16, 16), 2.0, 1.5
CHANCE, CLASSES, SEGMENT, NODULE = 0, (1, 2, 3), 1500, 2000  #: columns of the first row, and values of voxels

MANIFEST = "".join(
    (
        head("marks", title="Marks", algorithm=NAME),
        accepts("CT"),
        condition("effusion", EFFUSION, absent_below=0.2, source="Somebody 2020"),
        """
[[findings]]
condition = { value = "87433001", scheme = "SCT", meaning = "Pulmonary emphysema" }
measurement = "size"
present_from = 0.5
absent_below = 0.2
source = "Somebody 2020"
""",
        grade("density", DENSITY, DENSITIES, source="Somebody 2020", more="ordinal = true\nat_least = 0.5"),
        detection("nodule", "Nodule", A_NODULE, says=NODULE_OF_LUNG, source="Somebody 2020"),
        segment(1, "Part"),
        measurement("size", plausible=(-1.0, 100.0)),
    )
)


def read_marks(volume: Volume, _package: Package, _runtime: Runtime) -> Raw:
    """The answer that was written into the voxels."""
    voxels = volume.voxels
    mask = (voxels == SEGMENT).astype(np.uint8)
    boxes = [
        Box(key="nodule", low=(f, r, c), high=(f, r, c), score=float(voxels[f, r, c] - NODULE) / 100)
        for f, r, c in np.argwhere((voxels > NODULE) & (voxels <= NODULE + 100)).tolist()
    ]
    return Raw(
        mask=mask,
        values={"size": float(mask.sum() * volume.voxel_ml)},
        chances={"effusion": float(voxels[0, 0, CHANCE]) / 1000},
        classes={"density": tuple(float(voxels[0, 0, k]) / 1000 for k in CLASSES)},
        boxes=tuple(boxes),
    )


def package(folder: Path, more: str = "") -> Package:
    """The package in a folder."""
    return open_package(packed(folder, MANIFEST + more))


def voxels_of(
    *,
    chance: float = 0.0,
    classes: tuple[float, float, float] = (0.8, 0.1, 0.1),
    rows: int = 0,
    nodules: Mapping[tuple[int, int, int], float] | None = None,
) -> npt.NDArray[np.int16]:
    """A series that says this; ``rows`` of the segment in two frames, nodules with their probabilities."""
    voxels = np.zeros(SHAPE, np.int16)
    voxels[3:5, 2 : 2 + rows, 4:12] = SEGMENT
    voxels[0, 0, CHANCE] = round(chance * 1000)
    voxels[0, 0, list(CLASSES)] = [round(share * 1000) for share in classes]
    for place, score in (nodules or {}).items():
        voxels[place] = NODULE + round(score * 100)
    return voxels


def series(folder: Path, name: str, voxels: npt.NDArray[np.int16], **attributes: Any) -> str:
    """Write a series of a study of its own, unless said otherwise; returns its UID."""
    uid = f"1.2.9.{name}"
    slices = series_of(voxels, STEP, PIXEL, sop_class=builders.CT, SeriesInstanceUID=uid)
    for number, dataset in enumerate(slices, 1):
        dataset.StudyInstanceUID = f"1.2.8.{name}"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"{uid}.{number}")
        for keyword, value in attributes.items():
            builders.put(dataset, keyword, value)
    write(folder / name, slices)
    return uid
