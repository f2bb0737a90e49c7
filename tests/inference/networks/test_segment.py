"""A mask on the series' own grid, the same as interpolating every class everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.algorithms.network import run
from inference.networks.clean import clean
from inference.networks.forward import maps
from inference.networks.labels import winners
from inference.networks.segment import segment
from inference.packages.network import Clean, Segmentation
from inference.runtime import Runtime
from storage.facts.errors import Misconfigured, Rejected
from tests.inference.networks.making import network_of, nothing, opened, package, volume_of

Tensor = torch.Tensor


class Mixed(torch.nn.Module):
    """Three smooth classes that depend on the image."""

    def forward(self, image: Tensor) -> Tensor:
        smooth = torch.nn.functional.avg_pool3d(image, 3, 1, 1)
        return torch.cat([0.3 - smooth, smooth * smooth, 0.2 * torch.sin(5 * smooth)], dim=1)


def output_of(**table: Any) -> Segmentation:
    return Segmentation.model_validate(
        {"kind": "segmentation", "activation": "softmax", "segments": (0, 1, 2), **table}
    )


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 999),
    spacing=st.tuples(*[st.floats(0.6, 2.0)] * 3),
    letters=st.sampled_from(["SPL", "RAS", "LIA"]),
    average=st.sampled_from(["logits", "probabilities"]),
    activation=st.sampled_from(["softmax", "sigmoid"]),
    windowed=st.booleans(),
    coarse=st.sampled_from([None, 1.5]),
)
def test_labels_are_those_of_interpolating_every_class(
    seed: int, spacing: Any, letters: str, average: str, activation: str, windowed: bool, coarse: float | None
) -> None:
    voxels = np.random.default_rng(seed).normal(size=(9, 11, 10)).astype(np.float32)
    voxels[:2] = 0
    volume = volume_of(voxels, spacing)
    segments = (0, 1, 2) if activation == "softmax" else (1, 2, 3)
    output = output_of(activation=activation, segments=segments, threshold=0.55)
    network = network_of(
        prepare=[
            {"do": "orient", "to": letters},
            {"do": "crop"},
            {"do": "resample", "spacing": (1.2, 1.0, 0.8), "coarse": coarse},
        ],
        windows={"size": (5, 6, 5)} if windowed else {"multiple": 4},
        average=average,
        output=output,
    )
    ready = opened(volume, network, Mixed())

    (mask,) = segment(ready, output, nothing, volume.voxel_ml)

    bare = network.model_copy(update={"output": output})
    values = _maps(opened(volume, bare, Mixed()))
    whole = ready.way.back(values)
    if activation == "softmax":
        expected = whole.argmax(axis=0).astype(np.uint8)
    else:
        expected = np.zeros(voxels.shape, np.uint8)
        for number, value in zip(segments, whole, strict=True):
            expected[value >= 0.55] = number
    assert np.mean(mask == expected) > 0.998  # where two classes are equal to the last digit, either may win
    assert mask.shape == voxels.shape


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), back=st.sampled_from(["probabilities", "logits", "labels"]), same=st.booleans())
def test_overlapping_segments_are_each_that_of_its_own_channel(seed: int, back: str, same: bool) -> None:
    voxels = np.random.default_rng(seed).normal(size=(7, 9, 8)).astype(np.float32)
    volume = volume_of(voxels, (1.0, 1.3, 1.1))
    given_way: dict[str, Any] = {} if same else {"prepare": [{"do": "resample", "spacing": (1.2, 1.0, 0.8)}]}
    numbers = (2, 3, 1)
    together = output_of(activation="sigmoid", segments=numbers, threshold=0.52, back=back, overlapping=True)
    found = segment(opened(volume, network_of(**given_way, output=together), Mixed()), together, nothing, 1.0)
    for number in numbers:
        alone = output_of(activation="sigmoid", segments=(1,), threshold=0.52, back=back)

        class Only(torch.nn.Module):
            """The channel alone."""

            def forward(self, image: Tensor, at: int = numbers.index(number)) -> Tensor:
                return Mixed()(image)[:, at : at + 1]  # type: ignore[no-any-return]

        ready = opened(volume, network_of(**given_way, output=alone), Only())
        (expected,) = segment(ready, alone, nothing, 1.0)
        assert np.array_equal(np.logical_or.reduce([labels == number for labels in found]), expected > 0)


class Many(torch.nn.Module):
    """As many smooth channels as wanted, each brightest at another value of the image."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.places = torch.linspace(-0.5, 0.5, count)[:, None, None, None]

    def forward(self, image: Tensor) -> Tensor:
        smooth = torch.nn.functional.avg_pool3d(image, 3, 1, 1)
        return 1 - 2 * (smooth - self.places).abs()


