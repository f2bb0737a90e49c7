"""Chooses calibration and operating points on one set of phantoms, and measures them on another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.explain.uncertainty import limit_for
from inference.monitor.calibration import Bin, Platt, Temperature, calibration_error, entropy, reliability
from inference.monitor.fitting import fit_platt, fit_temperature
from inference.monitor.froc import (
    USUAL,
    Curve,
    Marked,
    at_threshold,
    false_positive_interval,
    froc,
    mean_sensitivity,
    sensitivity_interval,
)
from inference.monitor.rates import Group, Interval, by_group, wilson
from inference.monitor.roc import Operating, auc_interval, kappa_interval, operating
from inference.training.evaluate import Case, Hit, hits, marked, scores_of
from inference.training.phantom import GRADES, clearance
from storage.facts.errors import Rejected

FALSE_POSITIVES = 0.25  #: a series, allowed on the validation set
DOUBTFUL = 1.0  #: false positives a series, from which a candidate is at least worth a doubt
COVERAGE = 0.9  #: share of the validation set's nodules that are graded
_NOTHING = "the network finds none of the validation set's nodules: train it longer, or on more samples"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the validation set decided, all of it before the test set was seen."""

    cases: int
    platt: Platt
    present_from: float
    absent_below: float
    temperature: Temperature
    most_entropy: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grading:
    """How the grades of the test set's nodules did."""

    nodules: int
    coverage: Interval  #: share that was graded
    accuracy: Interval  #: of those that were graded
    accuracy_of_all: Interval  #: had the model never abstained
    kappa: Interval
    malignant: Interval  #: area under the curve, the highest grade against the others
    calibration_error: float
    confusion: tuple[tuple[int, ...], ...]  #: a row a true grade; columns: what was said, last: nothing


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """What the test set showed at the chosen points."""

    cases: int
    lesions: int
    curve: Curve
    usual: tuple[tuple[float, Interval], ...]  #: sensitivity at the usual false positives a series
    mean_sensitivity: Interval
    sensitivity: Interval  #: of nodules
    false_positives: Interval  #: a series
    series: Operating  #: whether a series is reported to hold a nodule
    marked: tuple[Marked, ...]  #: each series, for the curves
    series_auc: Interval
    reliability: tuple[Bin, ...]
    calibration_error: float
    raw_calibration_error: float
    diameter_error: float  #: mm, mean distance
    grading: Grading
    groups: tuple[tuple[str, tuple[Group, ...]], ...]


def choose(cases: Sequence[Case]) -> Choices:
    """Calibration, then operating points on calibrated probabilities.

    Raises Rejected where the network finds nothing: no operating point would be justified.
    """
    scores, true = scores_of(cases)
    if not any(true):
        raise Rejected(_NOTHING)
    platt = fit_platt(scores, true)
    series = marked(cases, platt)
    present = _lowest(series, FALSE_POSITIVES)
    found = hits(cases, platt, present)
    if not found:
        raise Rejected(_NOTHING)
    probabilities, truth = _graded(found)
    temperature = fit_temperature(probabilities, truth)
    doubts = entropy(temperature.apply_classes(probabilities))
    return Choices(
        cases=len(cases),
        platt=Platt(slope=round(platt.slope, 4), offset=round(platt.offset, 4)),
        present_from=present,
        absent_below=min(present, _lowest(series, DOUBTFUL)),
        temperature=Temperature(temperature=round(temperature.temperature, 4)),
        most_entropy=min(1.0, math.ceil(100 * limit_for(doubts, COVERAGE)) / 100),
    )


