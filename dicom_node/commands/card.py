"""What a model card says, from what the ledger knows of a package; how it looks is the business of the renderers.

After Mitchell et al. 2019 (Model Cards for Model Reporting): what the model is for, what it takes and refuses, what it
says and from which operating points with which evidence, how it was made, and how it was proved here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dicom_node.commands.card_parts import Card, Section, Table
from dicom_node.commands.card_trials import benchmark_section, validation_sections
from dicom_node.commands.printing import moment
from storage.facts.figures import exact, figure
from storage.facts.release import WAIVED, KeptTrial, PackageVersion, Release
from storage.facts.units import spelled

_NOT_STATED = "not stated"


def card_of(version: PackageVersion, releases: Sequence[Release] = (), trials: Sequence[KeptTrial] = ()) -> Card:
    """The card of one version; ``releases`` are those of its package, ``trials`` its own, the newest first."""
    manifest = version.manifest
    sections = (
        Section(title="Intended use", paragraphs=(_text(manifest, "intended_use"),)),
        _accepted(manifest),
        _inputs(manifest),
        _outputs(manifest),
        _operating_points(manifest),
        _plausibility(manifest),
        _urgency(manifest),
        _making(version),
        _proofs(version, releases),
        *validation_sections(trials),
        benchmark_section(trials),
        _files(version),
        _history(version, releases),
    )
    return Card(
        title=version.title,
        subtitle=f"{version.reference} · {manifest.get('manufacturer', '')}",
        is_research=bool(manifest.get("research", True)),
        standing=_standing(version),
        sections=tuple(section for section in sections if section.paragraphs or section.tables),
    )


def _standing(version: PackageVersion) -> str:
    if version.retired_at is not None:
        return f"retired {moment(version.retired_at)}: {version.retired_reason}"
    return "in use" if version.stable else "not in use: waits for a promotion"


def _accepted(manifest: Mapping[str, Any]) -> Section:
    accepts = manifest.get("accepts", {})
    rows = tuple((key.replace("_", " "), said) for key, value in accepts.items() if (said := _said(value)))
    note = "Every other series is answered with: not analysed, and why."
    return Section(
        title="What it accepts and refuses", paragraphs=(note,), tables=(_table(("Property", "Allowed"), rows),)
    )


def _inputs(manifest: Mapping[str, Any]) -> Section:
    network = manifest.get("network")
    if not network:
        text = f"The series itself, read by the algorithm {manifest.get('algorithm', '')} of the product."
        return Section(title="Input", paragraphs=(text,))
    rows = [
        (f"channel {n}", channel.get("role") or "the series of the run")
        for n, channel in enumerate(network["channels"], 1)
    ]
    rows += [(f"step {n}", f"{step['do']}: {_said({k: v for k, v in step.items() if k != 'do'}) or 'as it is'}")
             for n, step in enumerate(network["prepare"], 1)]  # fmt: skip
    rows += [("windows", _said(network["windows"])), ("mirrored along", _said(network["mirror"]) or "no axis")]
    rows += [("networks", _networks(network))]
    return Section(title="Input", tables=(_table(("Step", "Setting"), rows),))


def _networks(network: Mapping[str, Any]) -> str:
    models = network["models"]
    named = [(m.get("architecture") or {}).get("name") or m["format"] for m in models]
    return f"{len(models)} ({', '.join(dict.fromkeys(named))}), average of {network['average']}"


def _outputs(manifest: Mapping[str, Any]) -> Section:
    tables = []
    segments = [
        (str(s["number"]), s["label"], _code(s["type"]), _code(s["category"])) for s in manifest.get("segments", ())
    ]
    tables.append(_table(("Segment", "Label", "Type", "Category"), segments))
    measured = [(m["key"], _code(m["name"]), _unit(m["unit"]), m["method"]) for m in manifest.get("measurements", ())]
    tables.append(_table(("Measurement", "Concept", "Unit", "Method"), measured))
    said = [("finding", _code(f["condition"])) for f in manifest.get("findings", ())]
    said += [("condition", _code(c["condition"])) for c in manifest.get("conditions", ())]
    said += [("detection", f"{d['label']}: {_code(d['type'])}") for d in manifest.get("detections", ())]
    said += [
        ("grade", f"{_code(g['question'])}: {', '.join(c['meaning'] for c in g['classes'])}")
        for g in manifest.get("grades", ())
    ]
    said += [("image", f"{i['label']}: {i['text']}") for i in manifest.get("images", ())]
    tables.append(_table(("Statement", "Concept"), said))
    return Section(title="Output", tables=tuple(table for table in tables if table.rows))


def operating_points(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Every threshold: what it decides, its value, where it comes from, and how the model did there."""
    for finding in manifest.get("findings", ()):
        value = f"present from {exact(finding['present_from'])}, absent below {exact(finding['absent_below'])}"
        yield (
            finding["condition"]["meaning"],
            f"{finding['measurement']}: {value}",
            finding["source"],
            _metrics(finding.get("metrics")),
        )
    for entry in (*manifest.get("conditions", ()), *manifest.get("detections", ())):
        value = f"present from {exact(entry['present_from'])}"
        if entry.get("absent_below") is not None:
            value += f", absent below {exact(entry['absent_below'])}"
        yield entry["condition"]["meaning"], value, entry["source"], _metrics(entry.get("metrics"))
    for grade in manifest.get("grades", ()):
        value = f"said from probability {exact(grade['at_least'])}"
        yield grade["question"]["meaning"], value, grade["source"], _metrics(grade.get("metrics"))


