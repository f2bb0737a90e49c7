"""A volume that is resampled part by part: bit for bit what resampling the whole gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.imaging import resample
from inference.networks.prepare import Prepared, prepare
from tests.inference.networks.making import network_of, volume_of
from tests.inference.networks.test_way import rotations

CPU = torch.device("cpu")
ALL = {"do": "crop", "above": -1e9}  # leaves everything, but has to see the whole before anything else is done


def both(volume: Any, steps: list[dict[str, Any]], **more: Any) -> tuple[Prepared, Prepared]:
    """What the steps make of a volume part by part, and of the whole."""
    orient = [step for step in steps if step["do"] == "orient"]
    others = [step for step in steps if step["do"] != "orient"]
    parts = prepare(volume, network_of(prepare=steps, **more), CPU)
    return parts, prepare(volume, network_of(prepare=[*orient, ALL, *others], **more), CPU)


@settings(max_examples=60, deadline=None)
@given(
    rotation=rotations(),
    spacing=st.tuples(*[st.floats(0.5, 4.0)] * 3),
    size=st.tuples(*[st.integers(5, 40)] * 3),
    letters=st.sampled_from(["RAS", "LPS", "SPL", "LIA", "ASR"]),
    step=st.one_of(
        st.fixed_dictionaries(
            {
                "do": st.just("resample"),
                "spacing": st.tuples(*[st.sampled_from([0.0, 0.9, 1.5, 2.8])] * 3),
                "extent": st.sampled_from(["edges", "centres"]),
                "interpolation": st.sampled_from(["linear", "nearest"]),
                "coarse": st.sampled_from([None, 1.7]),
            }
        ),
        st.fixed_dictionaries({"do": st.just("resize"), "size": st.tuples(*[st.sampled_from([0, 7, 31])] * 3)}),
    ),
    before=st.lists(
        st.sampled_from(
            [
                {"do": "clip", "low": -500, "high": 700},
                {"do": "range", "low": -900, "high": 900, "to": (-1, 1)},
                {"do": "z-score", "mean": 37, "deviation": 113},
                {"do": "scale", "factor": 0.3, "offset": 1.1},
            ]
        ),
        max_size=3,
    ),
    together=st.sampled_from([1, 900, 2**20]),
    kind=st.sampled_from([np.int16, np.float32]),
)
def test_parts_give_bit_for_bit_what_the_whole_gives(
    rotation: Any, spacing: Any, size: Any, letters: str, step: Any, before: Any, together: int, kind: Any
) -> None:
    if step.get("size") == (0, 0, 0):
        step = step | {"size": (0, 0, 9)}
    voxels = np.random.default_rng(sum(size)).integers(-1024, 1024, size).astype(kind)
    steps = [{"do": "orient", "to": letters}, *before, step, {"do": "scale", "factor": 2}]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resample, "TOGETHER", (together, together))
        found, plain = both(volume_of(voxels, spacing, rotation), steps)

    assert found.image.is_contiguous()
    assert torch.equal(found.image, plain.image)
    assert (found.way, found.scaling) == (plain.way, plain.scaling)


def test_each_channel_gets_its_own_steps() -> None:
    random = np.random.default_rng(3)
    voxels = random.integers(-1024, 1024, (20, 24, 22), dtype=np.int16)
    other = random.normal(size=voxels.shape).astype(np.float32)
    steps: list[dict[str, Any]] = [
        {"do": "clip", "low": -100, "high": 100, "channels": [0]},
        {"do": "scale", "factor": 3, "channels": [1]},
        {"do": "resample", "spacing": (2.1, 1.7, 2.6)},
    ]

    found, plain = both(volume_of(voxels, other=other), steps, channels=[{}, {"role": "other"}])

    assert found.image.shape[0] == 2
    assert torch.equal(found.image, plain.image)


def test_voxels_are_never_held_in_float32_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    voxels = np.zeros((64, 64, 64), np.int16)
    monkeypatch.setattr(resample, "TOGETHER", (4096, 4096))
    largest = 0
    made = resample.Line.of

    def watched(line: resample.Line, image: torch.Tensor, *rest: Any) -> torch.Tensor:
        nonlocal largest
        found = made(line, image, *rest)
        largest = max(largest, found.numel())
        return found

    monkeypatch.setattr(resample.Line, "of", watched)
    step = {"do": "resample", "spacing": (2, 2, 2)}

    prepare(volume_of(voxels), network_of(prepare=[{"do": "range", "low": 0, "high": 1}, step]), CPU)

    assert 0 < largest <= 4096 * 3