def measure(cases: Sequence[Case], choices: Choices) -> Evidence:
    """What the choices come to on cases that had no part in them.

    Raises Rejected where the network finds nothing in them.
    """
    series = marked(cases, choices.platt)
    scores, truth = scores_of(cases)
    calibrated = choices.platt.apply(scores)
    found = hits(cases, choices.platt, choices.present_from)
    if not found:
        raise Rejected("the network finds none of the test set's nodules: train it longer, or on more samples")
    lesions = sum(one.lesions for one in series)
    best = [max((c.score for c in one.candidates), default=0.0) for one in series]
    ill = [one.lesions > 0 for one in series]
    return Evidence(
        cases=len(cases),
        lesions=lesions,
        curve=froc(series),
        usual=tuple((rate, sensitivity_interval(series, rate)) for rate in USUAL),
        mean_sensitivity=mean_sensitivity(series),
        sensitivity=wilson(len(found), lesions),
        false_positives=false_positive_interval(series, choices.present_from),
        series=operating(best, ill, choices.present_from),
        marked=tuple(series),
        series_auc=auc_interval(best, ill),
        reliability=reliability(calibrated, truth),
        calibration_error=calibration_error(calibrated, truth),
        raw_calibration_error=calibration_error(scores, truth),
        diameter_error=float(np.mean([2 * abs(h.candidate.radius - h.nodule.radius) for h in found])),
        grading=_grading(found, choices),
        groups=tuple(_groups(cases, choices)),
    )


def _lowest(series: Sequence[Marked], allowed: float) -> float:
    """The lowest threshold, in hundredths, with no more false positives a series than allowed."""
    for hundredth in range(1, 100):
        if at_threshold(series, hundredth / 100)[1] <= allowed:
            return hundredth / 100
    return 0.99


def _graded(found: Sequence[Hit]) -> tuple[list[tuple[float, ...]], list[int]]:
    return [hit.candidate.grades for hit in found], [hit.nodule.grade for hit in found]


def _grading(found: Sequence[Hit], choices: Choices) -> Grading:
    """Grades as production gives them: the median, unless the model abstains."""
    probabilities, grades = _graded(found)
    calibrated = choices.temperature.apply_classes(probabilities)
    truth = np.array(grades)
    said = (np.cumsum(calibrated, axis=1) >= 0.5 - 1e-9).argmax(axis=1)
    likely = calibrated[np.arange(len(said)), said]
    answered = (entropy(calibrated) <= choices.most_entropy) & (likely >= 0.5)
    right = said == truth
    return Grading(
        nodules=len(found),
        coverage=wilson(int(answered.sum()), len(found)),
        accuracy=wilson(int((right & answered).sum()), int(answered.sum())),
        accuracy_of_all=wilson(int(right.sum()), len(found)),
        kappa=kappa_interval(said, truth, len(GRADES)),
        malignant=auc_interval(calibrated[:, -1], truth == len(GRADES) - 1),
        calibration_error=calibration_error(likely, right),
        confusion=_confusion(truth, np.where(answered, said, len(GRADES))),
    )


def _confusion(truth: npt.NDArray[np.intp], said: npt.NDArray[np.intp]) -> tuple[tuple[int, ...], ...]:
    counts = np.zeros((len(GRADES), len(GRADES) + 1), int)
    np.add.at(counts, (truth, said), 1)
    return tuple(tuple(map(int, row)) for row in counts)


def _groups(cases: Sequence[Case], choices: Choices) -> list[tuple[str, tuple[Group, ...]]]:
    """Sensitivity by what might make a nodule harder to find."""
    found = {id(hit.nodule) for hit in hits(cases, choices.platt, choices.present_from)}
    rows: dict[str, list[tuple[str, bool]]] = {"Diameter": [], "Grade": [], "Place": [], "Noise": []}
    for case in cases:
        for nodule in case.phantom.nodules:
            hit, wide = id(nodule) in found, 2 * nodule.radius
            gap = float(clearance(np.array([nodule.centre], np.float32), case.phantom.scale)[0])
            size = "below 8 mm" if wide < 8 else "8 to 12 mm" if wide < 12 else "from 12 mm"
            rows["Diameter"].append((size, hit))
            rows["Grade"].append((GRADES[nodule.grade], hit))
            rows["Place"].append(("at the edge of the lung" if gap < nodule.radius else "inside the lung", hit))
            rows["Noise"].append(("below 40 HU" if case.phantom.noise < 40 else "from 40 HU", hit))
    return [(name, by_group(one)) for name, one in rows.items()]
