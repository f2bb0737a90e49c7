"""What ``rules test``, ``explain``, ``unmatched`` and ``lint`` do."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from dicom_node.commands.opening import open_ledger, read_config
from dicom_node.commands.printing import table
from dicom_node.commands.rule_choosing import explain_choices, try_choices
from dicom_node.commands.rule_set import proposed
from dicom_node.commands.rule_subject import Subject, of_files, of_uid
from dicom_node.config import NodeConfig
from dicom_node.route import lint as linter
from dicom_node.route.floor import absolute_bar
from dicom_node.route.kept import facts_from
from dicom_node.route.language import compile_rule
from dicom_node.route.router import routing_rule
from dicom_node.route.rules import Decision, RoutingRule, evaluate
from dicom_node.wiring import identity_of
from storage.facts.routing import Match, RuleSet
from storage.ledger import Ledger

FIRST_TO_FAIL = "  <- decides"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Which rules shall be asked, and how the answer is printed."""

    name: str | None  #: only this rule
    expression: str | None  #: this condition instead of the rules
    live: bool  #: the rules in force, even where there is a draft
    sender: str  #: calling AE title that files shall seem to come from
    as_json: bool


def test(path: Path, target: str, trial: Trial) -> bool:
    """Print what the rules make of files or stored series. Returns whether any matched."""
    config = read_config(path)
    with open_ledger(path, create=Path(target).exists()) as ledger:
        rules, match = _tried(ledger, trial)
        node = identity_of(config)
        subjects = of_files(Path(target), trial.sender, node) if Path(target).exists() else of_uid(ledger, target, node)
        if not rules:
            click.echo("no rules to test")
            return False
        matched = _try_all(rules, match, subjects, trial.as_json)
        try_choices(ledger, rules, match, subjects, trial.as_json)
    return matched


def _try_all(rules: Sequence[RoutingRule], match: Match, subjects: Sequence[Subject], as_json: bool) -> bool:
    matched = False
    for subject in subjects:
        decisions = evaluate(rules, subject.facts, match, late=False)
        matched = matched or any(d.matched for d in decisions)
        if as_json:
            _echo_json(subject, decisions)
            continue
        if len(subjects) > 1:
            click.secho(f"series {subject.series_uid} ({subject.about})", bold=True)
        for decision in decisions:
            _print(decision.rule.name, decision.rule.package, decision.matched, decision.explanation())
    return matched


def _tried(ledger: Ledger, trial: Trial) -> tuple[list[RoutingRule], Match]:
    """The rules to ask. Raises Misconfigured for a condition that does not compile, Rejected for an unknown name."""
    if trial.expression is not None:
        compile_rule(trial.expression)
        return [RoutingRule(name="(tried)", when=trial.expression, package="-")], Match.ALL
    rules = _asked_set(ledger, trial.live)
    if trial.name is not None:
        return [routing_rule(rules.known(trial.name))], Match.ALL
    return [routing_rule(rule) for rule in rules.rules], rules.match


def _asked_set(ledger: Ledger, live: bool) -> RuleSet:
    if not live:
        return proposed(ledger)
    with ledger.begin_reading() as tx:
        return tx.catalogue.live().rules


def _echo_json(subject: Subject, decisions: Iterable[Decision]) -> None:
    for decision in decisions:
        click.echo(json.dumps({"series": subject.series_uid, "study": subject.study_uid, **decision.explanation()}))


def _print(name: str, package: str, matched: bool, told: Mapping[str, Any], shadow: bool = False) -> None:
    """A decision with its clauses, and which of them decided."""
    mark = click.style("match   ", fg="green") if matched else click.style("no match", fg="yellow")
    to = f" -> {package}" if package else ""
    click.echo(f"{mark}  {name}{to}{' (shadow)' if shadow else ''}: {told.get('why', '')}")
    clauses = told.get("clauses", ())
    failing = [c for c in clauses if c["verdict"] == "false"] or [c for c in clauses if c["verdict"] == "unknown"]
    for clause in clauses:
        decides = FIRST_TO_FAIL if failing and clause is failing[0] else ""
        click.echo(f"            {clause['verdict'].upper():<8} {clause['text']}    [{clause['actual']}]{decides}")


