"""How sure a model is: from several answers to one question, from its logits, and when it had better not answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.monitor.calibration import Floats, entropy

MONTE_CARLO = "Monte Carlo dropout (Gal and Ghahramani 2016, ICML, PMLR 48:1050)"
ENSEMBLE = "Deep ensemble (Lakshminarayanan et al. 2017, NeurIPS 30)"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spread:
    """What several passes or models say together; all but the mean over their maximum: 0 certain, 1 knows nothing."""

    mean: Floats  #: (..., classes)
    total: Floats  #: entropy of the mean
    expected: Floats  #: mean entropy: doubt that the data leave
    disagreement: Floats  #: their difference, mutual information: doubt that more training data could remove


def spread(samples: npt.ArrayLike) -> Spread:
    """Of probabilities (passes, ..., classes) (Houlsby et al. 2011, arXiv 1112.5745; Kendall and Gal 2017, NeurIPS)."""
    p = np.asarray(samples, np.float64)
    mean = np.asarray(p.mean(axis=0))
    total, expected = entropy(mean), np.asarray(entropy(p).mean(axis=0))
    return Spread(mean=mean, total=total, expected=expected, disagreement=np.clip(total - expected, 0.0, 1.0))


def energy(logits: npt.ArrayLike, temperature: float = 1.0) -> Floats:
    """Free energy of classes (last axis), low for inputs like the training data (Liu et al. 2020, NeurIPS 33)."""
    x = np.asarray(logits, np.float64) / temperature
    top = x.max(axis=-1)
    return np.asarray(-temperature * (top + np.log(np.exp(x - top[..., None]).sum(axis=-1))))


def limit_for(uncertainties: npt.ArrayLike, coverage: float) -> float:
    """The value at which this share of the cases is answered, those of least uncertainty."""
    ordered = np.sort(np.asarray(uncertainties, np.float64))
    return float(ordered[min(len(ordered), max(1, int(np.ceil(coverage * len(ordered) - 1e-9)))) - 1])


def risk_coverage(uncertainties: npt.ArrayLike, wrong: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Shares answered, and wrong among those, as less certain cases follow (El-Yaniv and Wiener 2010, JMLR 11:1605)."""
    order = np.argsort(np.asarray(uncertainties, np.float64), kind="stable")
    errors = np.cumsum(np.asarray(wrong, np.float64)[order])
    answered = np.arange(1, len(order) + 1)
    return answered / len(order), errors / answered
