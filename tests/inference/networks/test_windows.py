"""Windows over a volume: the same answer as averaging everything at once, with one slab in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.networks.forward import Opened, open_network
from inference.networks.windows import importance, plan, slabs
from inference.packages.network import Windows
from inference.runtime import GaveWay, OutOfMemory, Runtime
from tests.inference.networks.making import nothing, package, volume_of
from tests.inference.networks.test_segment import SCRIPTED, scripted

Tensor = torch.Tensor


def whole(image: Tensor, run: torch.nn.Module, windows: Windows) -> Tensor:
    """Every window added into one array, then divided by the weights: the plain way."""
    cut = plan(image.shape[1:], windows)
    total = weights = None
    for first in cut.rows:
        for second, third in cut.columns:
            place = (slice(None), slice(*first), slice(*second), slice(*third))
            answer = run(image[place][None])[0]
            if total is None or weights is None:
                total = torch.zeros(answer.shape[0], *image.shape[1:])
                weights = torch.zeros(1, *image.shape[1:])
            weight = importance(answer.shape[1:], windows)
            total[place] += answer * weight
            weights[place] += weight
    assert total is not None
    assert weights is not None
    return total / weights


def gathered(image: Tensor, run: torch.nn.Module, windows: Windows) -> Tensor:
    found = []
    with torch.inference_mode():
        for slab in slabs(image, run, windows, nothing, averaged=True):
            assert slab.first == sum(part.shape[1] for part in found)
            found.append(slab.values.clone())
    return torch.cat(found, dim=1)


class Uneven(torch.nn.Module):
    """Answers that depend on where in the window a voxel lies, so that a wrong weight or place shows."""

    def forward(self, image: Tensor) -> Tensor:
        ramp = torch.linspace(0, 1, image.shape[2])[:, None, None] + torch.linspace(0, 2, image.shape[4])
        return torch.cat([image * ramp, image - ramp, image.roll(1, 3)], dim=1)


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(*[st.integers(6, 17)] * 3),
    window=st.tuples(*[st.integers(2, 6)] * 3),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.7]),
    steps=st.sampled_from(["regular", "even"]),
    blending=st.sampled_from(["gaussian", "constant"]),
    batch=st.integers(1, 5),
)
def test_slabs_give_what_averaging_everything_gives(
    size: tuple[int, int, int], window: tuple[int, int, int], overlap: float, steps: str, blending: str, batch: int
) -> None:
    windows = Windows.model_validate(
        {"size": window, "overlap": overlap, "steps": steps, "blending": blending, "batch": batch}
    )
    image = torch.rand(1, *size, generator=torch.Generator().manual_seed(3))

    torch.testing.assert_close(gathered(image, Uneven(), windows), whole(image, Uneven(), windows))


def test_windows_lie_where_monai_puts_them() -> None:
    monai = pytest.importorskip("monai.inferers.utils")
    image = torch.rand(1, 1, 21, 18, 30)
    windows = Windows(size=(8, 7, 9), overlap=0.4)

    theirs = monai.sliding_window_inference(image, (8, 7, 9), 1, Uneven(), overlap=0.4, mode="gaussian")

    torch.testing.assert_close(gathered(image[0], Uneven(), windows), theirs[0], rtol=1e-3, atol=1e-3)


def test_a_network_of_planes_sees_its_neighbours() -> None:
    class Difference(torch.nn.Module):
        def forward(self, planes: Tensor) -> Tensor:
            return torch.stack([planes[:, 0], planes[:, 2] - planes[:, 1]], dim=1)

    image = torch.rand(1, 7, 5, 6)
    windows = Windows(dimensions=2, neighbours=1, batch=3)

    found = gathered(image, Difference(), windows)

    before = torch.cat([image[0, :1], image[0, :-1]])
    after = torch.cat([image[0, 1:], image[0, -1:]])
    torch.testing.assert_close(found, torch.stack([before, after - image[0]]))


def test_planes_may_be_cut_too() -> None:
    class Ramp(torch.nn.Module):
        def forward(self, planes: Tensor) -> Tensor:
            return planes * torch.linspace(0.5, 1.5, planes.shape[3])

    image = torch.rand(1, 5, 9, 11)
    windows = Windows(dimensions=2, size=(4, 6), overlap=0.5, batch=2)

    found = gathered(image, Ramp(), windows)

    planes = [whole(image[:, k : k + 1], _lifted(Ramp()), Windows(size=(1, 4, 6), overlap=0.5)) for k in range(5)]
    torch.testing.assert_close(found, torch.cat(planes, dim=1))


def _lifted(module: torch.nn.Module) -> torch.nn.Module:
    class Lifted(torch.nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return module(image[:, :, 0])[:, :, None]

    return Lifted()


def test_a_run_can_make_way_between_windows() -> None:
    seen = 0

    def checkpoint() -> None:
        nonlocal seen
        seen += 1
        if seen == 3:
            raise GaveWay

    with pytest.raises(GaveWay):
        list(slabs(torch.rand(1, 8, 8, 8), Uneven(), Windows(size=(4, 4, 4)), checkpoint, averaged=True))
    assert seen == 3


@pytest.mark.parametrize(
    ("declared", "scale", "batch", "size"),
    [
        ({"batch": 4}, 0.5, 2, (8, 8, 8)),
        ({"batch": 4, "least": (4, 4, 8)}, 0.25, 1, (8, 8, 8)),
        ({"batch": 2, "least": (4, 4, 8)}, 0.25, 1, (4, 4, 8)),
    ],
)
def test_too_little_memory_means_smaller_batches_then_the_least_windows(
    tmp_path: Path, declared: dict[str, Any], scale: float, batch: int, size: tuple[int, int, int]
) -> None:
    windows = opened_at(tmp_path, declared, scale).network.windows

    assert (windows.batch, windows.size) == (batch, size)


def test_windows_that_nobody_validated_are_not_used() -> None:
    with pytest.raises(ValueError, match="least needs a size"):
        Windows(size=(8, 8, 8), least=(4, 4, 9))


def test_what_cannot_be_made_smaller_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutOfMemory, match="declares no least size"):
        opened_at(tmp_path, {}, 0.5)


def opened_at(folder: Path, declared: dict[str, Any], scale: float) -> Opened:
    """A network with windows of 8 x 8 x 8 opened after memory ran out."""
    lines = "".join(
        f"{key} = {list(value) if isinstance(value, tuple) else value}\n" for key, value in declared.items()
    )
    table = f'[network.windows]\nsize = [8, 8, 8]\n{lines}[network.output]\nkind = "bare"\n'
    made = package(folder, SCRIPTED + table, {"net": scripted(Uneven(), 8, 8, 8)})
    volume = volume_of(np.zeros((8, 9, 10), np.int16))
    return open_network(volume, made, Runtime(device="cpu", tile_scale=scale))