def explain(path: Path, uid: str, now: bool, as_json: bool) -> None:
    """Print what was decided about a study or series. Raises Rejected for one that is not known."""
    config = read_config(path)
    with open_ledger(path) as ledger:
        subjects = of_uid(ledger, uid, identity_of(config))
        for subject in subjects:
            with ledger.begin_reading() as tx:
                decided = [] if now else tx.catalogue.decisions(subject.series_uid)
                live = tx.catalogue.live()
            if decided:
                told = [(v.rule, v.matched, v.shadow, dict(v.explanation)) for v, _ in decided]
                version, at = decided[0][1], "decided"
            else:
                rules = [routing_rule(rule) for rule in live.rules.rules]
                asked = evaluate(rules, subject.facts, live.rules.match)
                told = [
                    (d.rule.name, d.matched, d.rule.shadow, {**d.explanation(), "package": d.rule.package})
                    for d in asked
                ]
                version, at = live.number, "would be decided now" if now else "not routed yet; would be decided now"
            _tell(subject, told, f"{at} under version {version if version is not None else '-'} of the rules", as_json)
        if now:
            rules = [routing_rule(rule) for rule in live.rules.rules]
            try_choices(ledger, rules, live.rules.match, subjects, as_json)
        else:
            explain_choices(ledger, [subject.study_uid for subject in subjects], as_json)


def _tell(subject: Subject, told: Sequence[tuple[str, bool, bool, Mapping[str, Any]]], how: str, as_json: bool) -> None:
    if as_json:
        for name, matched, shadow, explanation in told:
            plain = {k: v for k, v in explanation.items() if k != "rule"}
            said = {"series": subject.series_uid, "how": how, "rule": name, "matched": matched, "shadow": shadow}
            click.echo(json.dumps(said | plain))
        return
    click.secho(f"series {subject.series_uid} ({subject.about}): {how}", bold=True)
    for name, matched, shadow, explanation in told:
        _print(name, str(explanation.get("package", "")), matched, explanation, shadow)
    if not told:
        click.echo("          there are no rules: no model sees it")


def unmatched(path: Path, since: float, as_json: bool) -> None:
    """Print the series that no rule took, in groups of the same kind."""
    groups: dict[tuple[str, ...], list[tuple[str, str]]] = defaultdict(list)
    with open_ledger(path) as ledger, ledger.begin_reading() as tx:
        for recorded in tx.catalogue.recorded(time.time() - since, unmatched=True):
            facts = facts_from(recorded)
            texts = [str(recorded.header.get(name, "")) for name in ("Modality", "BodyPartExamined")]
            description = facts.redacted(str(recorded.header.get("SeriesDescription", ""))[:40])
            barred = absolute_bar(facts)
            groups[(*texts, description, recorded.calling_ae, barred)].append((recorded.series_uid, recorded.study_uid))
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    names = ("modality", "body_part", "description", "from", "why_never")
    if as_json:
        for kind, members in ordered:
            example = {"series": members[-1][0], "study": members[-1][1]}
            told = dict(zip(names, kind, strict=True))
            click.echo(json.dumps({"series_count": len(members), **told, "example": example}))
    elif not ordered:
        click.echo("no series that was complete in this time was left without a model")
    else:
        rows = [[str(len(members)), *(part or "-" for part in kind), members[-1][0]] for kind, members in ordered]
        table(["SERIES", "MODALITY", "BODY PART", "DESCRIPTION", "FROM", "NEVER ROUTED BECAUSE", "EXAMPLE"], rows)
        click.echo("`dicom-node rules explain SERIES` says what each rule missed")


def lint(path: Path, live: bool, as_json: bool) -> bool:
    """Print what is wrong with the rules. Returns whether none of it is an error."""
    config = read_config(path)
    with open_ledger(path, create=True) as ledger:
        rules = _asked_set(ledger, live)
        with ledger.begin_reading() as tx:
            packages = tx.catalogue.packages()
    found = linter.lint(rules, packages, surroundings(config))
    for each in found:
        if as_json:
            click.echo(json.dumps({"severity": each.severity.value, "rule": each.rule, "fault": each.text}))
            continue
        colour = {"error": "red", "warning": "yellow"}[each.severity.value]
        click.echo(f"{click.style(f'{each.severity.value:<7}', fg=colour)}  {each.rule}: {each.text}")
    if not found and not as_json:
        click.echo(f"{len(rules.rules)} rule(s), nothing to find fault with")
    return not any(each.severity is linter.Severity.ERROR for each in found)


def surroundings(config: NodeConfig) -> linter.Surroundings:
    """What the configuration says of where results go and where series come from."""
    own = (config.node.ae_title, config.node.port)
    return linter.Surroundings(
        destinations=frozenset(config.destinations),
        own=frozenset(name for name, d in config.destinations.items() if (d.ae_title, d.port) == own),
        titles={name: d.ae_title for name, d in config.destinations.items()},
        peers=frozenset(peer.ae_title for peer in config.receive.peers),
    )
