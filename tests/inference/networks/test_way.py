"""There and back: what a step does to the voxels is undone for the answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from inference.imaging.irregular import Irregular
from inference.imaging.resample import resize
from inference.networks.prepare import prepare
from storage.facts.errors import Misconfigured
from tests.inference.networks.making import network_of, volume_of

CPU = torch.device("cpu")


def rotations() -> st.SearchStrategy[np.ndarray[Any, Any]]:
    """A permutation of axes with signs, and up to 20 degrees off."""

    def make(order: list[int], signs: list[int], angles: list[float]) -> np.ndarray[Any, Any]:
        turned = np.eye(3)[order] * signs
        for axis, angle in enumerate(angles):
            a, b = [i for i in range(3) if i != axis]
            turn = np.eye(3)
            turn[[a, a, b, b], [a, b, a, b]] = [np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)]
            turned = turn @ turned
        return turned

    return st.builds(
        make,
        st.permutations([0, 1, 2]),
        st.lists(st.sampled_from([-1, 1]), min_size=3, max_size=3),
        st.lists(st.floats(-0.35, 0.35), min_size=3, max_size=3),
    )


@settings(max_examples=60, deadline=None)
@given(
    rotation=rotations(),
    spacing=st.tuples(*[st.floats(0.5, 4.0)] * 3),
    size=st.tuples(*[st.integers(12, 24)] * 3),
    wanted=st.tuples(*[st.floats(0.8, 2.5)] * 3),
    letters=st.sampled_from(["RAS", "LPS", "SPL", "LIA", "ASR"]),
    extent=st.sampled_from(["edges", "centres"]),
    fit=st.tuples(*[st.sampled_from([0, 40, 90])] * 3),
    seed=st.integers(0, 9999),
)
def test_a_marker_comes_back_to_its_place_in_the_patient(
    rotation: Any, spacing: Any, size: Any, wanted: Any, letters: str, extent: str, fit: Any, seed: int
) -> None:
    random = np.random.default_rng(seed)
    marker = [int(random.integers(3, n - 3)) for n in size]
    voxels = np.zeros(size, np.int16)
    voxels[tuple(slice(m - 2, m + 3) for m in marker)] = 100
    volume = volume_of(voxels, spacing, rotation)
    network = network_of(
        prepare=[
            {"do": "orient", "to": letters},
            {"do": "crop", "margin": 2},
            {"do": "resample", "spacing": wanted, "extent": extent},
            *([{"do": "pad", "size": fit}] if any(fit) else []),
        ]
    )

    prepared = prepare(volume, network, CPU)

    seen = prepared.image[0].numpy()
    centre = ndimage.center_of_mass(seen)
    there = prepared.way.affine(volume.affine) @ [*centre, 1.0]
    here = volume.affine @ [*marker, 1.0]
    assert np.linalg.norm((there - here)[:3]) < 0.5 * max(*spacing, *wanted)
    back = prepared.way.back(prepared.image.numpy())[0]
    assert back.shape == voxels.shape
    returned = volume.affine @ [*ndimage.center_of_mass(back), 1.0]
    assert np.linalg.norm((returned - here)[:3]) < 0.5 * max(*spacing, *wanted)


def test_a_second_resampling_starts_from_what_voxels_measure_and_not_from_what_was_wanted_of_them() -> None:
    volume = volume_of(np.zeros((5, 4, 4), np.int16), (3.0, 1.0, 1.0))
    steps = [
        {"do": "resample", "spacing": [4.0, 0, 0]},
        {"do": "resample", "spacing": [0.5, 0, 0], "extent": "centres"},
    ]

    way = prepare(volume, network_of(prepare=steps), CPU).way

    assert np.linalg.norm(way.affine(volume.affine)[:3, 0]) == pytest.approx(0.5)  # in between 15 mm were 4 voxels


def test_the_steps_of_a_standard_axial_series_are_those_of_a_reference() -> None:
    voxels = np.random.default_rng(1).integers(-1000, 1000, (6, 8, 10)).astype(np.int16)
    network = network_of(
        prepare=[
            {"do": "orient", "to": "RAS"},
            {"do": "range", "low": -500, "high": 500, "to": [-1, 1]},
            {"do": "fit", "size": [12, 6, 6], "fill": -1},
        ]
    )

    found = prepare(volume_of(voxels), network, CPU).image[0].numpy()

    turned = voxels.transpose(2, 1, 0)[::-1, ::-1].astype(np.float32)  # left to right, back to front
    expected = np.pad(np.clip(turned / 500, -1, 1)[:, 1:7], ((1, 1), (0, 0), (0, 0)), constant_values=-1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ({"do": "clip", "low": 1, "high": 3}, [1, 1, 2, 3, 3]),
        ({"do": "clip", "quantiles": [0.25, 0.75]}, [1, 1, 2, 3, 3]),
        ({"do": "range"}, [0, 0.25, 0.5, 0.75, 1]),
        ({"do": "range", "low": 1, "high": 3, "clip": False}, [-0.5, 0, 0.5, 1, 1.5]),
        ({"do": "range", "quantiles": [0.25, 0.75], "over": "nonzero"}, [0, 0, 1 / 6, 5 / 6, 1]),
        ({"do": "z-score", "mean": 2, "deviation": 2}, [-1, -0.5, 0, 0.5, 1]),
        ({"do": "z-score"}, (np.arange(5) - 2) / np.sqrt(2)),
        ({"do": "z-score", "over": "nonzero"}, [0, *((np.arange(1, 5) - 2.5) / np.sqrt(1.25))]),
        ({"do": "scale", "factor": 2, "offset": 1}, [1, 3, 5, 7, 9]),
    ],
)
def test_values_become_what_the_step_says(step: dict[str, Any], expected: list[float]) -> None:
    voxels = np.arange(5, dtype=np.int16).reshape(5, 1, 1)
    if step.get("over") == "nonzero" and "quantiles" in step:
        expected = list(np.clip((np.arange(5) - 1.75) / 1.5, 0, 1))

    found = prepare(volume_of(voxels), network_of(prepare=[step]), CPU).image.numpy().ravel()

    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_foreground_is_what_any_channel_shows_with_its_holes() -> None:
    voxels = np.zeros((5, 5, 5), np.int16)
    voxels[1:4, 1:4, 1:4] = 4
    voxels[2, 2, 2] = 0
    step = {"do": "z-score", "over": "foreground"}

    found = prepare(volume_of(voxels), network_of(prepare=[step]), CPU).image[0].numpy()

    inside = voxels[1:4, 1:4, 1:4]
    np.testing.assert_allclose(found[1:4, 1:4, 1:4], (inside - inside.mean()) / inside.std(), atol=1e-5)
    assert found[0].max() == found[0].min() == 0


def test_channels_are_the_roles_in_their_order() -> None:
    voxels = np.ones((4, 5, 6), np.int16)
    flair = np.full((4, 5, 6), 7, np.float32)
    network = network_of(channels=[{"role": "flair"}, {}], prepare=[{"do": "scale", "factor": 2, "channels": [1]}])

    image = prepare(volume_of(voxels, flair=flair), network, CPU).image

    assert image.shape == (2, 4, 5, 6)
    assert (image[0].unique().tolist(), image[1].unique().tolist()) == ([7.0], [2.0])
    with pytest.raises(Misconfigured, match="declare it under"):
        prepare(volume_of(voxels), network, CPU)


def test_an_empty_image_leaves_nothing_to_crop_to() -> None:
    with pytest.raises(Irregular, match="empty"):
        prepare(volume_of(np.zeros((4, 4, 4), np.int16)), network_of(prepare=[{"do": "crop"}]), CPU)


def test_spacing_that_asks_for_too_much_is_refused_before_memory_is_taken() -> None:
    step = {"do": "resample", "spacing": [0.05, 0.05, 0.05]}
    with pytest.raises(Irregular, match="more than"):
        prepare(volume_of(np.zeros((90, 90, 90), np.int16), (10, 10, 10)), network_of(prepare=[step]), CPU)


@pytest.mark.parametrize("coarse", [None, 0])
def test_spline_is_what_scikit_image_and_nnunet_compute(coarse: int | None) -> None:
    image = torch.rand(1, 6, 9, 8)

    found = resize(image, (9, 6, 12), "spline", coarse)[0].numpy()

    source = image[0].numpy().astype(np.float64)
    z, y, x = (((np.arange(new) + 0.5) * old / new - 0.5) for new, old in zip((9, 6, 12), (6, 9, 8), strict=True))
    if coarse == 0:
        places = np.meshgrid(y, x, indexing="ij")
        planes = [ndimage.map_coordinates(plane, places, order=3, mode="nearest") for plane in source]
        expected = np.stack([planes[min(5, int(np.floor(k + 0.5)))] for k in z])
    else:
        expected = ndimage.map_coordinates(source, np.meshgrid(z, y, x, indexing="ij"), order=3, mode="nearest")
    np.testing.assert_allclose(found, np.clip(expected, source.min(), source.max()), atol=1e-4)
