"""``dicom-node status STUDY``: what the node knows about a study, and why it is where it is."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from dicom_node.commands.opening import open_ledger
from dicom_node.commands.options import config_option
from dicom_node.commands.printing import moment, size, table
from dicom_node.commands.worklist import delivered, summary
from storage import views, workers
from storage.facts.arrival import Absence, AbsenceState, Look


@click.command()
@config_option
@click.argument("study", required=False)
def status(path: Path, study: str | None) -> None:
    """What the node knows about STUDY, and why it is where it is; without it, the latest studies."""
    with open_ledger(path) as ledger, ledger.read() as session:
        if study is None:
            found = views.studies(session, limit=20)
            click.echo("\n".join(found) if found else "no studies yet")
            _show_sources(views.looks(session), views.absences(session))
            for one in workers.devices(session):
                state = "in service" if one.in_service else "OUT OF SERVICE"
                click.echo(f"{one.host} {one.device}: {state} since {moment(one.since)} ({one.why})")
            return
        series = views.study_series(session, study)
        open_tasks = [t for t in views.tasks(session, study=study, limit=500) if t.state != "done"]
        decisions = {s.series_uid: views.decisions(session, s.series_uid) for s in series}
        absences, notices = views.absences(session, study=study), views.notices(session, study)
        results = views.worklist(session, study=study, limit=10_000)
    if not series and not absences and not notices:
        click.echo(f"study {study} is not known here: look at `dicom-node audit show` for refused objects", err=True)
        sys.exit(1)
    table(
        ["SERIES", "MODALITY", "OBJECTS", "SIZE", "LAST OBJECT", "STATE"],
        [
            [s.series_uid, s.modality, str(s.instances), size(s.bytes), moment(s.last_at), _state(s)]
            for s in series
        ],
    )  # fmt: skip
    _show_absences(absences)
    for notice in notices:
        said = f"{notice.kind} of {notice.peer}: {notice.modality} {notice.state}".replace("  ", " ")
        whole = f", {notice.wholes} series or studies as a whole" if notice.wholes else ""
        click.echo(f"\n{said}, {notice.objects} objects named{whole} ({moment(notice.changed_at)})")
    for s in series:
        if decisions[s.series_uid]:
            click.echo(f"\n{s.series_uid}")
        for decision in decisions[s.series_uid]:
            mark = "routed by" if decision["matched"] else "not routed by"
            click.echo(f"  {mark} {decision['rule']}: {decision['why']}")
    for task in open_tasks:
        due = f", due in {task.not_before - time.time():.0f} s" if task.not_before > time.time() else ""
        click.echo(f"\n{task.kind} task {task.id} is {task.state}{due}: {task.reason or 'no reason given'}")
    for item in results:
        click.echo(f"\n{item.prediction.algorithm.package}: {summary(item.prediction)}")
        click.echo(f"  urgency {item.urgency.name}; objects: {delivered(item)}")


def _show_sources(looks: Sequence[Look], absences: Sequence[Absence]) -> None:
    for look in looks:
        came = look.why or f"{look.studies} recent studies, {look.lacking} series lacking, {look.fetched} asked for"
        click.echo(f"\nsource {look.peer}, looked at {moment(look.at)}: {came}")
    _show_absences(absences)


def _show_absences(absences: Sequence[Absence]) -> None:
    """What lacks, and when it is asked for."""
    if not absences:
        return
    click.echo()
    table(
        ["LACKING SERIES", "STUDY", "SOURCE", "MODALITY", "HERE", "THERE", "ASKED FOR", "NEXT", "STATE"],
        [
            [a.series_uid, a.study_uid, a.peer, a.modality, str(a.here), str(a.expected), f"{a.tries} times",
             moment(a.next_at) if a.state is AbsenceState.WAITING else "-", a.state.value]
            for a in absences
        ],
    )  # fmt: skip


def _state(series: views.SeriesView) -> str:
    if series.revision == 0:
        return "arriving"
    late = series.instances - series.complete_instances
    return f"complete (revision {series.revision})" + (f", {late} late" if late > 0 else "")