@pytest.mark.parametrize("count", [9, 17, 40, 62])
def test_more_overlapping_segments_than_a_byte_has_bits_keep_all_of_them(count: int) -> None:
    voxels = np.random.default_rng(count).normal(size=(8, 11, 10)).astype(np.float32)
    volume = volume_of(voxels, (1.0, 1.3, 1.1))
    numbers = tuple(range(1, count + 1))
    output = output_of(activation="none", exclusive=False, segments=numbers, threshold=0.4, overlapping=True)
    network = network_of(prepare=[{"do": "resample", "spacing": (1.2, 1.0, 0.8)}], output=output)
    ready = opened(volume, network, Many(count))

    found = segment(ready, output, nothing, 1.0)

    expected = ready.way.back(_maps(opened(volume, network, Many(count)))) >= 0.4
    assert expected[-1].any()
    for number, one in enumerate(expected, start=1):
        marked = np.logical_or.reduce([labels == number for labels in found])
        assert np.mean(marked == one) > 0.998


def _maps(ready: Any) -> Any:
    from inference.networks.forward import activated, stream

    with torch.inference_mode():
        parts = [activated(ready.network, slab.values, 0).clone() for slab in stream(ready, nothing, averaged=True)]
    return torch.cat(parts, dim=1).numpy()


