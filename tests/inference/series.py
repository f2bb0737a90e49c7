"""Series as files, made up or real, and small networks in place of a model's."""

from __future__ import annotations

import hashlib
import random
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from tests import builders

#: A bright brain in grey scalp, as the small networks see it.
BRAIN, SCALP = 200, 60

#: SHA-256 of the brain package's weights.
REAL_WEIGHTS = {
    "bbox_model.pt": "39a7b2b5f799faa1391ea97bfcdc0b9299f20d84f2316a4ff8918dc4685e40aa",
    "model.pt": "de8ee7c69654d0dd3935dc4a5d84571d8ecf4637a6bfc01df399c4c2bc86e0fd",
}


def write(folder: Path, datasets: Sequence[Dataset]) -> list[Path]:
    """One file each, in an order that says nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, dataset in enumerate(datasets):
        path = folder / f"{number:04d}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    random.Random(7).shuffle(paths)
    return paths


def edited(datasets: list[Dataset], edit: Callable[[int, Dataset], None]) -> list[Dataset]:
    """The same series after ``edit`` has had every image."""
    for number, dataset in enumerate(datasets):
        edit(number, dataset)
    return datasets


def series_of(
    voxels: npt.NDArray[np.int16], step: float, pixel: float, *, sop_class: str = builders.MR, **attributes: object
) -> list[Dataset]:
    """An axial series with these pixels."""
    datasets = builders.slices(*voxels.shape, sop_class=sop_class, step=step)
    for dataset, pixels in zip(datasets, voxels, strict=True):
        builders.pixels(dataset, pixels)
        dataset.PixelSpacing, dataset.SliceThickness = [pixel, pixel], step
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
    return datasets


def head(matrix: int = 64, step: float = 4.0, radii: tuple[float, float, float] = (70.0, 90.0, 65.0)) -> list[Dataset]:
    """A T1-weighted head: an ellipsoid of brain, its half axes in mm (bottom-top, front-back, across), in a scalp."""
    places = (np.arange(matrix) - (matrix - 1) / 2) * step
    z, y, x = np.meshgrid(places, places, places, indexing="ij")
    radius = np.sqrt((z / radii[0]) ** 2 + (y / radii[1]) ** 2 + (x / radii[2]) ** 2)
    voxels = np.where(radius <= 1, BRAIN, np.where(radius <= 1.25, SCALP, 0)).astype(np.int16)
    return series_of(voxels, step, step, SeriesDescription="T1 MPRAGE", StudyDescription="Head")


def small_networks(folder: Path) -> dict[str, str]:
    """Write two TorchScript networks that mark what is bright; returns their digests by file name."""
    import torch  # tests without a network need not load it

    class Bright(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            marked = (image > 0.7).float()
            return torch.cat([1 - marked, marked], dim=1)

    folder.mkdir(parents=True, exist_ok=True)
    digests = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.trace(Bright(), torch.zeros(1, 1, 4, 4, 4))
        for name in ("bbox_model.pt", "model.pt"):
            scripted.save(str(folder / name))
            digests[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    return digests


class Studies:
    """Files of a real study by the name of its archive."""

    def __init__(self, data: Path, folder: Path) -> None:
        self._data, self._folder = data, folder

    def __call__(self, name: str) -> list[Path]:
        """Its DICOM files."""
        folder = self._folder / name
        if not folder.exists():
            with zipfile.ZipFile(self._data / "studies" / f"{name}.zip") as archive:
                archive.extractall(folder)
        return [path for path in sorted(folder.rglob("*")) if path.is_file() and _is_dicom(path)]


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
