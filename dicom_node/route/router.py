"""The ROUTE stage: which models see a complete series, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dicom_node.route.asking import Asked, ask
from dicom_node.route.choice import matches_role
from dicom_node.route.facts import SeriesFacts, facts_of
from dicom_node.route.kept import derivation, plain
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
    shadow: bool = False  #: only shadow rules ask for it


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
        shadow=rule.shadow,
        late=rule.late,
        position=rule.position,
        prefer=rule.prefer,
        inputs=rule.inputs,
        wait=rule.wait,
        settle=rule.settle,
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
            live = tx.catalogue.live()
            packages = tx.catalogue.packages()
        if series is None:
            raise Rejected(f"series {task.series_uid} is not in the ledger")
        revision = int(task.payload["revision"])
        order = order_urgency(series.header)
        facts: SeriesFacts | None = None
        asked: list[Asked] = []
        if UNREADABLE in series.header:
            verdicts, runs = _none_matches(live.rules.rules, str(series.header[UNREADABLE])), []
        else:
            facts = series_facts(series, instances, node)
            rules = [routing_rule(rule) for rule in live.rules.rules]
            decisions = evaluate(rules, facts, live.rules.match, late=revision > 1)
            runs = combine([d for d in decisions if not d.rule.chooses], packages, order)
            asked = list(_choices(decisions, facts, packages))
            verdicts = [
                Verdict(
                    rule=d.rule.name,
                    matched=d.matched,
                    explanation=_explanation(d.explanation()),
                    shadow=d.rule.shadow,
                )
                for d in decisions
            ]

        def record(tx: Transaction) -> None:
            tx.catalogue.record_decisions(series.study_uid, series.series_uid, revision, verdicts, live.number)
            if facts is not None:
                tx.catalogue.keep_facts(series.series_uid, revision, derivation(node), plain(facts))
            ask(tx, task, asked, live.number)
            if order > Urgency.ROUTINE:
                tx.queue.raise_urgency(series.study_uid, order)

        follow = tuple(infer(series, revision, len(instances), run, live.number) for run in runs)
        note: dict[str, Any] = {"runs": [f"{r.package}@{r.version}" for r in runs], "rules_version": live.number}
        if asked:
            note["choices"] = [each.rule for each in asked]
        return Done(follow=follow, record=record, note=note)

    return Handler(work=work)


def _choices(
    decisions: Sequence[Decision], facts: SeriesFacts, packages: Sequence[RegisteredPackage]
) -> Iterator[Asked]:
    """The choices that the series bears on: as a candidate, or for a role of a rule whose choice has begun."""
    for decision in decisions:
        rule = decision.rule
        if not rule.chooses or not rule.enabled or (rule.shadow and not _registered(rule, packages)):
            continue
        if decision.matched or any(matches_role(role, facts) for role in rule.inputs):
            version = _version(rule, packages)
            yield Asked(rule=rule.name, package=rule.package, version=version, begins=decision.matched)


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

    What only shadow rules ask for goes nowhere and overtakes nothing. Raises Transient while no worker has registered
    the package: it may just be starting. A shadow rule waits for no package.
    """
    runs: dict[tuple[str, str], Routed] = {}
    for decision in decisions:
        rule = decision.rule
        if not decision.matched or (rule.shadow and not _registered(rule, packages)):
            continue
        key = (rule.package, _version(rule, packages))
        known = runs.get(key) or Routed(
            package=key[0], version=key[1], rules=(), destinations=(), urgency=Urgency.ROUTINE, shadow=True
        )
        asked = () if rule.shadow else rule.destinations
        runs[key] = dataclasses.replace(
            known,
            rules=(*known.rules, rule.name),
            destinations=tuple(dict.fromkeys((*known.destinations, *asked))),
            urgency=known.urgency if rule.shadow else max(known.urgency, rule.urgency, order),
            shadow=known.shadow and rule.shadow,
        )
    return list(runs.values())


def _registered(rule: RoutingRule, packages: Sequence[RegisteredPackage]) -> bool:
    wanted = rule.version_or_channel
    return any(p.package == rule.package and (p.stable if wanted == STABLE else p.version == wanted) for p in packages)


def _version(rule: RoutingRule, packages: Sequence[RegisteredPackage]) -> str:
    known = [p for p in packages if p.package == rule.package]
    stable = [p.version for p in known if p.stable]
    if rule.version_or_channel == STABLE and stable:
        return stable[-1]
    if rule.version_or_channel in (p.version for p in known):
        return rule.version_or_channel
    if known and rule.version_or_channel == STABLE:
        raise Transient(
            f"rule {rule.name!r} asks for package {rule.package}, of which no version is in use: `dicom-node models "
            f"promote` brings one into use (there: {', '.join(p.version for p in known)})"
        )
    wanted = rule.package if rule.version_or_channel == STABLE else f"{rule.package}@{rule.version_or_channel}"
    there = ", ".join(f"{p.package}@{p.version}" for p in packages) or "none"
    raise Transient(
        f"rule {rule.name!r} asks for package {wanted}, which no worker has registered (registered: {there}): "
        "start a worker that has it, or change the rule"
    )


def infer(series: Series, revision: int, instances: int, run: Routed, version: int) -> Next:
    """The run as this version of the rules wants it: what it takes along is not looked up again."""
    return Next(
        kind=Kind.INFER,
        key=f"{series.series_uid}/{revision}/{run.package}@{run.version}",
        payload={
            "revision": revision,
            "instances": instances,
            "package": run.package,
            "version": run.version,
            "rules": list(run.rules),
            "rules_version": version,
            "destinations": list(run.destinations),
            "shadow": run.shadow,
        },
        urgency=run.urgency,
    )


def _explanation(plain: Mapping[str, Any]) -> Mapping[str, Any]:
    """What views.decisions shows; the rule's own text is kept with it, as the rule may change later."""
    told = {k: v for k, v in plain.items() if k not in ("rule", "matched")}
    rule = plain["rule"]
    return {"condition": rule["when"], "package": rule["package"], "position": rule["position"], **told}
