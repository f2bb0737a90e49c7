"""Boxes of maps and of networks that give boxes: joined over windows, fused over models and mirrors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from inference.algorithms.network import run
from inference.algorithms.raw import Box
from inference.runtime import Runtime
from storage.facts.errors import Misconfigured
from tests.inference.manifests import MASS, detection
from tests.inference.networks.making import package, volume_of
from tests.inference.networks.test_segment import scripted

Tensor = torch.Tensor
ENTRY = detection("lump", "Lump", MASS)
SHAPE = (12, 20, 18)
LUMP = (slice(4, 8), slice(9, 14), slice(2, 5))
EDGES = ((3.5, 8.5, 1.5), (7.5, 13.5, 4.5))


class Marking(torch.nn.Module):
    """Two maps, background and what is bright, moved along the last axis."""

    def __init__(self, moved: int = 0, chance: float = 0.9) -> None:
        super().__init__()
        self._moved, self._chance = moved, chance

    def forward(self, image: Tensor) -> Tensor:
        marked = (image.roll(self._moved, -1) > 0.5).float() * self._chance
        return torch.cat([1 - marked, marked], dim=1)


class Boxing(torch.nn.Module):
    """Of each window the box of all that is bright, its chance the largest value there, and a candidate of nothing."""

    def __init__(self, *, centre: bool = False, reverse: bool = False, lean: float = 0.0) -> None:
        super().__init__()
        self._centre, self._reverse, self._lean = centre, reverse, lean

    def forward(self, image: Tensor) -> Tensor:
        bright = image[:, 0] > 0.5
        count = bright.ndim - 1
        lows, highs = [], []
        for axis in range(1, bright.ndim):
            others = [a for a in range(1, bright.ndim) if a != axis]
            along = bright.amax(dim=others)
            places = torch.arange(along.shape[1])
            lows.append(torch.where(along, places, 999).amin(dim=1))
            highs.append(torch.where(along, places + 1, 0).amax(dim=1))
        low, high = torch.stack(lows, 1).float(), torch.stack(highs, 1).float() + self._lean
        if self._centre:
            low, high = (low + high) / 2, high - low
        if self._reverse:
            low, high = low.flip(1), high.flip(1)
        chance = (
            image.amax(dim=[1, *range(2, image.ndim)])[:, None] * bright.amax(dim=list(range(1, count + 1)))[:, None]
        )
        found = torch.cat([low, high, chance], dim=1)
        return torch.stack([found, torch.zeros_like(found)], dim=1)


def voxels(chance: float = 0.9) -> npt.NDArray[np.float32]:
    made = np.zeros(SHAPE, np.float32)
    made[LUMP] = chance
    return made


def found(
    folder: Path,
    output: str,
    *modules: tuple[torch.nn.Module, tuple[int, ...]],
    network: str = "",
    seen: npt.NDArray[np.float32] | None = None,
) -> list[Box]:
    """Boxes of an ensemble in a volume with one bright lump."""
    names = [f"net{n}" for n in range(len(modules))]
    models = "".join(f'[[network.models]]\nweights = "{name}"\nformat = "torchscript"\n' for name in names)
    toml = f'[network]\n{network}\n{models}[network.output]\nkind = "detection"\n{output}\n{ENTRY}'
    weights = {name: scripted(module, *size) for name, (module, size) in zip(names, modules, strict=True)}
    made = package(folder, toml, weights)
    return list(run(volume_of(voxels() if seen is None else seen), made, Runtime(device="cpu")).boxes)


WHOLE = (12, 20, 18)
MAPS = 'activation = "none"\nkeys = ["", "lump"]'
BOXES = 'form = "boxes"\nactivation = "none"\nkeys = ["lump"]'


def require_lump(boxes: list[Box], score: float = 0.9) -> None:
    [box] = boxes
    assert box.low == pytest.approx(EDGES[0])
    assert box.high == pytest.approx(EDGES[1])
    assert box.score == pytest.approx(score)


def test_maps_of_an_ensemble_are_averaged_unless_fusion_is_declared(tmp_path: Path) -> None:
    models = ((Marking(), WHOLE), (Marking(moved=1, chance=0.3), WHOLE))

    [averaged] = found(tmp_path / "mean", MAPS, *models)
    [fused] = found(tmp_path / "fused", f"{MAPS}\nfuse = 0.3", *models)

    assert (averaged.low[2], averaged.high[2]) == (1.5, 5.5)  # the union, for 0.15 is still a candidate
    assert fused.low[2] == pytest.approx((0.9 * 1.5 + 0.3 * 2.5) / 1.2)
    assert fused.high[2] == pytest.approx((0.9 * 4.5 + 0.3 * 5.5) / 1.2)
    assert fused.score == pytest.approx((0.9 + 0.3) / 2)


def test_what_one_of_two_models_alone_sees_is_half_as_probable(tmp_path: Path) -> None:
    [box] = found(tmp_path, f"{MAPS}\nfuse = 0.3", (Marking(), WHOLE), (Marking(chance=0.0), WHOLE))

    assert box.score == pytest.approx(0.45)


@pytest.mark.parametrize("output", [f"{MAPS}\nfuse = 0.5", BOXES])
def test_mirrors_see_the_same_thing_in_the_same_place(tmp_path: Path, output: str) -> None:
    module = Marking() if "maps" in output or "form" not in output else Boxing()

    require_lump(found(tmp_path, output, (module, WHOLE), network="mirror = [0, 1, 2]"))


@pytest.mark.parametrize(
    ("more", "module"),
    [
        ("", Boxing()),
        ('corners = "centre"', Boxing(centre=True)),
        ('axes = "reversed"', Boxing(reverse=True)),
        ('corners = "centre"\naxes = "reversed"', Boxing(centre=True, reverse=True)),
    ],
)
def test_boxes_are_read_as_the_package_says(tmp_path: Path, more: str, module: torch.nn.Module) -> None:
    require_lump(found(tmp_path, f"{BOXES}\n{more}", (module, WHOLE)))


def test_boxes_of_windows_that_overlap_become_one(tmp_path: Path) -> None:
    windows = "[network.windows]\nsize = [10, 12, 10]\noverlap = 0.6\nbatch = 3"
    size = (10, 12, 10)

    every = found(tmp_path / "all", f"{BOXES}\nsuppress = 0.99", (Boxing(), size), network=windows)
    best = found(tmp_path / "best", f"{BOXES}\nsuppress = 0.2", (Boxing(), size), network=windows)

    assert len(every) > 1  # windows that see a part of it
    assert any(box.low == pytest.approx(EDGES[0]) and box.high == pytest.approx(EDGES[1]) for box in every)
    assert len(best) == 1


def test_boxes_of_an_ensemble_are_fused_by_their_weight(tmp_path: Path) -> None:
    [box] = found(tmp_path, f"{BOXES}\nfuse = 0.4", (Boxing(), WHOLE), (Boxing(lean=1.0), WHOLE))

    assert box.low == pytest.approx(EDGES[0])
    assert box.high == pytest.approx([edge + 0.5 for edge in EDGES[1]])
    assert box.score == pytest.approx(0.9)


def test_boxes_in_planes_stay_in_their_plane(tmp_path: Path) -> None:
    boxes = found(
        tmp_path, BOXES, (Boxing(), (20, 18)), network="mirror = [1]\n[network.windows]\ndimensions = 2\nbatch = 5"
    )

    assert sorted(box.low[0] for box in boxes) == [4, 5, 6, 7]
    for box in boxes:
        assert box.low[0] == box.high[0]
        assert box.low[1:] == pytest.approx(EDGES[0][1:])
        assert box.high[1:] == pytest.approx(EDGES[1][1:])


def test_boxes_return_to_a_series_that_lies_and_is_spaced_otherwise(tmp_path: Path) -> None:
    steps = """[[network.prepare]]
do = "orient"
to = "LPI"
[[network.prepare]]
do = "resize"
size = [36, 40, 24]
interpolation = "nearest"
"""

    require_lump(found(tmp_path, BOXES, (Boxing(), (36, 40, 24)), network=steps))


def test_candidates_that_are_improbable_or_have_no_extent_are_dropped(tmp_path: Path) -> None:
    assert found(tmp_path / "weak", f"{BOXES}\nat_least = 0.95", (Boxing(), WHOLE)) == []
    assert found(tmp_path / "none", BOXES, (Boxing(), WHOLE), seen=np.zeros(SHAPE, np.float32)) == []
    assert found(tmp_path / "small", f"{BOXES}\nsmallest = 61", (Boxing(), WHOLE)) == []
    assert len(found(tmp_path / "large", f"{BOXES}\nsmallest = 60", (Boxing(), WHOLE))) == 1


def test_another_number_of_values_than_declared_is_a_wrong_package(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="6 numbers of the corners and 2 of the kinds"):
        found(tmp_path, 'form = "boxes"\nactivation = "softmax"\nkeys = ["", "lump"]', (Boxing(), WHOLE))
