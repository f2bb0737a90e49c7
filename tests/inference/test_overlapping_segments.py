"""A network whose segments overlap, from its weights to a Segmentation that highdicom reads back."""

from __future__ import annotations

import hashlib
import io
import zlib
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
import torch

from dicom_node.results.material import mask_of
from inference.packages.keeping import keep
from inference.packages.network import Segmentation
from inference.pipeline import Request, predict
from inference.runtime import Runtime
from storage.ledger import Ledger
from tests import builders
from tests.dicom_node.results.making import ordered
from tests.inference.networks.making import package
from tests.inference.networks.test_segment import SCRIPTED, scripted
from tests.inference.series import series_of, write

TABLE = """
[network.windows]
multiple = 4
[network.output]
kind = "segmentation"
activation = "sigmoid"
overlapping = true
segments = [1, 2]
measures = [{ key = "part", segments = [1, 2] }]
clean = [{ do = "largest", segments = [2] }]
"""


class Organ(torch.nn.Module):
    """What is bright is the organ, and what is brightest within it a lesion."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([image - 250, image - 750], dim=1) / 100


def voxels() -> npt.NDArray[np.int16]:
    """An organ with a lesion, and one bright voxel far away that cleaning takes off."""
    made = np.zeros((12, 28, 32), np.int16)
    made[3:10, 5:20, 8:28] = 500
    made[5:8, 9:14, 12:18] = 1000
    made[10, 24, 30] = 1000
    return made


def test_overlapping_segments_go_from_the_network_to_a_binary_segmentation(tmp_path: Path, ledger: Ledger) -> None:
    made = package(
        tmp_path / "p", SCRIPTED + TABLE, {"net": scripted(Organ(), 8, 8, 8)}, segments=2, measurements=("part",)
    )
    paths = tuple(write(tmp_path / "s", series_of(voxels(), 2.0, 1.0, sop_class=builders.CT)))
    sources = [pydicom.dcmread(path) for path in paths]
    first = sources[0]

    outcome = predict(
        Request(
            key="k", study_uid=str(first.StudyInstanceUID), series_uid=str(first.SeriesInstanceUID), revision=0,
            paths=paths,
        ),
        made,
        Runtime(device="cpu"),
    )  # fmt: skip
    prediction = outcome.kept(ledger.blobs.put)

    lesion = voxels() == 1000
    lesion[10] = False
    assert prediction.mask is not None
    assert len(prediction.mask.over) == 1
    organ = np.count_nonzero(voxels() > 0) * 2.0 / 1000
    assert [m.value for m in prediction.measurements] == pytest.approx([organ])  # the union counts a voxel once
    labels = mask_of(ledger, prediction.mask)
    seg = ordered(prediction, labels, sources, kinds=("seg", "sr"))["seg"]
    buffer = io.BytesIO()
    seg.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    read = highdicom.seg.segread(buffer)
    assert seg.SegmentationType == "BINARY"
    uids = [frame.sop_instance_uid for frame in prediction.mask.frames]
    back = read.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
    assert np.array_equal(back[..., 0] > 0, voxels() > 0)
    assert np.array_equal(back[..., 1] > 0, lesion)


@pytest.mark.parametrize(("greatest", "kind"), [(255, "uint8"), (256, "uint16"), (300, "uint16")])
def test_a_mask_is_kept_in_as_many_bytes_as_its_numbers_need(greatest: int, kind: str) -> None:
    labels = np.zeros((2, 3, 4), np.uint16)
    labels[1, 2, 3] = greatest
    blobs: dict[str, bytes] = {}

    def put(content: bytes) -> str:
        name = hashlib.sha256(content).hexdigest()
        blobs[name] = content
        return name

    sources = builders.slices(2, 3, 4)
    bare = replace(builders.prediction(sources), mask=None)
    kept = keep(put, bare, ((labels,), builders.frames(sources)), ()).mask
    assert kept is not None
    assert (kept.dtype, kept.over) == (kind, ())
    read = np.frombuffer(zlib.decompress(blobs[kept.blob]), np.dtype(kind).newbyteorder("<")).reshape(kept.shape)
    assert np.array_equal(read, labels)


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({"activation": "softmax", "segments": (0, 1)}, "count by themselves"),
        ({"activation": "sigmoid", "segments": (1, 1)}, "a segment of its own"),
        (
            {
                "activation": "sigmoid", "segments": (1, 2),
                "clean": [{"do": "largest", "segments": (1, 2), "together": True}],
            },
            "each by itself",
        ),
    ],
)  # fmt: skip
def test_what_cannot_overlap_is_refused(table: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Segmentation.model_validate({"kind": "segmentation", "overlapping": True, **table})
