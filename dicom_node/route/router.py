"""The ROUTE stage: which models see a complete series, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dicom_node.route.facts import SeriesFacts, facts_of
from dicom_node.route.provenance import NodeIdentity
from dicom_node.route.rules import STABLE, Decision, RoutingRule, evaluate, split_reference
from storage.facts.errors import Rejected, Transient
from storage.facts.routing import RegisteredPackage, Rule, Verdict
from storage.facts.study import UNREADABLE, Header, Instance, Series, Urgency
from storage.facts.task import Kind, Next, Task
from storage.ledger import Ledger, Transaction
from storage.stage import Done, Handler

#: The urgency that the order gives, from a whole header.
OrderUrgency = Callable[[Header], Urgency]


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """One model run that the rules ask for."""

    package: str
    version: str
    rules: tuple[str, ...]
    destinations: tuple[str, ...]
    urgency: Urgency


def routing_rule(rule: Rule) -> RoutingRule:
    """A stored rule as the evaluator takes it. Raises Misconfigured when its package reference is malformed."""
    package, version = split_reference(rule.package)
    return RoutingRule(
        name=rule.name,
        when=rule.expression,
        package=package,
        version_or_channel=version,
        destinations=rule.destinations,
        urgency=rule.urgency,
        enabled=rule.enabled,
        position=rule.position,
    )


def series_facts(series: Series, instances: Sequence[Instance], node: NodeIdentity) -> SeriesFacts:
    """What the rules may ask about a stored series."""
    return facts_of(series, [instance.header for instance in instances], node)


def route(ledger: Ledger, node: NodeIdentity, order_urgency: OrderUrgency) -> Handler:
    """The ROUTE stage's handler."""

    def work(task: Task) -> Done:
        with ledger.begin_reading() as tx:
            series = tx.studies.series(task.series_uid or "")
            instances = tx.studies.instances(task.series_uid or "")
            rules = tx.catalogue.rules()
            packages = tx.catalogue.packages()
        if series is None:
            raise Rejected(f"series {task.series_uid} is not in the ledger")
        revision = int(task.payload["revision"])
        order = order_urgency(series.header)
        if UNREADABLE in series.header:
            verdicts, runs = _none_matches(rules, str(series.header[UNREADABLE])), []
        else:
            decisions = evaluate([routing_rule(rule) for rule in rules], series_facts(series, instances, node))
            runs = combine(decisions, packages, order)
            verdicts = [
                Verdict(rule=d.rule.name, matched=d.matched, explanation=_explanation(d.explanation()))
                for d in decisions
            ]

        def record(tx: Transaction) -> None:
            tx.catalogue.record_decisions(series.study_uid, series.series_uid, revision, verdicts)
            if order > Urgency.ROUTINE:
                tx.queue.raise_urgency(series.study_uid, order)

        follow = tuple(_infer(series, revision, len(instances), run) for run in runs)
        return Done(follow=follow, record=record, note={"runs": [f"{r.package}@{r.version}" for r in runs]})

    return Handler(work=work)


def _none_matches(rules: Sequence[Rule], why: str) -> list[Verdict]:
    """What cannot be read reaches no model: neither could its report be made."""
    explanation = {"why": f"its header cannot be read: {why}"}
    return [
        Verdict(rule=rule.name, matched=False, explanation={"condition": rule.expression, **explanation})
        for rule in rules
    ]


def combine(
    decisions: Sequence[Decision], packages: Sequence[RegisteredPackage], order: Urgency = Urgency.ROUTINE
) -> list[Routed]:
    """One run for each package that matching rules name: their destinations together, their highest urgency.

    Raises Transient while no worker has registered the package: it may just be starting.
    """
    runs: dict[tuple[str, str], Routed] = {}
    for decision in decisions:
        if not decision.matched:
            continue
        rule = decision.rule
        key = (rule.package, _version(rule, packages))
        known = runs.get(key)
        runs[key] = Routed(
            package=key[0],
            version=key[1],
            rules=(*(known.rules if known else ()), rule.name),
            destinations=tuple(dict.fromkeys((*(known.destinations if known else ()), *rule.destinations))),
            urgency=max(known.urgency if known else Urgency.ROUTINE, rule.urgency, order),
        )
    return list(runs.values())


def _version(rule: RoutingRule, packages: Sequence[RegisteredPackage]) -> str:
    known = [p.version for p in packages if p.package == rule.package]
    if rule.version_or_channel == STABLE and known:
        return known[-1]
    if rule.version_or_channel in known:
        return rule.version_or_channel
    wanted = rule.package if rule.version_or_channel == STABLE else f"{rule.package}@{rule.version_or_channel}"
    there = ", ".join(f"{p.package}@{p.version}" for p in packages) or "none"
    raise Transient(
        f"rule {rule.name!r} asks for package {wanted}, which no worker has registered (registered: {there}): "
        "start a worker that has it, or change the rule"
    )


def _infer(series: Series, revision: int, instances: int, run: Routed) -> Next:
    return Next(
        kind=Kind.INFER,
        key=f"{series.series_uid}/{revision}/{run.package}@{run.version}",
        payload={
            "revision": revision,
            "instances": instances,
            "package": run.package,
            "version": run.version,
            "rules": list(run.rules),
            "destinations": list(run.destinations),
        },
        urgency=run.urgency,
    )


def _explanation(plain: Mapping[str, Any]) -> Mapping[str, Any]:
    """What views.decisions shows; the rule's own text is kept with it, as the rule may change later."""
    return {"condition": plain["rule"]["when"], **{k: v for k, v in plain.items() if k not in ("rule", "matched")}}