def _operating_points(manifest: Mapping[str, Any]) -> Section:
    rows = list(operating_points(manifest))
    table = _table(
        ("Decides", "Threshold", "Source", "Metrics there"), [(a, b, c, d or _NOT_STATED) for a, b, c, d in rows]
    )
    note = () if rows else ("It decides nothing: it measures and marks.",)
    return Section(title="Operating points", paragraphs=note, tables=(table,) if rows else ())


def _metrics(metrics: Mapping[str, Any] | None) -> str:
    if not metrics:
        return ""
    rates = [
        f"{name.replace('_', ' ')} {_rate(rate['value'])} ({_rate(rate['low'])} to {_rate(rate['high'])})"
        for name, rate in metrics.items()
        if isinstance(rate, Mapping)
    ]
    if metrics.get("calibration_error") is not None:
        rates.append(f"calibration error {figure(metrics['calibration_error'], 3)}")
    return f"{', '.join(rates)}; {metrics.get('cases', '?')} cases: {metrics.get('data', '')}"


def _rate(value: float) -> str:
    return figure(value, 2, 0.0, 1.0)


def _plausibility(manifest: Mapping[str, Any]) -> Section:
    rows = [
        (m["key"], f"{_range(*m['plausible'])} {_unit(m['unit'])}".strip(), m["plausible_source"])
        for m in manifest.get("measurements", ())
    ]
    note = (
        ("A run with a number outside of these ranges fails as a whole; none of its numbers is shown.",) if rows else ()
    )
    tables = (_table(("Measurement", "Plausible", "Source"), rows),) if rows else ()
    return Section(title="Plausibility", paragraphs=note, tables=tables)


def _urgency(manifest: Mapping[str, Any]) -> Section:
    rows = []
    for line in manifest.get("urgency", ()):
        source = next((str(line[k]) for k in ("measurement", "condition", "detection", "grade") if line.get(k)), "")
        least, classes = line.get("at_least"), ", ".join(line.get("classes", ()))
        from_ = f"is {classes}" if least is None else f"from {exact(least)}"
        rows.append((line["level"].upper(), f"{source} {from_}", line["reason"]))
    note = () if rows else ("It raises no study.",)
    return Section(
        title="Urgency", paragraphs=note, tables=(_table(("Level", "When", "Reason"), rows),) if rows else ()
    )


