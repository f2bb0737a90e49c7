"""Brings a CT volume to the grid that lung densitometry works on, and its answer back."""

from __future__ import annotations

import numpy as np

from inference.algorithms.lung import Densitometry, Refusal, measure
from inference.algorithms.raw import Raw
from inference.imaging.irregular import COVERAGE_INCOMPLETE, INSUFFICIENT_QUALITY, NOT_SUPPORTED
from inference.imaging.orient import towards
from inference.imaging.volume import Volume
from inference.packages.package import Package
from inference.runtime import Runtime
from storage.facts.prediction import Code, Reason

_CODES: dict[Refusal, Code] = {
    Refusal.NO_LUNGS: NOT_SUPPORTED,
    Refusal.CUT_AT_TOP: COVERAGE_INCOMPLETE,
    Refusal.CUT_AT_BOTTOM: COVERAGE_INCOMPLETE,
    Refusal.NO_AIRWAY: COVERAGE_INCOMPLETE,
    Refusal.TOO_SMALL: INSUFFICIENT_QUALITY,
}


def densitometry(volume: Volume, package: Package, runtime: Runtime) -> Raw:  # noqa: ARG001 -- it has no weights
    """Lung masks (1 right, 2 left) and densities of both lungs and of each, or a coded refusal.

    The measurement wants frames from foot to head, rows from front to back, columns from the patient's right to left.
    """
    orientation = towards(volume.affine, "SPL")
    hu = np.ascontiguousarray(orientation.apply(volume.voxels))
    if hu.dtype != np.int16:
        hu = np.clip(np.rint(hu), -1024, np.iinfo(np.int16).max).astype(np.int16)
    found = measure(hu, orientation.spacing(volume.spacing), runtime.checkpoint)
    if found.refusal is not None:
        text = f"Lung density was not measured: {found.refusal.value}."
        return Raw(refusal=Reason(code=_CODES.get(found.refusal, INSUFFICIENT_QUALITY), text=text))
    values = _values("", found.both) | _values("right_", found.right) | _values("left_", found.left)
    mask = np.ascontiguousarray(orientation.undo(found.mask), dtype=np.uint8)
    return Raw(mask=mask, values=values, warnings=found.warnings)


def _values(side: str, region: Densitometry) -> dict[str, float]:
    return {
        f"{side}volume": float(region.volume_ml),
        f"{side}mean_hu": float(region.mean_hu),
        f"{side}laa950": float(region.laa950_percent),
        f"{side}perc15": float(region.perc15_hu),
    }
