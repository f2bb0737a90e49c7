"""The validation report of a trained package: what it can do, on what that was measured, and what it cannot."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from inference.monitor.charts import confusion_chart, froc_chart, reliability_chart, roc_chart
from inference.monitor.froc import USUAL
from inference.monitor.rates import Interval
from inference.training.loop import Epoch
from inference.training.phantom import GRADES
from inference.training.validate import COVERAGE, FALSE_POSITIVES, Choices, Evidence
from storage.facts.chart import Chart, Curve, axis_over
from storage.facts.picture import svg
from storage.facts.plotting import drawn


def figures(history: Sequence[Epoch], choices: Choices, found: Evidence) -> dict[str, str]:
    """File name and SVG of each figure."""
    point = f"reported from {choices.present_from:g}"
    best = [max((c.score for c in one.candidates), default=0.0) for one in found.marked]
    ill = [one.lesions > 0 for one in found.marked]
    charts = {
        "roc.svg": roc_chart(
            "Does a series hold a nodule?", best, ill, found.series_auc, {point: choices.present_from}
        ),
        "froc.svg": froc_chart("Which nodules are found?", found.marked, found.usual, (point, choices.present_from)),
        "reliability.svg": reliability_chart(
            "Do probabilities mean what they say?", found.reliability, found.calibration_error, "candidates"
        ),
        "grades.svg": confusion_chart(
            "Which grade is said?", GRADES, found.grading.confusion, "nodules that were found"
        ),
        "history.svg": _losses(history),
    }
    return {name: svg(drawn(chart), is_file=True) for name, chart in charts.items() if chart is not None}


def _linked(pictures: Collection[str], *names: str) -> Iterator[str]:
    """Without cases of both kinds there is no ROC curve."""
    yield from (f"![{name.partition('.')[0]}]({name})" for name in names if name in pictures)


def _losses(history: Sequence[Epoch]) -> Chart:
    most = max(max(e.training, e.validation) for e in history)
    return Chart(
        title="Loss",
        across=axis_over("epoch", 0.0, float(max(2, history[-1].number))),
        up=axis_over("loss", 0.0, most),
        curves=(
            Curve(points=tuple((float(e.number), e.training) for e in history), name="training", is_dashed=True),
            Curve(points=tuple((float(e.number), e.validation) for e in history), name="validation"),
        ),
    )


def written(
    about: tuple[str, int], history: Sequence[Epoch], choices: Choices, found: Evidence, pictures: Collection[str]
) -> str:
    """The report as Markdown. ``about``: title and seed; ``pictures``: the figures that there are."""
    title, seed = about
    parts = [
        f"# {title}: validation report",
        "Trained and measured on digital phantoms alone. It says nothing about patients: the package takes series "
        "whose header names a PHANTOM, and refuses all others.",
        "## Data",
        f"Training, validation and test phantoms come from separate ranges of seeds (training seed {seed}). The "
        f"validation set ({choices.cases} phantoms) chose the epoch, the calibration and all operating points; the "
        f"test set ({found.cases} phantoms, {found.lesions} nodules) was used once, for the numbers below. Intervals "
        "are 95 %: Wilson for rates, DeLong for areas, bootstrap over phantoms for the others (for false positives, or "
        "Garwood's where that is wider). How the phantoms are drawn was changed once after results on other test "
        "phantoms had been looked at: with the first way, grades were right in 53 %. The numbers are those of a task "
        "whose difficulty was chosen.",
        "## Detection",
        "\n".join(_detection(choices, found)),
        *_linked(pictures, "roc.svg", "froc.svg"),
        "\n".join(_usual(found)),
        "## Calibration",
        f"Platt scaling on the validation set (slope {choices.platt.slope}, offset {choices.platt.offset}) takes the "
        f"expected calibration error of candidates from {found.raw_calibration_error:.3f} to "
        f"{found.calibration_error:.3f} on the test set.",
        *_linked(pictures, "reliability.svg"),
        "## Grade",
        "\n".join(_grades(choices, found)),
        *_linked(pictures, "grades.svg"),
        "## Groups",
        "\n".join(_groups(found)),
        "## Training",
        f"{len(history)} epochs; weights are those of epoch {min(history, key=lambda e: e.validation).number}, of "
        "least validation loss.",
        *_linked(pictures, "history.svg"),
        "## Limits",
        "Nodules are balls with bumps and spicules in a simple chest; grades are this generator's own and no "
        "malignancy. Groups are small: read their intervals, not their rates. Whatever the numbers, there is no "
        "clinical use.",
    ]
    return "\n\n".join(parts) + "\n"


def _detection(choices: Choices, found: Evidence) -> Iterator[str]:
    yield "| at the operating point | value (95 % interval) |"
    yield "|---|---|"
    rows: tuple[tuple[str, str], ...] = (
        ("probability from which a nodule is reported", f"{choices.present_from:.2f}"),
        ("why there", f"lowest with at most {FALSE_POSITIVES:g} false positives a series on the validation set"),
        ("sensitivity, by nodule", found.sensitivity.text()),
        ("false positives a series", found.false_positives.text()),
        ("sensitivity, by series", found.series.sensitivity.text()),
        ("specificity, by series", found.series.specificity.text()),
        ("area under the ROC curve, by series", found.series_auc.text()),
        ("mean sensitivity over the FROC curve", found.mean_sensitivity.text()),
        ("mean error of the diameter", f"{found.diameter_error:.1f} mm"),
    )
    yield from (f"| {name} | {value} |" for name, value in rows)


def _usual(found: Evidence) -> Iterator[str]:
    yield "| false positives a series | " + " | ".join(f"{rate:g}" for rate in USUAL) + " |"
    yield "|---|" + "---|" * len(USUAL)
    yield "| sensitivity | " + " | ".join(f"{found.curve.at(rate):.3f}" for rate in USUAL) + " |"


def _grades(choices: Choices, found: Evidence) -> Iterator[str]:
    grading = found.grading
    yield f"Steps: {', '.join(GRADES)}. The model abstains where the entropy of the calibrated probabilities"
    yield f"(temperature {choices.temperature.temperature}) is above {choices.most_entropy:g}, which leaves"
    yield f"{COVERAGE:.0%} of the validation set's nodules, or where no grade reaches a probability of 0.5."
    yield ""
    yield "| | value (95 % interval) |"
    yield "|---|---|"
    rows: tuple[tuple[str, Interval], ...] = (
        ("nodules that are graded", grading.coverage),
        ("right, of those that are graded", grading.accuracy),
        ("right, had it never abstained", grading.accuracy_of_all),
        ("agreement (kappa, squared weights)", grading.kappa),
        (f"area under the curve, {GRADES[-1]}", grading.malignant),
    )
    yield from (f"| {name} | {value.text()} |" for name, value in rows)
    yield f"| calibration error | {grading.calibration_error:.3f} |"


def _groups(found: Evidence) -> Iterator[str]:
    yield "| group | nodules | sensitivity (95 % interval) |"
    yield "|---|---|---|"
    for title, groups in found.groups:
        yield from (f"| {title}: {one.name} | {one.cases} | {one.rate.text(2)} |" for one in groups)
