"""How choices within a study are told: those that were made, those that wait, and what would be chosen."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from dicom_node.commands.rule_subject import Subject
from dicom_node.route.choice import Candidate, Selection, candidates_of, select
from dicom_node.route.kept import facts_from
from dicom_node.route.rehearsal import described
from dicom_node.route.rules import RoutingRule
from storage import views
from storage.facts.routing import Choice, Match, Origin, Outcome, patient_digest
from storage.facts.study import UNREADABLE
from storage.facts.task import Kind
from storage.ledger import Ledger

_SIGNS = {
    Outcome.CHOSEN: ("chose   ", "green"),
    Outcome.STANDS: ("kept    ", "yellow"),
    Outcome.NONE: ("nothing ", "yellow"),
}


def as_candidate(subject: Subject) -> Candidate:
    """A series that was asked about, as one to choose from."""
    return Candidate(
        series_uid=subject.series_uid, study_uid=subject.study_uid, facts=subject.facts, about=subject.about
    )


def try_choices(
    ledger: Ledger, rules: Sequence[RoutingRule], match: Match, subjects: Sequence[Subject], as_json: bool
) -> None:
    """Print what each rule that chooses would take of each study, if all of it were here."""
    choosing = [rule for rule in rules if rule.chooses and rule.enabled]
    if not choosing:
        return
    everything = [as_candidate(each) for each in subjects if UNREADABLE not in each.facts.header]
    studies: dict[str, list[Candidate]] = defaultdict(list)
    for each in everything:
        studies[each.study_uid].append(each)
    for study_uid, members in studies.items():
        others = [*_same_patient(everything, members), *_stored_others(ledger, study_uid, choosing)]
        for rule in choosing:
            candidates = candidates_of(rule, rules, match, members)
            if candidates:
                _tell_selection(study_uid, rule, select(rule, candidates, members, others), as_json)


def _same_patient(everything: Iterable[Candidate], members: Sequence[Candidate]) -> list[Candidate]:
    patients = {patient_digest(each.facts.header) for each in members} - {None}
    own = members[0].study_uid
    return [e for e in everything if e.study_uid != own and patient_digest(e.facts.header) in patients]


def _stored_others(ledger: Ledger, study_uid: str, rules: Sequence[RoutingRule]) -> list[Candidate]:
    if all(role.origin is not Origin.PRIOR for rule in rules for role in rule.inputs):
        return []
    with ledger.begin_reading() as tx:
        uids = tx.catalogue.of_same_patient(study_uid)
        recorded = [each for uid in uids for each in tx.catalogue.recorded(0.0, uid=uid)]
    known = [(each, facts_from(each)) for each in recorded if UNREADABLE not in each.header]
    return [
        Candidate(series_uid=each.series_uid, study_uid=each.study_uid, facts=facts, about=described(facts))
        for each, facts in known
    ]


def _tell_selection(study_uid: str, rule: RoutingRule, selection: Selection, as_json: bool) -> None:
    picks = [pick.explanation() for pick in (selection.primary, *selection.inputs)]
    if as_json:
        told = {"rule": rule.name, "picks": picks, "missing": list(selection.missing)}
        click.echo(json.dumps({"study": study_uid, "choice": told}))
        return
    winner = selection.primary.winner
    click.secho(f"study {study_uid}, if this is all of it:", bold=True)
    click.echo(f"{click.style('takes   ', fg='green')}  {rule.name}: {winner.series_uid if winner else '-'}")
    _tell_picks(picks)


def _tell_picks(picks: Iterable[Mapping[str, Any]]) -> None:
    for pick in picks:
        series = pick["series"] or "none"
        role = f"{pick['role']}: {series}, " if pick["role"] else ""
        click.echo(f"            {role}{pick['why']}")
        for at, each in enumerate(pick["candidates"], 1):
            values = "; ".join(shown for shown in each["values"].values() if shown)
            click.echo(f"              {at}. {each['series']} ({each['about']}){f'    [{values}]' if values else ''}")
        if pick["more"]:
            click.echo(f"              and {pick['more']} more")


def explain_choices(ledger: Ledger, study_uids: Sequence[str], as_json: bool) -> None:
    """Print the choices that were made in studies, and those that still wait."""
    for study_uid in dict.fromkeys(study_uids):
        with ledger.begin_reading() as tx:
            made = tx.catalogue.choices(study_uid)
        with ledger.read() as session:
            open_ = [t for t in views.tasks(session, study=study_uid, limit=500) if t.kind == Kind.CHOOSE.value]
        for choice in made:
            _tell_choice(choice, as_json)
        for task in open_:
            if task.state in ("waiting", "running", "failed"):
                _tell_task(study_uid, task, as_json)


def _tell_choice(choice: Choice, as_json: bool) -> None:
    told = choice.explanation
    if as_json:
        plain = {"rule": choice.rule, "outcome": choice.outcome.value, "series": choice.series_uid or None}
        version = {"version": choice.rules_version, "at": choice.at}
        click.echo(json.dumps({"study": choice.study_uid, "choice": plain | version | dict(told)}))
        return
    sign, colour = _SIGNS[choice.outcome]
    after = f"after {told.get('waited', 0):g} s of waiting, under version {choice.rules_version} of the rules"
    click.secho(f"study {choice.study_uid}: chosen {after}", bold=True)
    click.echo(f"{click.style(sign, fg=colour)}  {choice.rule}: {choice.series_uid or '-'}: {told.get('why', '')}")
    _tell_picks(told.get("picks", ()))
    if told.get("missing"):
        click.echo(f"            missed: {', '.join(told['missing'])}; the package says what becomes of the run")
    if told.get("still_arriving"):
        click.echo(f"            {told['still_arriving']} series still arrived when the wait was over")
    if told.get("replaces"):
        click.echo(f"            {len(told['replaces'])} earlier choice(s) of this rule are replaced")


def _tell_task(study_uid: str, task: views.TaskView, as_json: bool) -> None:
    rule = task.key.removeprefix(f"{study_uid}/").partition("/")[0]
    why = task.reason or "it has just begun"
    if as_json:
        told = {"rule": rule, "outcome": task.state, "why": why}
        click.echo(json.dumps({"study": study_uid, "choice": told}))
        return
    click.echo(f"{click.style('waits   ', fg='yellow')}  {rule}: not chosen yet ({task.state}): {why}")
