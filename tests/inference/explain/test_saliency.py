"""Saliency against networks so small that the right map is known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from inference.explain.saliency import (
    attention_rollout,
    enlarged,
    grad_cam,
    grad_cam_pp,
    integrated_gradients,
    score_cam,
)


class Toy(nn.Module):
    """Two channels, the image and its mirror image; the answer is a weighted sum of their means."""

    def __init__(self, dimensions: int, weights: tuple[float, float]) -> None:
        super().__init__()
        self.seen, self.weights = nn.Identity(), weights
        self.places = tuple(range(2, 2 + dimensions))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        maps = self.seen(torch.cat([image, image.flip(self.places[-1])], dim=1))
        means = maps.mean(dim=self.places)
        return self.weights[0] * means[:, 0] + self.weights[1] * means[:, 1]


def spot(dimensions: int, side: int = 8) -> torch.Tensor:
    image = torch.zeros((1, 1) + (side,) * dimensions)
    image[(0, 0) + (1,) * dimensions] = 1.0
    return image


def first(out: torch.Tensor) -> torch.Tensor:
    return out[0]


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("method", [grad_cam, grad_cam_pp, score_cam])
def test_a_map_shows_the_channel_that_speaks_for_the_answer(dimensions: int, method: object) -> None:
    image, network = spot(dimensions), Toy(dimensions, (1.0, 0.0))

    found = method(network, network.seen, image, first)  # type: ignore[operator]

    assert found.shape == image.shape[2:]
    assert float(found.max()) == 1.0
    assert int(found.argmax()) == int(image[0, 0].argmax())


def test_grad_cam_is_the_weighted_sum_of_its_definition() -> None:
    image = torch.rand((1, 1, 4, 5, 6), generator=torch.Generator().manual_seed(1))
    network = Toy(3, (2.0, 0.5))
    expected = 2.0 * image[0, 0] + 0.5 * image[0, 0].flip(2)

    found = grad_cam(network, network.seen, image, first)

    assert torch.allclose(found, expected / expected.max())


def test_what_speaks_against_the_answer_does_not_show() -> None:
    network = Toy(2, (-1.0, 0.0))

    assert float(grad_cam(network, network.seen, spot(2), first).max()) == 0.0


def test_grad_cam_pp_shows_a_small_object_beside_a_large_one() -> None:
    """Of a channel whose gradient is its own activation's sign, each place weighs by its share: nothing is lost."""
    image = torch.zeros((1, 1, 12, 12))
    image[0, 0, 1:7, 1:7], image[0, 0, 10, 10] = 1.0, 1.0
    network = Toy(2, (1.0, 0.0))

    found = grad_cam_pp(network, network.seen, image, first)

    assert float(found[10, 10]) == pytest.approx(float(found[3, 3]))
    assert float(found[8, 2]) == 0.0


def test_integrated_gradients_sum_to_the_difference_of_the_scores() -> None:
    torch.manual_seed(2)
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.Softplus(), nn.Flatten(), nn.Linear(4 * 216, 1)).eval()
    image = torch.rand(1, 1, 6, 6, 6)

    found = integrated_gradients(network, image, lambda out: out[0, 0], steps=64)

    with torch.no_grad():
        difference = float(network(image) - network(torch.zeros_like(image)))
    assert float(found.sum()) == pytest.approx(difference, abs=1e-3)
    assert found.shape == (1, 6, 6, 6)


def test_integrated_gradients_of_a_linear_network_are_its_weights_times_the_image() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 1, bias=False))
    image = torch.rand(1, 1, 3, 3)

    found = integrated_gradients(network, image, lambda out: out[0, 0], steps=2)

    assert torch.allclose(found.flatten(), (network[1].weight * image.flatten()).flatten(), atol=1e-6)


def test_attention_rolls_out_as_a_product_of_layers() -> None:
    one, two = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(3)).softmax(dim=-1)

    found = attention_rollout([one, two])

    eye = torch.eye(5)
    expected = (0.5 * two.mean(0) + 0.5 * eye) @ (0.5 * one.mean(0) + 0.5 * eye)
    assert torch.allclose(found, expected, atol=1e-6)
    assert torch.allclose(found.sum(dim=-1), torch.ones(5))
    still = attention_rollout([torch.eye(4)[None]] * 3)
    assert torch.equal(still, torch.eye(4))


def test_a_map_is_enlarged_without_moving() -> None:
    small = torch.zeros(4, 6)
    small[1, 4] = 1.0

    wide = enlarged(small, (16, 24))

    place = (wide == wide.max()).nonzero().double().mean(dim=0)
    assert place.tolist() == [5.5, 17.5]  # the middle of the cell, four times as fine


def test_a_layer_that_is_not_used_is_an_error() -> None:
    with pytest.raises(ValueError, match="no part of the network"):
        grad_cam(Toy(2, (1.0, 1.0)), nn.Identity(), spot(2), first)
