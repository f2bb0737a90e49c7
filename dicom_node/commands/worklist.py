"""``dicom-node worklist``: results, the most urgent first."""

from __future__ import annotations

import time
from pathlib import Path

import click

from dicom_node.commands.opening import open_ledger
from dicom_node.commands.options import config_option
from dicom_node.commands.printing import moment, table
from storage import views
from storage.facts.figures import figure
from storage.facts.prediction import Prediction
from storage.facts.units import behind

MOST = 100  #: characters of a result in the list


@click.command()
@config_option
@click.option("--days", default=7.0, show_default=True, help="Results of so many days.")
@click.option("--limit", default=50, show_default=True, help="At most so many.")
def worklist(path: Path, days: float, limit: int) -> None:
    """Results, the most urgent first, then the longest waiting."""
    with open_ledger(path) as ledger, ledger.read() as session:
        items = views.worklist(session, since=time.time() - days * 86400, limit=limit)
    if not items:
        click.echo("no results")
        return
    rows = [
        [
            item.urgency.name,
            moment(item.made_at),
            f"{item.prediction.algorithm.package}@{item.prediction.algorithm.version}",
            _cut(summary(item.prediction)),
            f"{delivered(item)}{', UPS' if item.workitems else ''}",
            item.study_uid,
        ]
        for item in items
    ]
    table(["URGENCY", "MADE", "MODEL", "RESULT", "OBJECTS", "STUDY"], rows)
    if any(row[3].endswith("…") for row in rows):
        click.echo("`dicom-node results show STUDY` tells the rest")


def delivered(item: views.WorklistItem) -> str:
    """How many objects there are, and how many were acknowledged: each counts once for each destination."""
    return f"{item.objects} made, {item.delivered} delivered"


def _cut(said: str) -> str:
    start = said[:MOST]
    return said if said == start else f"{start.rpartition(' ')[0] or start} …"


def summary(prediction: Prediction) -> str:
    """A result in one line."""
    if prediction.reason is not None:
        return f"{prediction.status.value}: {prediction.reason.text}"
    said = [f"{f.condition.meaning}: {f.presence.value}" for f in prediction.findings]
    measured = [*prediction.measurements, *(m for s in prediction.segments for m in s.measurements)]
    said += [f"{m.name.meaning} {figure(m.value, m.digits)}{behind(m.unit.value)}" for m in measured[:2]]
    return "; ".join(said) or prediction.status.value
