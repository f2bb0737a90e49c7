"""On a real CT, packages give the labels that MONAI and nnU-Net themselves give with the same weights."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from inference.algorithms.network import run
from inference.bringing.foreign import Wishes, import_model
from inference.imaging.volume import Volume, load
from inference.networks.architectures import build
from inference.packages.network import Architecture
from inference.packages.package import open_package
from inference.runtime import Runtime
from tests.inference.bringing import bundles
from tests.inference.bringing import nnunet_folders as folders
from tests.inference.bringing.test_bundle import by_monai
from tests.inference.bringing.test_nnunet import states
from tests.inference.series import Studies

pytestmark = pytest.mark.shared_data
STUDY = "ct_body_20slice_totalseg"
MIDDLE = slice(160, 352)  #: of rows and columns
ALIKE = 0.999  #: of all voxels


@pytest.fixture(scope="module")
def real(studies: Studies) -> Volume:
    """Twenty slices of a body, JPEG 2000; of each the middle, for nnU-Net takes minutes for the whole."""
    whole = load(studies(STUDY))
    affine = whole.affine.copy()
    affine[:3, 3] = (whole.affine @ [0, MIDDLE.start, MIDDLE.start, 1])[:3]
    return replace(whole, voxels=np.ascontiguousarray(whole.voxels[:, MIDDLE, MIDDLE]), affine=affine)


def require_alike(mask: npt.NDArray[np.uint8] | None, expected: npt.NDArray[np.uint8]) -> None:
    """And each label takes up a part of the images that is worth comparing."""
    assert mask is not None
    assert np.bincount(expected.ravel(), minlength=3).min() > 0.001 * expected.size
    assert (mask == expected).mean() >= ALIKE


def test_a_bundle_labels_a_real_ct_as_monai_does(tmp_path: Path, real: Volume) -> None:
    inferer = {
        "_target_": "SlidingWindowInferer", "roi_size": [96, 96, 16], "sw_batch_size": 4, "overlap": 0.5,
        "mode": "gaussian",
    }  # fmt: skip
    config = bundles.inference(inferer=inferer)
    torch.manual_seed(7)  # of weights with which every class is seen
    state = build(
        Architecture(name="monai.UNet", arguments={k: v for k, v in bundles.NETWORK.items() if k != "_target_"})
    ).state_dict()
    source = bundles.write(tmp_path / "bundle", config, bundles.metadata(), state)
    import_model(source, tmp_path / "package", Wishes())

    mask = run(real, open_package(tmp_path / "package"), Runtime(device="cpu")).mask

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI's own, of defaults that will change
        require_alike(mask, by_monai(config, real, state))


@pytest.mark.parametrize("gaussian", [True, False])
def test_a_folder_labels_a_real_ct_as_nnunet_does(
    tmp_path: Path, real: Volume, monkeypatch: pytest.MonkeyPatch, gaussian: bool
) -> None:
    """With nnU-Net's own Gaussian too, although it keeps that in half precision."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path))
    predicting = pytest.importorskip("nnunetv2.inference.predict_from_raw_data")
    plan, data = folders.plans(patch_size=[16, 96, 96]), folders.dataset()
    source = folders.write(tmp_path, plan, data, states(plan, 1, 3))
    import_model(source, tmp_path / "package", Wishes(orientation="SPL"))
    if not gaussian:
        manifest = tmp_path / "package" / "model.toml"
        text = manifest.read_text(encoding="utf-8")
        manifest.write_text(text.replace('steps = "even"', 'steps = "even"\nblending = "constant"'), encoding="utf-8")

    mask = run(real, open_package(tmp_path / "package"), Runtime(device="cpu")).mask

    predictor = predicting.nnUNetPredictor(
        use_gaussian=gaussian, device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(str(source), None)
    image = real.voxels[None].astype(np.float32)
    require_alike(mask, predictor.predict_single_npy_array(image, {"spacing": list(real.spacing)}, None, None, False))
