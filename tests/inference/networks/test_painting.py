"""Labels on the grid of the series: painted on both kinds of device, of few and many classes, in any orientation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from inference.algorithms.network import run
from inference.imaging.orient import Orientation
from inference.networks import between
from inference.networks.between import able, paint_between
from inference.networks.labels import Classes, softmax
from inference.networks.launched import paint_launched
from inference.networks.painting import paint
from inference.networks.way import Axis, Way
from inference.networks.windows import Slab
from inference.packages.network import Segmentation
from inference.pipeline import Request, predict
from inference.runtime import Runtime
from tests import builders
from tests.inference.networks.making import RESAMPLED, package, volume_of
from tests.inference.networks.test_segment import SCRIPTED, scripted
from tests.inference.series import series_of, write

CPU = torch.device("cpu")
Values = npt.NDArray[np.float32]
ORIENTATIONS = (
    Orientation(axes=(0, 1, 2), flipped=(False, False, False)),
    Orientation(axes=(2, 1, 0), flipped=(True, False, True)),
    Orientation(axes=(1, 0, 2), flipped=(False, True, True)),
)


def way_of(source: tuple[int, int, int], size: tuple[int, int, int], orientation: Orientation, *, cut: bool) -> Way:
    """From a grid to another one, perhaps with something cut off first."""
    axes = []
    for old, new in zip(source, size, strict=True):
        axis = Axis.of(old).cut(1, old - 2) if cut else Axis.of(old)
        axes.append(axis.stretch(new, new / axis.size, edges=True))
    return Way(orientation=orientation, axes=(axes[0], axes[1], axes[2]))


def smooth(classes: int, size: tuple[int, int, int], seed: int, sharpness: float) -> Values:
    """Values of classes that change slowly, so that there are insides and borders."""
    noise = np.random.default_rng(seed).normal(size=(classes, *size))
    noise = ndimage.gaussian_filter(noise, (0, 1, 1, 1)).astype(np.float32)
    return np.asarray(torch.softmax(torch.from_numpy(noise) * sharpness, 0).numpy())


def slabs_of(values: Values, rows: int) -> list[Slab]:
    return [
        Slab(first=first, values=torch.from_numpy(values[:, first : first + rows].copy()))
        for first in range(0, values.shape[1], rows)
    ]


def classes_of(count: int, kind: str) -> Classes:
    table: dict[str, Any] = {"segments": tuple(range(count)), "activation": "softmax"}
    if kind != "competing":
        numbers = tuple(range(1, count + 1))
        table = {"segments": numbers, "activation": "sigmoid", "threshold": 1.5 / count}
    output = Segmentation.model_validate({"kind": "segmentation", **table, "overlapping": kind == "overlapping"})
    return Classes(output, as_logits=False, device=CPU)


@settings(max_examples=40, deadline=None)
@given(
    classes=st.sampled_from([2, 5, 12, 60]),
    kind=st.sampled_from(["competing", "later", "overlapping"]),
    source=st.tuples(*[st.integers(5, 23)] * 3),
    size=st.tuples(*[st.integers(1, 13)] * 3),
    orientation=st.sampled_from(ORIENTATIONS),
    cut=st.booleans(),
    rows=st.integers(1, 13),
    sharpness=st.sampled_from([3.0, 60.0]),
    dense=st.sampled_from([0.0, 0.2, 1.0]),
)
def test_both_kinds_of_device_paint_what_interpolating_every_class_gives(
    classes: int, kind: str, source: Any, size: Any, orientation: Orientation, cut: bool, rows: int,
    sharpness: float, dense: float,
) -> None:  # fmt: skip
    values, way = smooth(classes, size, sum(source), sharpness), way_of(source, size, orientation, cut=cut)
    of = classes_of(classes, kind)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(between, "DENSE", dense)
        patch.setattr(between, "TOGETHER", 2)
        patch.setattr(between, "IN_CACHE", 64)
        found = paint(iter(slabs_of(values, rows)), way, of, nearest=False)
    launched = np.zeros(way.turned, of.dtype)
    paint_launched(slabs_of(values, rows), way, of, launched)

    plain = np.stack([way.orientation.apply(one) for one in way.back(values)])
    expected = of.numbers(of.found(plain))
    seen = tuple(slice(axis.first, axis.stop) for axis in way.axes)
    turned = way.orientation.apply(found)
    assert found.flags.c_contiguous
    assert found.dtype == of.dtype
    assert np.mean(turned[seen] == expected[seen]) > 0.995  # where two classes are equal to the last digit
    assert np.mean(launched[seen] == expected[seen]) > 0.995
    assert np.count_nonzero(turned) == np.count_nonzero(turned[seen])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), classes=st.sampled_from([9, 40]), sharpness=st.sampled_from([1.0, 10.0, 80.0]))
def test_no_class_that_can_win_is_left_out_and_one_that_cannot_is(seed: int, classes: int, sharpness: float) -> None:
    values = smooth(classes, (2, 6, 7), seed, sharpness)
    low, high = np.concatenate([values, values - 2]).swapaxes(0, 1)
    chosen = able(low, high, np.union1d(low.argmax(0), high.argmax(0)))

    fine = np.linspace(0, 1, 5, dtype=np.float32)
    winners = set()
    for weight in fine:
        row = low + (high - low) * weight
        for part in fine:
            line = row[:, :-1] + (row[:, 1:] - row[:, :-1]) * part
            for share in fine:
                winners |= set((line[:, :, :-1] + (line[:, :, 1:] - line[:, :, :-1]) * share).argmax(0).ravel())
    assert winners <= set(chosen)
    assert max(chosen) < classes


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_nearest_labels_are_those_of_each_voxels_nearest(orientation: Orientation) -> None:
    values, way = smooth(7, (6, 5, 9), 1, 30), way_of((13, 17, 12), (6, 5, 9), orientation, cut=True)
    of = classes_of(7, "competing")

    found = way.orientation.apply(paint(iter(slabs_of(values, 2)), way, of, nearest=True))

    coarse = values.argmax(0)
    for index in np.ndindex(*found.shape):
        is_seen = all(axis.first <= i < axis.stop for i, axis in zip(index, way.axes, strict=True))
        places = [int(np.floor(axis.positions()[i] + 0.5)) for i, axis in zip(index, way.axes, strict=True)]
        assert found[index] == (coarse[tuple(places)] if is_seen else 0)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_an_answer_on_the_grid_of_the_series_is_only_turned_back(orientation: Orientation) -> None:
    values = smooth(5, (6, 5, 9), 4, 30)
    axes = tuple(Axis.of(size) for size in values.shape[1:])
    way = Way(orientation=orientation, axes=(axes[0], axes[1], axes[2]))

    found = paint(iter(slabs_of(values, 2)), way, classes_of(5, "competing"), nearest=False)

    assert found.flags.c_contiguous
    assert np.array_equal(found, orientation.undo(values.argmax(0)))


def test_probabilities_in_place_are_those_of_torch() -> None:
    logits = torch.randn(30, 4, 5, generator=torch.Generator().manual_seed(1)) * 40
    found = logits.numpy().copy()

    softmax(found)

    np.testing.assert_allclose(found, torch.softmax(logits, 0).numpy(), rtol=2e-6, atol=1e-30)


def test_an_answer_is_painted_before_the_next_one_is_asked_for() -> None:
    values, way = smooth(3, (8, 6, 6), 2, 30), way_of((16, 12, 12), (8, 6, 6), ORIENTATIONS[0], cut=False)
    of = classes_of(3, "competing")
    room = torch.empty(3, 2, 6, 6)

    def overwritten() -> Any:
        for slab in slabs_of(values, 2):
            room.copy_(slab.values)
            yield Slab(first=slab.first, values=room)

    again, once = np.zeros(way.turned, np.uint8), np.zeros(way.turned, np.uint8)
    paint_between(overwritten(), way, of, again)
    paint_between(slabs_of(values, 8), way, of, once)

    assert np.array_equal(again, once)


MANY = 300
TABLE = (
    RESAMPLED
    + """\
