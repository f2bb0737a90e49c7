"""Sources that come seldom: angiograms, scintigrams, photographs and tomograms of the eye, captured films."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pydicom.dataset import Dataset

from tests import builders

XA, NM = "1.2.840.10008.5.1.4.1.1.12.1", "1.2.840.10008.5.1.4.1.1.20"
OP, OPT = "1.2.840.10008.5.1.4.1.1.77.1.5.1", "1.2.840.10008.5.1.4.1.1.77.1.5.4"
FILM = "1.2.840.10008.5.1.4.1.1.7.3"  #: multi-frame grey word Secondary Capture


def run(sop_class: str, modality: str, count: int = 3, rows: int = 60, columns: int = 50) -> Dataset:
    """Grey frames one after the other, without a place in the patient."""
    ds = builders.source(sop_class, modality)
    ds.NumberOfFrames, ds.FrameTime, ds.FrameIncrementPointer = count, 66, 0x00181063
    return builders.pixels(ds, np.random.default_rng(6).integers(0, 4000, (count, rows, columns)).astype(np.int16))


def photograph(rows: int = 60, columns: int = 50) -> Dataset:
    """The back of an eye, in colour."""
    ds = builders.source(OP, "OP")
    ds.ImageLaterality, ds.BodyPartExamined, ds.PatientOrientation = "R", "EYE", ["L", "F"]
    del ds.PatientPosition, ds.PositionReferenceIndicator
    return builders.coloured(ds, np.random.default_rng(7).integers(0, 255, (rows, columns, 3)).astype(np.uint8))


def tomogram() -> Dataset:
    """Planes of an eye, each with its place."""
    ds = builders.enhanced(sop_class=OPT, orientation=builders.CORONAL)
    ds.Modality, ds.ImageLaterality, ds.BodyPartExamined = "OPT", "L", "EYE"
    return ds


SOURCES: dict[str, Callable[[], list[Dataset]]] = {
    "XA": lambda: [run(XA, "XA")],
    "NM": lambda: [run(NM, "NM")],
    "OP": lambda: [photograph()],
    "OCT": lambda: [tomogram()],
    "SC of several frames": lambda: [run(FILM, "OT")],
}
FLAT = frozenset({"XA", "NM", "OP", "SC of several frames"})
