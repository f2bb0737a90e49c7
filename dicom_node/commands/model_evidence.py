"""What speaks for bringing a version of a package into use, and what forbids it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dicom_node.commands.card import operating_points
from dicom_node.commands.printing import moment
from storage.facts.prediction import Measurement, Prediction, Status
from storage.facts.release import KeptProof, KeptTrial, PackageVersion, Trial
from storage.facts.units import spelled
from storage.workers import OverlapView

Pair = tuple[Prediction, Prediction]  #: of the version in use and of the other, on the same series

_PLACEHOLDERS = ("", "?", "-", "n/a", "none", "unknown")
_TO_DO = ("todo", "tbd", "fixme", "xxx")  #: how a source begins that somebody still has to write
_LIMITS = 1.96  #: standard deviations around the mean difference (Bland and Altman 1986, Lancet 1:307)


def obstacles(version: PackageVersion, *, is_waived: bool = False) -> Iterator[str]:
    """Why the version must not be brought into use, and what to run; none where it may.

    ``is_waived``: somebody answers for a version that brings no self-test.
    """
    prove = f"`dicom-node models prove {version.reference}`"
    if is_waived and version.has_self_test:
        yield f"it brings a self-test, which nobody can waive: {prove}, and promote it without --without-self-test"
    if not version.has_self_test and not is_waived:
        yield (
            "it brings no self-test: add a [selftest] to its model.toml under a new version, or answer for it with "
            "--without-self-test REASON"
        )
    elif version.has_self_test and version.doubt:
        yield f"{version.doubt}: {prove}"
    elif version.manifest.get("weights") and not version.proofs:
        yield f"it was never proved at this installation: {prove}"
    for proof in version.proofs:
        if not proof.passed:
            faults = "; ".join(map(str, proof.document.get("faults", ()))) or "no fault was noted"
            yield f"its proof on {proof.device} failed ({faults}): mend it under a new version, then {prove}"
    for decides, threshold, source, _ in operating_points(version.manifest):
        if _is_placeholder(source):
            yield (
                f"the threshold of {decides} ({threshold}) has no source in its manifest: say where it comes from, "
                f"under a new version; `dicom-node models validate {version.reference}` measures it on your own cases"
            )


def _is_placeholder(source: str) -> bool:
    text = source.strip().lower().rstrip(".")
    return text in _PLACEHOLDERS or text.startswith(_TO_DO)


def evidence(
    version: PackageVersion,
    pairs: Sequence[Pair],
    trials: Sequence[KeptTrial] = (),
    marked: Sequence[OverlapView] = (),
) -> dict[str, Any]:
    """What is shown before a decision and kept with it, as plain data."""
    return {
        "digest": version.digest,
        "signed by": version.signer or "nobody",
        "proofs": {p.device: "passed" if p.passed else "failed" for p in version.proofs},
        "self-test": version.doubt or [_passed(p) for p in version.proofs if p.passed and p.document.get("tested")],
        "validations": [validated(trial) for trial in trials if trial.trial is Trial.VALIDATED],
        "validation report": version.report[:2000],
        "thresholds": [
            {"decides": decides, "threshold": value, "source": source, "metrics": metrics}
            for decides, value, source, metrics in operating_points(version.manifest)
        ],
        "agreement": agreement(pairs) | {"masks": {one.segment: _overlap(one) for one in marked}},
    }


def _passed(proof: KeptProof) -> dict[str, Any]:
    return {"device": proof.device, "at": proof.at, "digest": str(proof.document.get("digest", ""))}


def validated(trial: KeptTrial) -> dict[str, Any]:
    """A validation in a few facts: which report, on how many series, when, and what came out."""
    found = trial.document
    return {
        "digest": found["digest"],
        "series": found["series"],
        "truth": found["truth"],
        "by": trial.author,
        "at": trial.at,
        "results": [f"{one['target']}: {one['summary']}" for one in found["results"]],
    }


def agreement(pairs: Sequence[Pair]) -> dict[str, Any]:
    """How the results of two versions compare on the same series: endings, findings, measurements."""
    done = [(a, b) for a, b in pairs if a.status is b.status is Status.SUCCEEDED]
    return {
        "series": len(pairs),
        "same ending": sum(a.status is b.status for a, b in pairs),
        "findings": _findings(done),
        "measurements": _measurements(done),
    }


def _overlap(marked: OverlapView) -> dict[str, float]:
    return {"series": marked.series, "mean Dice": marked.mean, "least Dice": marked.least}


def _findings(pairs: Sequence[Pair]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for one, other in pairs:
        said = {f.condition.meaning: f.presence for f in other.findings}
        for finding in one.findings:
            if finding.condition.meaning in said:
                count = counts.setdefault(finding.condition.meaning, {"same": 0, "differs": 0})
                count["same" if said[finding.condition.meaning] is finding.presence else "differs"] += 1
    return counts


def _measurements(pairs: Sequence[Pair]) -> dict[str, dict[str, float]]:
    """Mean difference and limits of agreement (other minus one), in the unit of the measurement."""
    differences: dict[str, list[float]] = {}
    for one, other in pairs:
        new = _measured(other)
        for name, measurement in _measured(one).items():
            if name in new and new[name].unit == measurement.unit:
                differences.setdefault(f"{name} ({spelled(measurement.unit.value)})", []).append(
                    new[name].value - measurement.value
                )
    return {name: _limits(values) for name, values in differences.items()}


def _measured(prediction: Prediction) -> dict[str, Measurement]:
    found = {m.name.meaning: m for m in prediction.measurements}
    for segment in prediction.segments:
        found |= {f"{m.name.meaning} of {segment.label}": m for m in segment.measurements}
    return found


def _limits(values: Sequence[float]) -> dict[str, float]:
    mean = statistics.fmean(values)
    spread = _LIMITS * statistics.stdev(values) if len(values) > 1 else 0.0
    return {"pairs": len(values), "mean difference": mean, "lower limit": mean - spread, "upper limit": mean + spread}


def told(found: Mapping[str, Any], before: str) -> Iterator[str]:
    """The evidence for people; ``before`` is the version in use."""
    proofs = [f"{device} {outcome}" for device, outcome in found["proofs"].items()]
    yield f"digest      {found['digest'][:12]}, signed by {found['signed by']}"
    yield f"proof       {', '.join(proofs) or 'none'}"
    passed = found["self-test"]
    if isinstance(passed, str):
        yield f"self-test   {passed}"
    else:
        yield from (f"self-test   passed on {one['device']}, {moment(one['at'])}" for one in passed)
    for one in found["validations"]:
        yield f"validated   {moment(one['at'])} by {one['by']} on {one['series']} series (report {one['digest'][:12]})"
        yield from (f"            {line}" for line in one["results"])
    for point in found["thresholds"]:
        yield f"threshold   {point['decides']}: {point['threshold']}"
        yield f"            source: {' '.join(point['source'].split())}"
        if point["metrics"]:
            yield f"            {point['metrics']}"
    report = [line for line in found["validation report"].splitlines() if line.strip()]
    yield f"its report  {report[0].lstrip('# ') if report else 'the package has no validation report'}"
    yield from (f"            {line}" for line in report[1:13])
    yield from _told_agreement(found["agreement"], before)


def _told_agreement(found: Mapping[str, Any], before: str) -> Iterator[str]:
    if not before:
        return
    if not found["series"]:
        yield f"agreement   this version and {before} saw no series in common: a shadow rule shows how they differ"
        return
    yield f"agreement   with {before} on {found['series']} series: {found['same ending']} ended in the same way"
    for name, count in found["findings"].items():
        yield f"            {name}: the same in {count['same']} of {count['same'] + count['differs']}"
    for name, one in found["masks"].items():
        yield f"            mask of {name}: Dice {one['mean Dice']:.3f} on average, {one['least Dice']:.3f} at least"
    for name, limits in found["measurements"].items():
        yield (
            f"            {name}: differs by {limits['mean difference']:+.3g} on average, in 95 % by "
            f"{limits['lower limit']:+.3g} to {limits['upper limit']:+.3g} ({limits['pairs']} pairs)"
        )
