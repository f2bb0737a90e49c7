"""Real scans through the shipped packages, where they are at hand."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from inference.imaging.geometry import stack
from inference.imaging.irregular import Irregular
from inference.imaging.planes import read_headers
from inference.imaging.volume import load
from inference.packages.package import Package, open_package
from inference.packages.store import SHIPPED
from inference.pipeline import Request, predict
from storage.facts.prediction import Status
from tests.inference.series import REAL_WEIGHTS, Studies

pytestmark = pytest.mark.shared_data


@pytest.fixture(scope="session")
def real_brain(shared_data: Path) -> Package:
    """The brain package with its real weights, if somebody put them beside the studies."""
    models = shared_data / "models"
    if not all((models / "brain-t1" / name).is_file() for name in REAL_WEIGHTS):
        pytest.skip("the weights of deepbet are not here")
    return open_package(SHIPPED / "brain-t1", models)


@pytest.mark.parametrize(("study", "millilitres"), [("mr_t1_studyforrest", 1791.7), ("mr_t1_enhanced_xa30", 1573.0)])
def test_real_heads_are_measured(studies: Studies, real_brain: Package, study: str, millilitres: float) -> None:
    paths = tuple(studies(study))
    outcome = predict(Request(key="k", study_uid="1", series_uid="2", revision=0, paths=paths), real_brain)
    assert outcome.prediction.status is Status.SUCCEEDED
    assert outcome.prediction.segments[0].measurements[0].value == pytest.approx(millilitres, rel=0.005)
    assert outcome.mask is not None
    assert len(outcome.mask_frames) == outcome.mask.shape[0]


@pytest.mark.parametrize(
    ("study", "code", "words"),
    [
        ("ct_abdomen_no_lungs_acrin001", "110531", "Slice thickness is 5 mm"),
        ("ct_chest_lower_b10f_acrin013", "110531", "The extent of the stack is 196 mm"),
        ("ct_body_20slice_totalseg", "110522", "contrast agent"),
        ("ct_head_tilt_varspacing_ge", "110522", "HEAD"),
        ("mr_t1_studyforrest", "110522", "Modality is MR"),
        ("cr_chest_6_rsna_nih", "110522", "Modality is CR"),
    ],
)
def test_what_is_no_thin_chest_is_not_attempted(
    studies: Studies, lung_package: Package, study: str, code: str, words: str
) -> None:
    request = Request(key="k", study_uid="1", series_uid="2", revision=0, paths=tuple(studies(study)))
    said = predict(request, lung_package).prediction
    assert said.status is Status.NOT_ATTEMPTED
    assert said.reason is not None
    assert (said.reason.code.value, words in said.reason.text) == (code, True)


def test_a_real_chest_passes_every_gate_and_loads(studies: Studies) -> None:
    volume = load(studies("ct_chest_full_ricord1a"))
    assert volume.voxels.shape == (248, 512, 512)
    assert volume.voxels.dtype == np.int16
    assert volume.spacing == pytest.approx((1.25, 0.703125, 0.703125))
    positions = volume.affine @ np.array([[0, 0, 0, 1], [247, 0, 0, 1]]).T
    assert positions[2, 1] > positions[2, 0]  # feet to head


def test_the_tilt_and_the_uneven_steps_of_a_real_head_are_known_before_pixels(studies: Studies) -> None:
    geometry = stack(read_headers(studies("ct_head_tilt_varspacing_ge")).planes()).geometry
    assert geometry.tilt == pytest.approx(18.5, abs=0.1)
    assert geometry.irregularity > 0.5
    assert geometry.largest_gap == pytest.approx(7.0, abs=0.01)


def test_hostile_files_are_refused_and_nothing_else(shared_data: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(shared_data / "nasty.zip") as archive:
        archive.extractall(tmp_path)
    outcomes = {"volume": 0, "refused": 0}
    for path in sorted(p for p in tmp_path.rglob("*") if p.is_file()):
        try:
            load([path])
            outcomes["volume"] += 1
        except Irregular:
            outcomes["refused"] += 1
    assert outcomes["refused"] > 100
