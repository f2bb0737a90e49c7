"""``dicom-node results``: what was made of a study, as text and as pictures, and sending it again."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Collection, Iterator
from datetime import datetime
from pathlib import Path

import click
import pydicom

from dicom_node.commands.opening import open_ledger, operator, read_config
from dicom_node.commands.options import config_option
from dicom_node.commands.printing import moment, size
from dicom_node.results import fallback, profiles
from dicom_node.results.identity import NodeIdentity
from dicom_node.results.language import Language, language
from dicom_node.results.material import arrays_of, headers_of, look_in, mask_of
from dicom_node.results.reading_out import lines
from dicom_node.results.report import Composed, Order, compose
from storage import views
from storage.facts.errors import Rejected
from storage.facts.prediction import Prediction
from storage.facts.result import Kept, ResultObject
from storage.facts.task import Kind, Next
from storage.ledger import Ledger


@click.group()
def results() -> None:
    """Show results as text or pictures; send them again."""


@results.command()
@config_option
@click.argument("study")
def show(path: Path, study: str) -> None:
    """Print the reports of STUDY as they were sent."""
    with open_ledger(path) as ledger:
        for kept, objects in _of(ledger, study):
            click.secho(f"{kept.prediction.algorithm.name}, made {moment(kept.made_at)}", bold=True)
            click.echo(f"series {kept.prediction.series_uid}, revision {kept.prediction.revision}")
            for line in _listed(objects):
                click.echo(line)
            report = next((o for o in objects if o.kind in profiles.REPORTS), None)
            if report is None:
                click.echo("no report was made yet")
                continue
            document = pydicom.dcmread(io.BytesIO(ledger.blobs.get(report.blob)))
            click.echo("\n" + "\n".join(lines(document)) + "\n")


@results.command()
@config_option
@click.argument("study")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Folder for the PNGs.")
def render(path: Path, study: str, out: Path) -> None:
    """Draw each result of STUDY on the image that shows most of it, as a PNG with a caption."""
    spoken = language(read_config(path).node.language)
    with open_ledger(path) as ledger:
        for kept, _ in _of(ledger, study):
            prediction = kept.prediction
            out.mkdir(parents=True, exist_ok=True)
            name = f"{prediction.algorithm.package}-{re.sub('[^0-9]', '', prediction.series_uid)[-8:]}"
            for picture in _pictures(ledger, kept, spoken):
                file = out / f"{name}{'' if picture.kind == profiles.SC else '-map'}.png"
                file.write_bytes(picture.png())
                click.echo(str(file))


@results.command()
@config_option
@click.argument("study")
@click.option("--to", "destinations", multiple=True, help="Destination; again for several. Default: where it was sent.")
def resend(path: Path, study: str, destinations: tuple[str, ...]) -> None:
    """Send the objects of STUDY again, also those that a destination has acknowledged."""
    config = read_config(path)
    unknown = sorted(set(destinations) - set(config.destinations))
    if unknown:
        known = ", ".join(config.destinations) or "none"
        raise Rejected(f"no destination is named {', '.join(unknown)} in {path}; known: {known}")
    with open_ledger(path) as ledger:
        for kept, objects in _of(ledger, study):
            for name in destinations or _sent_to(ledger, study, kept.prediction.key):
                section = config.destinations.get(name)
                wanted = profiles.of(section) if section else profiles.DEFAULT
                kinds = _as_before(ledger, kept.prediction.key, name, wanted.kinds, objects)
                chosen = profiles.subset(objects, kinds)
                if not chosen:
                    click.echo(f"{name}: nothing of this result is for a destination of profile {wanted.name}")
                    continue
                _again(ledger, kept.prediction, name, chosen)
                click.echo(f"{name}: {', '.join(dict.fromkeys(one.kind for one in chosen))} will be sent again")


def _listed(objects: list[ResultObject]) -> Iterator[str]:
    """A line for each series: kind, size, UID of its object or number of its objects."""
    series: dict[str, list[ResultObject]] = {}
    for one in objects:
        series.setdefault(one.series_uid, []).append(one)
    for several in series.values():
        named = several[0].sop_instance_uid if len(several) == 1 else f"{len(several)} objects"
        yield f"  {several[0].kind:18} {size(sum(one.size for one in several)):>9}  {named}"


def _of(ledger: Ledger, study: str) -> Iterator[tuple[Kept, list[ResultObject]]]:
    """The results of a study that stand, each with its objects. Raises Rejected where there is none."""
    with ledger.read() as session:
        items = views.worklist(session, study=study, limit=10_000)
    if not items:
        raise Rejected(f"there is no result of study {study}: `dicom-node status {study}` says where it is")
    for item in items:
        with ledger.begin_reading() as tx:
            kept, objects = tx.predictions.load(item.prediction.key), tx.predictions.objects(item.prediction.key)
        if kept is not None:
            yield kept, objects


def _pictures(ledger: Ledger, kept: Kept, spoken: Language) -> list[Composed]:
    """The pictures that a destination for pictures would get."""
    prediction = kept.prediction
    with ledger.begin_reading() as tx:
        instances = tx.studies.instances(prediction.series_uid)
    node = NodeIdentity(serial_number="1", software_version="1")  # of no picture
    made_at = datetime.fromtimestamp(kept.made_at).astimezone()
    order = Order(
        kinds=(profiles.SC, profiles.SC_MAP),
        look=look_in(ledger.data, instances),
        read=arrays_of(ledger),
        language=spoken,
    )
    headers = headers_of(ledger.data, prediction, instances)
    return compose(prediction, mask_of(ledger, prediction.mask), headers, node, made_at, order)


def _sent_to(ledger: Ledger, study: str, key: str) -> list[str]:
    """The destinations that this result was to be sent to."""
    with ledger.read() as session:
        tasks = views.tasks(session, study=study, limit=10_000)
    deliveries = [task.key.removeprefix(f"{key}>") for task in tasks if task.kind == Kind.DELIVER]
    return sorted({name.partition("#")[0] for name in deliveries if ">" not in name})


def _as_before(
    ledger: Ledger, key: str, destination: str, kinds: Collection[str], objects: list[ResultObject]
) -> list[str]:
    """The kinds of a profile, or what stood for one when it was sent: the destination shall not get both."""
    with ledger.begin_reading() as tx:
        there = tx.predictions.delivered(key, destination)
    made, had = {one.kind for one in objects}, {one.kind for one in objects if one.sop_instance_uid in there}
    chosen = []
    for kind in kinds:
        others = [other for other in fallback.INSTEAD.get(kind, ()) if other not in kinds]
        ladder = [kind, *others]
        chosen.append(next((one for one in ladder if one in had), next((one for one in ladder if one in made), kind)))
    return chosen


def _again(ledger: Ledger, prediction: Prediction, destination: str, objects: list[ResultObject]) -> None:
    item = Next(
        kind=Kind.DELIVER,
        key=f"{prediction.key}>{destination}#{time.time():.0f}",
        payload={
            "prediction": prediction.key,
            "destination": destination,
            **fallback.errand(one.kind for one in objects),
        },
        urgency=prediction.urgency,
        series_uid=prediction.series_uid,
        study_uid=prediction.study_uid,
    )
    with ledger.begin(operator()) as tx:
        tx.predictions.forget_deliveries(destination, [one.sop_instance_uid for one in objects])
        tx.queue.enqueue(item)