@pytest.mark.parametrize("back", ["probabilities", "logits", "labels"])
def test_the_volume_of_a_structure_survives_another_voxel_size(back: str) -> None:
    z, y, x = np.meshgrid(*(np.arange(n) - n / 2 for n in (40, 50, 60)), indexing="ij")
    ball = (z * 1.5) ** 2 + y**2 + (x * 0.8) ** 2 < 15**2
    volume = volume_of((ball * 100).astype(np.int16), (1.5, 1.0, 0.8))
    output = output_of(segments=(0, 1), back=back)
    network = network_of(
        prepare=[{"do": "orient", "to": "RAS"}, {"do": "resample", "spacing": (1.0, 1.0, 1.0)}],
        output=output,
        average="logits",
    )

    class Bright(torch.nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.cat([50 - image, image - 50], dim=1) / 20

    (mask,) = segment(opened(volume, network, Bright()), output, nothing, volume.voxel_ml)

    assert np.count_nonzero(mask) == pytest.approx(np.count_nonzero(ball), rel=0.01)


def test_what_was_cut_off_is_background() -> None:
    voxels = np.zeros((8, 8, 8), np.int16)
    voxels[2:5, 3:6, 1:7] = 9
    output = output_of(segments=(2, 1))
    network = network_of(prepare=[{"do": "crop"}], output=output)

    class First(torch.nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.cat([image * 0 + 1, image * 0], dim=1)

    (mask,) = segment(opened(volume_of(voxels), network, First()), output, nothing, 0.001)

    assert (mask == np.where(voxels > 0, 2, 0)).all()


def test_mirrors_and_models_are_averaged() -> None:
    class Ramp(torch.nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, image: Tensor) -> Tensor:
            return image * self.factor * torch.arange(image.shape[4])

    voxels = np.random.default_rng(2).random((4, 5, 6)).astype(np.float32)
    network = network_of(mirror=(0, 2), average="logits")

    found = _maps(opened(volume_of(voxels), network, Ramp(1.0), Ramp(3.0)))

    places = np.arange(6)
    np.testing.assert_allclose(found[0], voxels * 2 * (places + places[::-1]) / 2, rtol=1e-5)


def test_a_network_that_gives_no_numbers_is_rejected() -> None:
    class Broken(torch.nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.cat([image / 0, image, image], dim=1)

    output = output_of()
    ready = opened(volume_of(np.zeros((4, 4, 4), np.int16)), network_of(output=output), Broken())
    with pytest.raises(Rejected, match="no numbers"):
        segment(ready, output, nothing, 0.001)


@pytest.mark.parametrize(("channels", "said"), [(2, "gives 2 classes"), (3, "as many voxels as it gets")])
def test_an_answer_of_another_shape_is_named(channels: int, said: str) -> None:
    class Other(torch.nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image.expand(1, channels, 4, 4, 4) if channels == 2 else image.expand(1, 3, 4, 4, 4)[..., :2]

    output = output_of()
    ready = opened(volume_of(np.ones((4, 4, 4), np.int16)), network_of(output=output), Other())
    with pytest.raises(Misconfigured, match=said):
        segment(ready, output, nothing, 0.001)


def test_segments_are_cleaned_each_by_itself_or_together() -> None:
    labels = np.zeros((7, 7, 9), np.uint8)
    labels[1:4, 1:4, 1:4] = 1
    labels[2, 2, 2] = 0  # a hole
    labels[5, 5, 7] = 1  # a crumb
    labels[1, 1, 4] = 2  # touches segment 1
    labels[6, 6, 8] = 2

    def after(**step: Any) -> Any:
        return clean(labels, [Clean.model_validate(step)], voxel_ml=0.5)

    largest = after(do="largest", segments=(1,))
    assert (largest[5, 5, 7], largest[6, 6, 8], np.count_nonzero(largest == 1)) == (0, 2, 26)
    assert np.count_nonzero(after(do="at-least", ml=1.0, segments=(1, 2))) == 26
    together = after(do="at-least", ml=1.0, segments=(1, 2), together=True)
    assert (together[1, 1, 4], together[5, 5, 7], together[6, 6, 8]) == (2, 1, 2)
    assert after(do="fill-holes", segments=(1,))[2, 2, 2] == 1
    assert labels[2, 2, 2] == 0


SCRIPTED = """
[network]
[[network.models]]
weights = "net"
format = "torchscript"
"""


def scripted(module: torch.nn.Module, *size: int) -> bytes:
    import io
    import warnings

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(module, torch.zeros(1, 1, *size), check_trace=False), buffer)
    return buffer.getvalue()


def test_a_regression_is_a_measurement(tmp_path: Any) -> None:
    class Mean(torch.nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.stack([image.mean((1, 2, 3, 4)), image.amax((1, 2, 3, 4))], dim=1)

    table = '[network.output]\nkind = "regression"\nkeys = ["age", "most"]\nscale = [2.0, 1.0]\noffset = [1.0, 0.0]\n'
    made = package(tmp_path, SCRIPTED + table, {"net": scripted(Mean(), 4, 4, 4)}, measurements=("age", "most"))
    voxels = np.arange(64, dtype=np.int16).reshape(4, 4, 4)

    raw = run(volume_of(voxels), made, Runtime(device="cpu"))

    assert raw.values == {"age": 64.0, "most": 63.0}
    assert raw.mask is None


def test_statistics_are_of_the_series_own_values(tmp_path: Any) -> None:
    class Bright(torch.nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.cat([0.5 - image, image - 0.5], dim=1)

    table = """[[network.prepare]]
do = "range"
low = 0
high = 100
[network.output]
kind = "segmentation"
activation = "softmax"
segments = [0, 1]
[[network.output.measures]]
key = "volume"
segments = [1]
[[network.output.measures]]
key = "mean"
segments = [1]
quantity = "mean"
"""
    made = package(
        tmp_path,
        SCRIPTED + table,
        {"net": scripted(Bright(), 4, 4, 4)},
        segments=1,
        measurements=("volume", "mean"),
    )
    voxels = np.zeros((5, 6, 7), np.int16)
    voxels[1, 2, 3:5] = [80, 90]

    raw = run(volume_of(voxels, (2.0, 1.0, 1.0)), made, Runtime(device="cpu"))

    assert raw.values == {"volume": pytest.approx(0.004), "mean": 85.0}
    assert raw.mask is not None
    assert raw.mask.sum() == 2
    assert raw.device == "cpu"


def test_other_algorithms_get_maps_and_the_way_back(tmp_path: Any) -> None:
    table = SCRIPTED + '[[network.prepare]]\ndo = "orient"\nto = "RAS"\n[network.output]\nkind = "bare"\n'
    made = package(tmp_path, table, {"net": scripted(torch.nn.Identity(), 4, 4, 4)})
    voxels = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)

    found = maps(volume_of(voxels), made, Runtime(device="cpu"))

    assert found.values.shape == (1, 6, 5, 4)
    np.testing.assert_allclose(found.on_source()[0], voxels)
    assert found.way.point((0.0, 0.0, 0.0)) == (0.0, 4.0, 5.0)


def test_the_winner_is_that_of_argmax_and_the_first_of_equals() -> None:
    values = torch.randint(0, 4, (25, 5, 6, 7), generator=torch.Generator().manual_seed(1)).float()
    first = values.numpy().argmax(axis=0)

    assert (winners(values).numpy() == first).all()
    assert (winners(values.double()).numpy() == first).all()  # the way of other devices and types
