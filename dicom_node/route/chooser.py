"""The CHOOSE stage: waits until a study is there, takes the series that a rule prefers, asks for one run on them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dicom_node.route.choice import Candidate, Selection, candidates_of, inputs_of, select
from dicom_node.route.kept import derivation, derive_again, facts_from
from dicom_node.route.provenance import NodeIdentity
from dicom_node.route.rehearsal import described
from dicom_node.route.router import OrderUrgency, Routed, infer, routing_rule
from dicom_node.route.rules import RoutingRule
from storage.facts.errors import Rejected
from storage.facts.routing import Arriving, Choice, Late, Origin, Outcome, RecordedSeries, RuleSet
from storage.facts.study import UNREADABLE, Series, Urgency
from storage.facts.task import Later, Next, Task
from storage.ledger import Ledger, Transaction
from storage.stage import Done, Handler

LOOK_AGAIN = 10.0  #: seconds, where no routed series will call: an open association, an earlier study


@dataclass(frozen=True, slots=True, kw_only=True)
class _Study:
    """What is known at one moment."""

    rules: RuleSet
    rule: RoutingRule
    members: Sequence[Candidate]  #: complete series of the study
    others: Sequence[Candidate]  #: complete series of the patient's other studies; empty where no role asks
    series: Mapping[str, tuple[Series, int]]  #: each of them, with the number of its objects at completion
    arriving: Arriving
    earlier: Sequence[Choice]  #: for which the same rule asked for a run, the oldest first


def choose(ledger: Ledger, node: NodeIdentity, order_urgency: OrderUrgency) -> Handler:
    """The CHOOSE stage's handler."""

    def work(task: Task) -> Done | Later:
        with ledger.begin_reading() as tx:
            study = _read(tx, task, node)
        selection = _selected(study)
        later = _why_wait(task, study, selection)
        return later or _settled(task, study, selection, order_urgency)

    return Handler(work=work)


def _read(tx: Transaction, task: Task, node: NodeIdentity) -> _Study:
    version, name = int(task.payload["rules_version"]), str(task.payload["rule"])
    rules = tx.catalogue.version(version).rules
    rule = routing_rule(rules.known(name))
    study_uid = task.study_uid or ""
    members = _candidates(tx, [study_uid], node)
    others: list[Candidate] = []
    if any(role.origin is Origin.PRIOR for role in rule.inputs):
        others = _candidates(tx, tx.catalogue.of_same_patient(study_uid), node)
    return _Study(
        rules=rules,
        rule=rule,
        members=members,
        others=others,
        series={each.series_uid: _counted(tx, each.series_uid) for each in (*members, *others)},
        arriving=tx.catalogue.arriving(study_uid),
        earlier=[each for each in tx.catalogue.choices(study_uid, name) if each.outcome is Outcome.CHOSEN],
    )


def _candidates(tx: Transaction, uids: Sequence[str], node: NodeIdentity) -> list[Candidate]:
    """Complete series of that UID, or of the study of that UID, whose files are here and whose header can be read."""
    recorded = [each for uid in uids for each in tx.catalogue.recorded(0.0, uid=uid)]
    here = {uid for study in {each.study_uid for each in recorded} for uid in tx.catalogue.complete_instances(study)}
    wanted = [each for each in recorded if each.series_uid in here and UNREADABLE not in each.header]
    return [_candidate(tx, each, node) for each in wanted]


def _candidate(tx: Transaction, recorded: RecordedSeries, node: NodeIdentity) -> Candidate:
    facts = facts_from(recorded)
    if recorded.derivation != derivation(node):
        series = tx.studies.series(recorded.series_uid)
        instances = tx.studies.instances(recorded.series_uid)
        if series is not None and instances:
            facts = derive_again(series, instances, node)
    return Candidate(series_uid=recorded.series_uid, study_uid=recorded.study_uid, facts=facts, about=described(facts))


def _counted(tx: Transaction, series_uid: str) -> tuple[Series, int]:
    evidence = tx.studies.evidence(series_uid)
    if evidence is None:
        raise Rejected(f"series {series_uid} is not in the ledger")
    return evidence.series, evidence.complete_instances


def _selected(study: _Study) -> Selection:
    rules = [routing_rule(rule) for rule in study.rules.rules]
    candidates = candidates_of(study.rule, rules, study.rules.match, study.members)
    return select(study.rule, candidates, study.members, study.others)


