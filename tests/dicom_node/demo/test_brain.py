"""The average brain as DICOM: right way round, valid, and honest about what it is."""

from __future__ import annotations

import gzip
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from dicom_node.demo import brain
from storage.facts.errors import Misconfigured

ORIGIN, STEP = (-9.0, -14.0, -7.0), (1.0, 1.5, 2.0)
NOSE = (4, 15, 6)  #: one bright voxel: 4 to the right of the first, at the front, above the middle


def nifti(
    path: Path, voxels: NDArray[np.uint8], *, kind: int = 2, magic: bytes = b"n+1\0", tilt: float = 0.0, cut: int = 0
) -> Path:
    """A NIfTI-1 file as its definition lays it out."""
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, *voxels.shape, 1, 1, 1, 1)
    struct.pack_into("<2h", head, 70, kind, 8)
    struct.pack_into("<8f", head, 76, 1, *STEP, 1, 1, 1, 1)
    struct.pack_into("<3f", head, 108, 352, 1, 0)
    struct.pack_into("<2h", head, 252, 0, 2)
    rows = [[STEP[0], tilt, 0, ORIGIN[0]], [0, STEP[1], 0, ORIGIN[1]], [0, 0, STEP[2], ORIGIN[2]]]
    struct.pack_into("<12f", head, 280, *np.ravel(rows))
    head[344:348] = magic
    data = bytes(head) + voxels.tobytes(order="F")
    path.write_bytes(gzip.compress(data[: len(data) - cut]))
    return path


@pytest.fixture
def voxels() -> NDArray[np.uint8]:
    made = np.zeros((12, 20, 10), np.uint8)
    made[2:9, 3:17, 2:8] = 40
    made[NOSE] = 250
    return made


def test_a_voxel_keeps_its_place_in_the_patient(tmp_path: Path, voxels: NDArray[np.uint8]) -> None:
    truth = brain.write(nifti(tmp_path / "t.nii.gz", voxels), tmp_path / "out")
    places = []
    for path in sorted((tmp_path / "out").iterdir()):
        ds = pydicom.dcmread(path)
        row, column = np.unravel_index(int(ds.pixel_array.argmax()), ds.pixel_array.shape)
        along, down = np.array(ds.ImageOrientationPatient[:3]), np.array(ds.ImageOrientationPatient[3:])
        if ds.pixel_array.max() == 250 * brain.GAIN:
            spacing = [float(v) for v in ds.PixelSpacing]
            places.append(np.array(ds.ImagePositionPatient) + column * spacing[1] * along + row * spacing[0] * down)

    right_anterior_superior = [o + s * i for o, s, i in zip(ORIGIN, STEP, NOSE, strict=True)]
    assert len(places) == 1
    assert np.allclose(
        places[0], [-right_anterior_superior[0], -right_anterior_superior[1], right_anterior_superior[2]]
    )
    assert truth.instances == 12
    assert truth.brain_ml == pytest.approx(np.count_nonzero(voxels) * 3.0 / 1000.0)


def test_the_slices_are_one_regular_stack(tmp_path: Path, voxels: NDArray[np.uint8]) -> None:
    truth = brain.write(nifti(tmp_path / "t.nii.gz", voxels), tmp_path / "out")
    read = [pydicom.dcmread(p) for p in sorted((tmp_path / "out").iterdir())]
    normal = np.cross(read[0].ImageOrientationPatient[:3], read[0].ImageOrientationPatient[3:])
    heights = [float(np.dot(ds.ImagePositionPatient, normal)) for ds in read]

    assert np.allclose(np.abs(np.diff(heights)), STEP[0])
    assert {str(ds.SeriesInstanceUID) for ds in read} == {truth.series_uid}
    assert len({ds.SOPInstanceUID for ds in read}) == len(read) == truth.instances
    assert all(str(ds.PatientName) == "MNI152^AVERAGE" and "skull removed" in ds.ImageComments for ds in read)


def test_the_validator_finds_nothing(tmp_path: Path, voxels: NDArray[np.uint8]) -> None:
    tool = shutil.which("dciodvfy", path=str(Path(sys.executable).parent)) or shutil.which("dciodvfy")
    if tool is None:
        pytest.skip("dciodvfy is not installed")
    brain.write(nifti(tmp_path / "t.nii.gz", voxels), tmp_path / "out")
    done = subprocess.run([tool, str(tmp_path / "out" / "mr-0003.dcm")], capture_output=True, text=True, check=False)

    assert "Error" not in done.stdout + done.stderr
    assert "Warning" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        pytest.param({"kind": 16}, "not the template", id="floats"),
        pytest.param({"tilt": 0.1}, "not the template", id="oblique axes"),
        pytest.param({"magic": b"ni1\0"}, "no single-file", id="header apart from data"),
        pytest.param({"cut": 100}, "ends too early", id="cut short"),
    ],
)
def test_another_file_is_refused(
    tmp_path: Path, voxels: NDArray[np.uint8], spoilt: dict[str, object], message: str
) -> None:
    path = nifti(tmp_path / "t.nii.gz", voxels, **spoilt)  # type: ignore[arg-type]

    with pytest.raises(Misconfigured, match=message):
        brain.read(path)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"no gzip at all", id="no gzip"),
        pytest.param(gzip.compress(b"x" * 500)[:-12], id="cut short"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t.nii.gz").write_bytes(data)

    with pytest.raises(Misconfigured, match="fetch the demo's data again"):
        brain.read(tmp_path / "t.nii.gz")


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="fetch the demo's data again"):
        brain.read(tmp_path / "t.nii.gz")
