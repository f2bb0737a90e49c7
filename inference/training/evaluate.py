"""Runs the network on whole phantoms, exactly as in production, and keeps what it marked beside what is there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from inference.algorithms.nodule_grid import padded
from inference.algorithms.nodule_network import STRIDE, NoduleNetwork, scaled
from inference.algorithms.nodules import Candidate, answer, candidates
from inference.monitor.calibration import Calibrator
from inference.monitor.froc import Candidate as Scored
from inference.monitor.froc import Marked
from inference.training.phantom import Nodule, Phantom, draw, render, whole
from inference.training.solids import Grid, Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A candidate and the nodule that it hits: one whose middle is nearer than that nodule's radius."""

    candidate: Candidate
    nodule: int | None  #: number within its phantom; None: a false positive


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One phantom and what was marked in it, the best first."""

    phantom: Phantom
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A nodule that was marked at an operating point, by its best mark."""

    nodule: Nodule
    candidate: Candidate


def evaluate(network: NoduleNetwork, seeds: Iterable[int]) -> tuple[Case, ...]:
    """One case of each seed, in their order."""
    grid = whole()
    cases = []
    for seed in seeds:
        phantom = draw(seed)
        image = padded(scaled(torch.from_numpy(render(phantom, grid))[None, None]))
        found = candidates(answer(network, image))
        cases.append(Case(phantom=phantom, marks=tuple(_mark(one, phantom, grid) for one in found)))
    return tuple(cases)


def scores_of(cases: Sequence[Case]) -> tuple[list[float], list[int]]:
    """Raw probability of every candidate, and whether it hits a nodule."""
    marks = [mark for case in cases for mark in case.marks]
    return [mark.candidate.score for mark in marks], [int(mark.nodule is not None) for mark in marks]


def marked(cases: Sequence[Case], calibrator: Calibrator) -> list[Marked]:
    """The cases as a FROC curve takes them, with calibrated probabilities."""
    made = []
    for case in cases:
        scores = calibrator.apply([mark.candidate.score for mark in case.marks])  # all at once: once for each is slow
        found = [Scored(score=float(s), lesion=m.nodule) for s, m in zip(scores, case.marks, strict=True)]
        made.append(Marked(lesions=len(case.phantom.nodules), candidates=tuple(found)))
    return made


def hits(cases: Sequence[Case], calibrator: Calibrator, threshold: float) -> list[Hit]:
    """Each nodule that has a mark at or above the operating point, with the best of them."""
    found = []
    for case in cases:
        for number, nodule in enumerate(case.phantom.nodules):
            own = [mark.candidate for mark in case.marks if mark.nodule == number]
            best = max(own, key=lambda one: one.score, default=None)
            if best is not None and float(calibrator.apply(best.score)) >= threshold:
                found.append(Hit(nodule=nodule, candidate=best))
    return found


def _mark(candidate: Candidate, phantom: Phantom, grid: Grid) -> Mark:
    middle = _millimetres(candidate.middle, grid)
    gaps = [float(np.linalg.norm(np.subtract(middle, nodule.centre))) for nodule in phantom.nodules]
    near = [number for number, nodule in enumerate(phantom.nodules) if gaps[number] <= nodule.radius]
    return Mark(candidate=candidate, nodule=min(near, key=lambda number: gaps[number], default=None))


def _millimetres(cell: Point, grid: Grid) -> Point:
    z, y, x = (
        o + s * (STRIDE * at + (STRIDE - 1) / 2) for at, o, s in zip(cell, grid.origin, grid.spacing, strict=True)
    )
    return z, y, x