def _making(version: PackageVersion) -> Section:
    manifest = version.manifest
    rows = [("Training data", _text(manifest, "lineage")), ("Licence", _text(manifest, "licence"))]
    rows += [(name, str(value)) for name, value in manifest.get("parameters", {}).items()]
    rows += [("Came as", version.origin or "found in the models folder"), ("Signed by", version.signer or "nobody")]
    rows += [("Registered", moment(version.registered_at))]
    paragraphs = ("Validation report of the package:", version.report) if version.report else ()
    return Section(title="Making", paragraphs=paragraphs, tables=(_table(("Fact", "Value"), rows),))


def _proofs(version: PackageVersion, releases: Sequence[Release]) -> Section:
    proofs = version.proofs
    rows = [(proof.device, "passed" if proof.passed else "FAILED", "proved", moment(proof.at)) for proof in proofs]
    rows += [
        (proof.device, "passed" if proof.passed else "FAILED", key.replace("_", " "), said)
        for proof in proofs
        for key, value in proof.document.items()
        if key not in ("device", "passed", "package", "version") and (said := _said(value))
    ]
    note = [] if proofs else ["It was not proved at this installation."]
    note += [f"No self-test vouches for it: {version.doubt}."] if version.doubt else []
    note += [
        f"Brought into use without a self-test on {moment(r.at)} by {r.author}: {r.evidence[WAIVED]}"
        for r in releases
        if r.version == version.version and WAIVED in r.evidence
    ]
    table = _table(("Device", "Outcome", "What", "Found"), rows)
    return Section(title="Proof", paragraphs=tuple(note), tables=(table,) if rows else ())


def _files(version: PackageVersion) -> Section:
    rows = [("package digest", version.digest)]
    rows += [(f"weights {w['name']} ({w['file']})", w["sha256"]) for w in version.manifest.get("weights", ())]
    pinned = {w["file"] for w in version.manifest.get("weights", ())}
    rows += [(path, digest) for path, digest in (version.files or {}).items() if path not in pinned]
    return Section(title="Digests (SHA-256)", tables=(_table(("What", "Digest"), rows),))


def _history(version: PackageVersion, releases: Sequence[Release]) -> Section:
    rows = [
        (moment(r.at), r.move.value, r.version or "none", r.author, r.reason)
        for r in releases
        if version.version in (r.version, r.before)
    ]
    return Section(title="Use", tables=(_table(("When", "What", "Version", "Who", "Why"), rows),) if rows else ())


def _table(heads: tuple[str, ...], rows: Sequence[Sequence[str]]) -> Table:
    return Table(heads=heads, rows=tuple(tuple(row) for row in rows))


def _text(manifest: Mapping[str, Any], key: str) -> str:
    return " ".join(str(manifest.get(key) or _NOT_STATED).split())


def _code(code: Mapping[str, Any]) -> str:
    return f"{code['meaning']} ({code['value']}, {code['scheme']})"


def _unit(code: Mapping[str, Any]) -> str:
    return spelled(str(code["value"]))


def _said(value: Any) -> str:
    """Settings as words; nothing for what is not set."""
    if value is None or value == [] or value == {}:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        if set(value) == {"min", "max"}:
            return _range(value["min"], value["max"])
        parts = [(key.replace("_", " "), said) for key, item in value.items() if (said := _said(item))]
        return "; ".join(f"{key} {said}" for key, said in parts)
    if isinstance(value, list | tuple):
        return ", ".join(said for item in value if (said := _said(item)))
    if isinstance(value, float):
        return exact(value)
    return value if isinstance(value, str) else json.dumps(value)


def _range(least: float | None, most: float | None) -> str:
    if least is None:
        return "" if most is None else f"at most {exact(most)}"
    return f"at least {exact(least)}" if most is None else f"{exact(least)} to {exact(most)}"
