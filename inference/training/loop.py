"""The training loop: loss, learning rate, early stopping. The same seed gives the same weights on the same machine."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, smooth_l1_loss

from inference.algorithms.nodule_network import NoduleNetwork
from inference.training.samples import HEAT, IGNORED, Samples, batches, plain

log = logging.getLogger(__name__)

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and how fast."""

    seed: int = 7
    epochs: int = 12
    batch: int = 16
    rate: float = 4e-3  #: highest learning rate
    warm_up: float = 0.15  #: part of the steps in which the rate rises
    patience: int = 5  #: epochs without a better validation loss before it stops


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What one pass over the samples came to."""

    number: int
    training: float
    validation: float
    rate: float


def train(samples: Samples, validation: Samples, plan: Plan) -> tuple[NoduleNetwork, tuple[Epoch, ...]]:
    """The network of least validation loss, in evaluation mode, and the history of all epochs."""
    with _reproducible(plan.seed):
        return _train(samples, plain(validation), plan)


def loss(out: Tensor, truth: Samples) -> Tensor:
    """Cross-entropy and Dice for where, smooth L1 for how large, cross-entropy for which grade.

    Cells of a nodule are some 1 in 200: their cross-entropy counts 20 times (class imbalance), and Dice does not see
    the others at all.
    """
    heat = truth.heat
    where = binary_cross_entropy_with_logits(out[:, 0], heat, weight=1.0 + 20.0 * heat)
    said = out[:, 0].sigmoid()
    dice = 1.0 - (2.0 * (said * heat).sum() + 1.0) / ((said + heat).sum() + 1.0)
    taught = truth.heat >= HEAT
    if not taught.any():
        return where + dice
    size = smooth_l1_loss(out[:, 1][taught], truth.radius[taught])
    graded = taught & (truth.grade != IGNORED)
    which = cross_entropy(out[:, 2:].movedim(1, -1)[graded], truth.grade[graded])
    return where + dice + size + which


def rate_at(step: int, steps: int, plan: Plan) -> float:
    """Learning rate: a straight rise, then half a cosine to nothing (Loshchilov and Hutter 2017, ICLR)."""
    rise = max(1, round(plan.warm_up * steps))
    if step < rise:
        return plan.rate * (step + 1) / rise
    return plan.rate * 0.5 * (1.0 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def _train(samples: Samples, validation: Samples, plan: Plan) -> tuple[NoduleNetwork, tuple[Epoch, ...]]:
    network = NoduleNetwork()
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # half as fast again on a CPU
    optimiser = torch.optim.AdamW(network.parameters(), lr=plan.rate, weight_decay=1e-3)
    generator = torch.Generator().manual_seed(plan.seed)
    steps, step = plan.epochs * math.ceil(len(samples) / plan.batch), 0
    history: list[Epoch] = []
    best, best_weights, waited = math.inf, copy.deepcopy(network.state_dict()), 0
    for number in range(1, plan.epochs + 1):
        network.train()
        total = 0.0
        for batch in batches(samples, plan.batch, generator):
            for group in optimiser.param_groups:
                group["lr"] = rate_at(step, steps, plan)
            optimiser.zero_grad(set_to_none=True)
            cost = loss(network(_laid_out(batch.images)), batch)
            cost.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total, step = total + float(cost.detach()) * len(batch), step + 1
        validated = _validated(network, validation)
        epoch = Epoch(
            number=number,
            training=total / len(samples),
            validation=validated,
            rate=rate_at(step - 1, steps, plan),
        )
        history.append(epoch)
        log.info("epoch %d: training %.3f, validation %.3f", number, epoch.training, epoch.validation)
        waited = 0 if validated < best else waited + 1
        if validated < best:
            best, best_weights = validated, copy.deepcopy(network.state_dict())
        if waited >= plan.patience:
            break
    network.load_state_dict(best_weights)
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return network.eval(), tuple(history)


def _validated(network: NoduleNetwork, validation: Samples, size: int = 16) -> float:
    """Mean loss over batches without dropout."""
    network.eval()
    with torch.inference_mode():
        costs = []
        for start in range(0, len(validation), size):
            part = Samples(
                images=validation.images[start : start + size],
                heat=validation.heat[start : start + size],
                radius=validation.radius[start : start + size],
                grade=validation.grade[start : start + size],
            )
            costs.append(float(loss(network(_laid_out(part.images)), part)) * len(part))
    return sum(costs) / len(validation)


def _laid_out(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last_3d)


@contextmanager
def _reproducible(seed: int, threads: int = 1) -> Iterator[None]:
    """Sums are taken in the same order each time: deterministic kernels, one thread (which is enough for so little)."""
    before, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(strict)
        torch.set_rng_state(state)
