"""The self-tests of shipped packages pass, and fail for a wrong orientation, a wrong spacing and other weights."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch

from inference.algorithms.nodule_network import NoduleNetwork
from inference.algorithms.proof import Proof, keep_case, prove, read_case
from inference.imaging.volume import Volume
from inference.packages.package import Package, open_package
from inference.packages.store import SHIPPED
from inference.runtime import Runtime
from inference.training import cases
from tests.inference.series import REAL_WEIGHTS

LUNG, NODULE, BRAIN = "ct-lung-densitometry", "phantom-nodule", "brain-t1"
SPOILT = ("upside down", "back to front", "mirrored", "axes swapped", "another spacing")


def proved(package: Package) -> Proof:
    return prove(package, Runtime(device="cpu"))


def spoilt(package: Package, how: str, folder: Path) -> Package:
    """The package with a case whose voxels are the same and whose geometry is read wrongly."""
    test = package.manifest.selftest
    assert test is not None
    case = read_case(package, test)
    affine = case.volume.affine.copy()
    if how == "axes swapped":
        affine[:, [1, 2]] = affine[:, [2, 1]]
    elif how == "another spacing":
        affine[:3, 0] *= 0.75
    else:
        axis = SPOILT.index(how)
        size = case.volume.voxels.shape[axis]
        affine[:3, 3] += affine[:3, axis] * (size - 1)
        affine[:3, axis] *= -1
    digest = keep_case(folder / "spoilt.npz", dataclasses.replace(case.volume, affine=affine), case.mask)
    other = test.model_copy(update={"file": "spoilt.npz", "sha256": digest})
    return dataclasses.replace(package, folder=folder, manifest=package.manifest.model_copy(update={"selftest": other}))


@pytest.fixture(scope="module")
def brain(shared_data: Path) -> Package:
    models = shared_data / "models"
    if not all((models / BRAIN / name).is_file() for name in REAL_WEIGHTS):
        pytest.skip("the weights of deepbet are not here")
    return open_package(SHIPPED / BRAIN, models)


@pytest.mark.parametrize("name", [LUNG, NODULE])
def test_shipped_packages_pass_their_self_test(name: str) -> None:
    proof = proved(open_package(SHIPPED / name))
    assert (proof.tested, proof.passed, proof.faults, proof.notes) == (True, True, (), ())


@pytest.mark.parametrize(("name", "how"), [*((NODULE, how) for how in SPOILT), *((LUNG, how) for how in SPOILT[2:])])
def test_geometry_that_is_read_wrongly_fails_the_self_test(name: str, how: str, tmp_path: Path) -> None:
    proof = proved(spoilt(open_package(SHIPPED / name), how, tmp_path))
    assert not proof.passed
    assert proof.faults


@pytest.mark.parametrize("how", SPOILT[:2])
def test_densities_are_the_same_head_over_heels(how: str, tmp_path: Path) -> None:
    assert proved(spoilt(open_package(SHIPPED / LUNG), how, tmp_path)).passed


def test_other_weights_fail_the_self_test(tmp_path: Path) -> None:
    package = open_package(SHIPPED / NODULE)
    state = torch.load(io.BytesIO(package.read_weights("network")), weights_only=True)
    last = [name for name in state if name.endswith("weight")][-1]
    state[last] = state[last].flip(0)
    network = NoduleNetwork()
    network.load_state_dict(state)
    torch.save(network.state_dict(), tmp_path / "network.pt")

    proof = proved(with_weights(package, tmp_path / "network.pt"))

    assert not proof.passed


def with_weights(package: Package, file: Path) -> Package:
    """The package with other weights, as if they had been pinned by mistake."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    entry = package.manifest.weights[0].model_copy(update={"sha256": digest})
    manifest = package.manifest.model_copy(update={"weights": (entry,)})
    return dataclasses.replace(package, manifest=manifest, weights={entry.name: file}, digest="other")


@pytest.mark.parametrize("how", ["as it is", *SPOILT])
def test_the_brain_package_passes_its_self_test_and_fails_with_other_geometry(
    brain: Package, how: str, tmp_path: Path
) -> None:
    package = brain if how == "as it is" else spoilt(brain, how, tmp_path)
    assert proved(package).passed is (how == "as it is")


def test_shipped_cases_are_those_of_the_code_that_makes_them() -> None:
    chest = cases.chest()
    head, _ = cases.head()
    made: dict[str, Volume] = {LUNG: chest.volume, NODULE: cases.nodules()[0], BRAIN: head}
    for name, volume in made.items():
        with np.load(SHIPPED / name / "selftest.npz") as kept:
            # Another processor may round an edge the other way.
            assert np.mean(kept["voxels"] != volume.voxels) < 1e-4, name
            np.testing.assert_allclose(kept["affine"], volume.affine)
    with np.load(SHIPPED / LUNG / "selftest.npz") as kept:
        assert np.mean(kept["mask"] != chest.mask) < 1e-4
    expected = open_package(SHIPPED / LUNG).manifest.selftest
    assert expected is not None
    assert expected.values == pytest.approx(chest.values, rel=2e-3)


def test_what_is_expected_of_the_nodule_package_is_the_truth_of_its_phantom() -> None:
    test = open_package(SHIPPED / NODULE).manifest.selftest
    assert test is not None
    inside = cases.nodules()[1]
    for one, nodule in zip(test.detections["nodule"], inside, strict=True):
        assert one.at == cases.place(nodule)
        assert one.values["diameter"] == pytest.approx(2 * nodule.radius, abs=0.06)
        assert one.grades == {"malignancy": f"NODULE-GRADE-{nodule.grade + 1}"}


def test_the_cases_are_small() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.glob("*/selftest.npz")) < 300_000
