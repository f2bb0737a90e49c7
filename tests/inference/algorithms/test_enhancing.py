"""A network that makes better images: on the grid and in the unit of the series, whatever the network saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from inference.packages.manifest import load_manifest
from inference.pipeline import Outcome, Request, predict
from inference.runtime import Runtime
from storage.facts.errors import Misconfigured
from storage.facts.prediction import Status
from tests import builders
from tests.inference.algorithms.making import DENOISER, Blur, blurred, exported
from tests.inference.networks.making import package
from tests.inference.series import series_of, write


def noisy(shape: tuple[int, int, int] = (9, 14, 12)) -> npt.NDArray[np.int16]:
    return np.random.default_rng(4).integers(-900, 2500, shape).astype(np.int16)


def outcome_of(folder: Path, module: torch.nn.Module, voxels: npt.NDArray[np.int16], toml: str) -> Outcome:
    made = package(folder / "package", toml, {"net": exported(module)})
    paths = tuple(write(folder / "series", series_of(voxels, 2.0, 1.0, sop_class=builders.CT)))
    return predict(
        Request(key="k", study_uid="1.2", series_uid="1.3", revision=0, paths=paths), made, Runtime(device="cpu")
    )


@pytest.mark.parametrize("residual", [False, True])
def test_denoised_images_are_in_the_unit_and_on_the_grid_of_the_series(tmp_path: Path, residual: bool) -> None:
    toml = DENOISER.format(steps="", residual=str(residual).lower())

    outcome = outcome_of(tmp_path, Blur(residual=residual), noisy(), toml)

    assert outcome.prediction.status is Status.SUCCEEDED, outcome.prediction.reason
    [image] = outcome.prediction.images
    [values] = outcome.arrays
    assert (image.label, image.array.dtype, values.dtype.name) == ("Denoised", "int16", "int16")
    assert len(outcome.prediction.frames) == 9
    np.testing.assert_allclose(values, blurred(noisy()), atol=0.51)  # rounded to whole HU


def test_windows_meet_without_a_seam(tmp_path: Path) -> None:
    steps = "[network.windows]\nsize = [8, 8, 8]\noverlap = 0.5"

    outcome = outcome_of(tmp_path, Blur(), noisy((20, 24, 22)), DENOISER.format(steps=steps, residual="false"))

    expected = blurred(noisy((20, 24, 22)))
    # A window repeats its rim, and a rim counts little: a part of the noise is all that may be seen of it.
    assert np.abs(outcome.arrays[0] - expected).mean() < 0.05 * np.abs(noisy((20, 24, 22)) - expected).mean()


def test_what_the_network_did_not_see_stays_as_it_is(tmp_path: Path) -> None:
    steps = "[[network.prepare]]\ndo = 'fit'\nsize = [6, 6, 5]"

    outcome = outcome_of(tmp_path, Blur(), noisy(), DENOISER.format(steps=steps, residual="false"))

    changed = outcome.arrays[0] != noisy()
    where = [(int(places.min()), int(places.max())) for places in np.nonzero(changed)]
    assert where == [(2, 6), (4, 9), (3, 8)]  # centred
    inside = (slice(3, 6), slice(5, 9), slice(4, 8))
    np.testing.assert_allclose(outcome.arrays[0][inside], blurred(noisy())[inside], atol=0.51)


def test_statistics_of_the_images_themselves_are_undone_too(tmp_path: Path) -> None:
    steps = "[[network.prepare]]\ndo = 'z-score'\n[[network.prepare]]\ndo = 'scale'\nfactor = 3\noffset = -1"

    outcome = outcome_of(tmp_path, Blur(), noisy(), DENOISER.format(steps=steps, residual="false"))

    np.testing.assert_allclose(outcome.arrays[0], blurred(noisy()), atol=0.51)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('image = "denoised"', 'image = "other"', "there is no image other"),
        ('do = "range"', 'do = "range"\nover = "nonzero"', "steps that can be undone"),
    ],
)
def test_what_cannot_be_said_or_undone_is_refused_when_it_is_read(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    toml = DENOISER.format(steps="", residual="false")
    assert old in toml
    package(tmp_path, toml, {"net": b""})
    path = tmp_path / "model.toml"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")

    with pytest.raises(Misconfigured, match=said):
        load_manifest(path)


def test_a_channel_that_the_network_does_not_give_is_a_wrong_package(tmp_path: Path) -> None:
    toml = DENOISER.format(steps="", residual="false").replace("residual", "channel = 3\nresidual")
    with pytest.raises(Misconfigured, match="channel 3 is not there"):
        outcome_of(tmp_path, Blur(), noisy(), toml)


def test_images_without_contrast_are_refused(tmp_path: Path) -> None:
    steps = "[[network.prepare]]\ndo = 'range'"

    outcome = outcome_of(
        tmp_path, Blur(), np.full((4, 6, 6), 7, np.int16), DENOISER.format(steps=steps, residual="false")
    )

    assert outcome.prediction.status is Status.FAILED
    assert outcome.prediction.reason is not None
    assert "no contrast" in outcome.prediction.reason.text