def _why_wait(task: Task, study: _Study, selection: Selection) -> Later | None:
    """When to look again, and what is waited for; None when it is time."""
    now, rule, arriving = time.time(), study.rule, study.arriving
    deadline = task.created_at + rule.wait
    if now >= deadline or (study.earlier and rule.late is Late.IGNORE):
        return None
    reasons: list[tuple[float, str]] = []
    if arriving.open_series:
        reasons.append((now + LOOK_AGAIN, f"{arriving.open_series} series of the study still arrive"))
    if arriving.open_associations:
        reasons.append((now + LOOK_AGAIN, "the association that brought the study is still open"))
    if now < arriving.last_at + rule.settle:
        quiet = f"{rule.settle:g} s without a new object show that no other series follows"
        reasons.append((arriving.last_at + rule.settle, quiet))
    if selection.missing:
        reasons.append((now + LOOK_AGAIN, f"no series yet for {', '.join(selection.missing)}"))
    if not reasons:
        return None
    return Later(at=min(deadline, *(at for at, _ in reasons)), why="; ".join(why for _, why in reasons))


def _settled(task: Task, study: _Study, selection: Selection, order_urgency: OrderUrgency) -> Done:
    outcome, why = _outcome(study, selection)
    follow = _run(task, study, selection, order_urgency) if outcome is Outcome.CHOSEN else None
    winner = selection.primary.winner
    choice = Choice(
        key=task.key,
        study_uid=task.study_uid or "",
        rule=study.rule.name,
        outcome=outcome,
        explanation=_explanation(task, study, selection) | {"why": why},
        series_uid=winner.series_uid if winner and follow else "",
        run=follow.key if follow else "",
        rules_version=int(task.payload["rules_version"]),
    )

    def record(tx: Transaction) -> None:
        tx.catalogue.record_choice(choice)

    note = {"outcome_of_choice": outcome.value, "why": why, "run": follow.key if follow else None}
    return Done(follow=(follow,) if follow else (), record=record, note=note)


def _outcome(study: _Study, selection: Selection) -> tuple[Outcome, str]:
    earlier = study.earlier
    if earlier and study.rule.late is Late.IGNORE:
        return Outcome.STANDS, "it came late, and the rule ignores what is late: the earlier choice stands"
    if selection.primary.winner is None:
        return Outcome.NONE, "no series matches any more"
    if earlier and earlier[-1].explanation.get("taken") == _taken(study, selection):
        return Outcome.STANDS, "the same series would be taken as before: the earlier result stands"
    return Outcome.CHOSEN, selection.primary.why


def _taken(study: _Study, selection: Selection) -> dict[str, list[Any]]:
    """What a run is made of: role to series and revision."""
    winner = selection.primary.winner
    chosen = {pick.role: pick.winner for pick in selection.inputs} | {selection.primary.role: winner}
    return {
        role: [each.series_uid, study.series[each.series_uid][0].revision]
        for role, each in chosen.items()
        if each is not None
    }


def _explanation(task: Task, study: _Study, selection: Selection) -> dict[str, Any]:
    return {
        "picks": [pick.explanation() for pick in (selection.primary, *selection.inputs)],
        "taken": _taken(study, selection),
        "missing": list(selection.missing),
        "waited": round(time.time() - task.created_at, 1),
        "wait": study.rule.wait,
        "still_arriving": study.arriving.open_series,
        "replaces": [choice.run for choice in study.earlier],
        "package": f"{task.payload['package']}@{task.payload['version']}",
    }


def _run(task: Task, study: _Study, selection: Selection, order_urgency: OrderUrgency) -> Next:
    """The run on what was chosen. Its key names the choice: the same series may be chosen again after another was."""
    winner = selection.primary.winner
    assert winner is not None  # only a choice has a run
    series, instances = study.series[winner.series_uid]
    rule = study.rule
    urgency = Urgency.ROUTINE if rule.shadow else max(rule.urgency, order_urgency(series.header))
    routed = Routed(
        package=str(task.payload["package"]),
        version=str(task.payload["version"]),
        rules=(rule.name,),
        destinations=() if rule.shadow else rule.destinations,
        urgency=urgency,
        shadow=rule.shadow,
    )
    plain = infer(series, series.revision, instances, routed, int(task.payload["rules_version"]))
    inputs = {role: _input(study, each) for role, each in inputs_of(selection).items()}
    asked = {role.name: why for role in rule.inputs if (why := _missed(role.name, task, selection))}
    return dataclasses.replace(
        plain,
        key=f"{plain.key}/{rule.name}/{int(task.payload['generation'])}",
        payload={**plain.payload, "inputs": inputs, "missing": asked},
        series_uid=series.series_uid,
    )


def _input(study: _Study, candidate: Candidate) -> dict[str, Any]:
    series, instances = study.series[candidate.series_uid]
    return {"series": series.series_uid, "study": series.study_uid, "revision": series.revision, "instances": instances}


def _missed(role: str, task: Task, selection: Selection) -> str:
    if role not in selection.missing:
        return ""
    return f"no series of that kind was there after {time.time() - task.created_at:.0f} s"