[network.output]
kind = "segmentation"
activation = "softmax"
segments = {segments}
back = "{back}"
clean = [{{ do = "largest", segments = [290] }}]
measures = [{{ key = "part", segments = [290] }}]
"""
)


class Levels(torch.nn.Module):
    """As many classes as wanted: that of a voxel is its value in tens."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return -((image / 10 - torch.arange(MANY + 1.0)[:, None, None, None]) ** 2)


@pytest.mark.parametrize("back", ["labels", "logits"])
def test_more_segments_than_a_byte_can_number_reach_the_mask(tmp_path: Path, back: str) -> None:
    voxels = np.zeros((12, 20, 24), np.int16)
    voxels[2:10, 2:10, 2:11] = 2900
    voxels[2:10, 12:18, 13:22] = 2600
    voxels[11, 19, 23] = 2900
    table = SCRIPTED + TABLE.format(segments=list(range(MANY + 1)), back=back)
    weights = {"net": scripted(Levels(), 8, 8, 8)}
    made = package(tmp_path / "p", table, weights, segments=MANY, measurements=("part",))
    paths = tuple(write(tmp_path / "s", series_of(voxels, 1.5, 1.5, sop_class=builders.CT)))

    raw = run(volume_of(voxels, (1.5, 1.5, 1.5)), made, Runtime(device="cpu"))
    outcome = predict(Request(key="k", study_uid="1", series_uid="2", revision=0, paths=paths), made, Runtime())

    expected = voxels // 10
    expected[11, 19, 23] = 0  # what is not the largest part
    for mask in (raw.mask, outcome.mask):
        assert mask is not None
        assert mask.dtype == np.uint16
        assert np.array_equal(mask, expected)
    assert raw.values == {"part": pytest.approx(8 * 8 * 9 * 1.5**3 / 1000)}
