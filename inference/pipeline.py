"""One model on one series: from files to a prediction. Pure: no ledger, no network; callable in a notebook."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from inference.algorithms.registry import Raw, find
from inference.imaging.geometry import stack
from inference.imaging.irregular import SOFTWARE_FAILURE, Irregular
from inference.imaging.planes import read_headers
from inference.imaging.volume import Volume, assemble
from inference.packages.gates import refuse
from inference.packages.manifest import Manifest
from inference.packages.package import Package
from inference.verdict import answer, unsound
from storage.facts.errors import Misconfigured, Rejected
from storage.facts.prediction import Frame, Prediction, Reason, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to run on."""

    key: str  #: of the INFER task
    study_uid: str
    series_uid: str
    revision: int
    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """A prediction whose mask still has to be stored, and that mask."""

    prediction: Prediction  #: its ``mask`` is None: the caller fills it in
    mask: npt.NDArray[np.uint8] | None = None  #: segment numbers (frames, rows, columns)
    mask_frames: tuple[Frame, ...] = ()  #: source of each frame of the mask
