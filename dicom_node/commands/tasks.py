"""``dicom-node tasks``: what is queued, running or dead."""

from __future__ import annotations

import time
from pathlib import Path

import click

from dicom_node.commands.opening import open_ledger, operator
from dicom_node.commands.options import config_option
from dicom_node.commands.printing import moment, table
from storage import views, workers
from storage.facts.errors import IllegalTransition, Rejected
from storage.facts.task import State
from storage.ledger import Ledger


@click.group()
def tasks() -> None:
    """Show what is queued, running or dead, and how fast it goes; retry dead letters."""


@tasks.command("list")
@config_option
@click.option("--all", "everything", is_flag=True, help="Also what is done or cancelled.")
@click.option("--study", help="Only tasks of this Study Instance UID.")
@click.option("--limit", default=50, show_default=True, help="At most so many, the newest.")
def list_tasks(path: Path, everything: bool, study: str | None, limit: int) -> None:
    """List open and dead tasks, with the reason why they wait or died."""
    states = list(State) if everything else [State.WAITING, State.RUNNING, State.FAILED]
    with open_ledger(path) as ledger, ledger.read() as session:
        found = views.tasks(session, states=states, study=study, limit=limit)
    if not found:
        click.echo("no tasks")
        return
    now = time.time()
    rows = [
        [
            str(t.id), t.kind, t.state, t.urgency.name, str(t.failures),
            _due(t, now),
            t.series_uid or t.key, t.reason or "",
        ]
        for t in found
    ]  # fmt: skip
    table(["ID", "KIND", "STATE", "URGENCY", "FAILURES", "DUE/MADE", "SERIES", "REASON"], rows)


@tasks.command()
@config_option
@click.argument("task_id", type=int, required=False)
@click.option("--all", "everything", is_flag=True, help="Every dead letter.")
def retry(path: Path, task_id: int | None, everything: bool) -> None:
    """Try a dead letter again."""
    if (task_id is None) != everything:
        raise click.UsageError("give the ID of a task, or --all")
    with open_ledger(path) as ledger:
        revived = _retry_all(ledger) if everything else 1
        if not everything:
            with ledger.begin(operator()) as tx:
                tx.queue.revive(task_id or 0)
    click.echo(f"{revived} task(s) will be tried again")


@tasks.command()
@config_option
@click.argument("task_id", type=int)
def cancel(path: Path, task_id: int) -> None:
    """Stop a task that waits or runs. Nothing follows from it."""
    with open_ledger(path) as ledger, ledger.begin(operator()) as tx:
        tx.queue.cancel(task_id)
    click.echo(f"task {task_id} is cancelled")


@tasks.command()
@config_option
@click.option("--hours", default=24.0, show_default=True, help="Of runs that ended in this time.")
def pace(path: Path, hours: float) -> None:
    """How long the runs of each package took, and how long they waited for a slot."""
    with open_ledger(path) as ledger, ledger.read() as session:
        found = workers.rates(session, time.time() - 3600 * hours)
    if not found:
        click.echo(f"no run ended in the last {hours:g} hours")
        return
    rows = [
        [f"{r.package}@{r.version}", str(r.runs), f"{r.seconds:.1f} s", f"{r.longest:.1f} s", f"{r.waited:.1f} s"]
        for r in found
    ]
    table(["PACKAGE", "RUNS", "MEAN", "LONGEST", "WAITED (MEAN)"], rows)


def _retry_all(ledger: Ledger) -> int:
    """Try every dead letter again, the oldest first: it makes up for those that followed from it, which end there."""
    with ledger.read() as session:
        numbers = [t.id for t in views.tasks(session, states=[State.FAILED], limit=1_000_000)]
    revived = 0
    for number in sorted(numbers):
        try:
            with ledger.begin(operator()) as tx:
                tx.queue.revive(number)
        except IllegalTransition:
            continue  # overtaken: what it followed from is tried again; or another operator was faster
        except Rejected as error:
            click.echo(str(error), err=True)
            continue
        revived += 1
    return revived


def _due(task: views.TaskView, now: float) -> str:
    waits = task.state == State.WAITING and task.not_before > now
    return f"in {task.not_before - now:.0f} s" if waits else moment(task.created_at)
