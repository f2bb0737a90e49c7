"""Turns values of classes into segment numbers: which class wins, or which classes count by themselves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from inference.packages.network import Segmentation

Tensor = torch.Tensor
Labels = npt.NDArray[Any]  #: segment numbers; states where segments overlap
Values = npt.NDArray[np.float32]
_BYTE = 256  #: classes whose indices a byte holds


class Classes:
    """How values of classes become one number for each voxel.

    A *state* is the index of the winning class, or a set of bits where classes count by themselves. What is done to
    tensors is for other devices than the CPU, which is faster in numpy.
    """

    def __init__(self, output: Segmentation, *, as_logits: bool, device: torch.device) -> None:
        self._output = output
        threshold = output.threshold
        if as_logits and output.activation == "sigmoid":
            threshold = (
                math.log(threshold / (1 - threshold)) if 0 < threshold < 1 else math.copysign(math.inf, threshold)
            )
        self._threshold = threshold
        self._numbers = np.array(output.segments, np.min_scalar_type(max(output.segments)))
        self._is_plain = output.segments == tuple(range(len(output.segments)))  # a state is its segment's number
        wide = self._numbers.dtype != np.uint8  # torch computes with bytes, but not with larger unsigned numbers
        self._segments = torch.tensor(output.segments, dtype=torch.int32 if wide else torch.uint8, device=device)

    @property
    def competing(self) -> bool:
        """Whether the class with the greatest value wins."""
        return self._output.competing

    @property
    def dtype(self) -> np.dtype[Any]:
        """What holds a number, or a bit for each class where they may overlap."""
        return self._bits if self._output.overlapping else self._numbers.dtype

    @property
    def _bits(self) -> np.dtype[Any]:
        return np.dtype(np.min_scalar_type((1 << len(self._output.segments)) - 1))

    def found(self, values: Values) -> npt.NDArray[Any]:
        """(classes, rows, …) to states (rows, …)."""
        if self.competing:
            return _winners(values)
        states = np.zeros(values.shape[1:], self._bits)
        for number, value in enumerate(values):
            states |= (value >= self._threshold).astype(self._bits) << self._bits.type(number)
        return states

    def numbers(self, states: npt.NDArray[Any]) -> Labels:
        """States to segment numbers; where segments may overlap, the states themselves."""
        if self._output.overlapping:
            return states
        if self.competing:
            return states if self._is_plain else self._numbers.take(states)
        labels = np.zeros(states.shape, self._numbers.dtype)
        for number, segment in enumerate(self._numbers):
            labels[(states >> self._bits.type(number) & self._bits.type(1)).astype(bool)] = segment
        return labels

    def states(self, values: Tensor) -> Tensor:
        """The same as ``found``, of a tensor on its device."""
        if self.competing:
            return winners(values)
        states = torch.zeros(values.shape[1:], dtype=torch.int64, device=values.device)
        for number, value in enumerate(values):
            states |= (value >= self._threshold).to(torch.int64) << number
        return states

    def segments(self, states: Tensor) -> Tensor:
        """The same as ``numbers``, of a tensor on its device."""
        if self._output.overlapping:
            return states
        if self.competing:
            return self._segments[states.long()]
        labels = torch.zeros(states.shape, dtype=self._segments.dtype, device=states.device)
        for number, segment in enumerate(self._output.segments):
            labels.masked_fill_((states >> number & 1).bool(), segment)
        return labels


def winners(values: Tensor) -> Tensor:
    """The index of the greatest value along the first axis, as uint8 (int32 from 257 classes); the first one of equals.

    A running maximum reads each class once, in order; argmax over the first axis strides and is ten times slower.
    """
    if values.device.type == "cpu" and values.dtype == torch.float32:
        won = _winners(values.detach().numpy())
        return torch.from_numpy(won if won.dtype == np.uint8 else won.astype(np.int32))
    best = values[0].clone()
    kind = torch.uint8 if len(values) <= _BYTE else torch.int32
    found = torch.zeros(values.shape[1:], dtype=kind, device=values.device)
    for number in range(1, values.shape[0]):
        found.masked_fill_(values[number] > best, number)
        torch.maximum(best, values[number], out=best)
    return found


def _winners(values: Values) -> npt.NDArray[np.uint8 | np.uint16]:
    """The same on a CPU, row by row, so that what is compared stays in its cache; from 257 classes as uint16.

    numpy, for torch starts its threads for every one of so many small steps: three times slower on an idle machine, and
    without bound on a busy one, where each step waits for a thread that is not running.
    """
    contest = Contest(len(values), values[0, 0].shape)
    found = np.empty(values.shape[1:], contest.found.dtype)
    for row in range(values.shape[1]):
        found[row] = contest.won(values[:, row])
    return found


def softmax(values: Values) -> None:
    """Probabilities of classes (classes, …) from their logits, in place.

    As fast as torch, which needs as much memory again.
    """
    total, greatest = np.zeros(values.shape[1:], np.float32), values[0].copy()
    for value in values[1:]:
        np.maximum(greatest, value, out=greatest)
    for value in values:
        value -= greatest
        np.exp(value, out=value)
        total += value
    np.reciprocal(total, out=total)
    for value in values:
        value *= total


class Contest:
    """Finds the greatest of some values, again and again in the same memory: to get new memory costs as much as that.

    ``found`` holds what was found last.
    """

    def __init__(self, classes: int, shape: tuple[int, ...]) -> None:
        self.found = np.empty(shape, np.uint8 if classes <= _BYTE else np.uint16)
        self._best, self._is_won = np.empty(shape, np.float32), np.empty(shape, np.bool_)
        self._number = self._is_won.view(np.uint8) if classes <= _BYTE else np.empty(shape, np.uint16)

    def won(self, values: Values) -> npt.NDArray[Any]:
        """The index of the greatest along the first axis, the first one of equals; overwritten by the next call."""
        best, is_won, number = self._best, self._is_won, self._number
        kind, last = self.found.dtype.type, len(values) - 1
        self.found.fill(0)
        np.copyto(best, values[0])
        for index in range(1, last + 1):
            np.greater(values[index], best, out=is_won)
            np.multiply(is_won.view(np.uint8), kind(index), out=number)
            np.maximum(self.found, number, out=self.found)  # numbers rise: the last winner is the greatest
            if index < last:
                np.maximum(best, values[index], out=best)
        return self.found
