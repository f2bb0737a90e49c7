"""What the demo prints: live progress, then what came back."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dicom_node.demo.pacs import Stored
from dicom_node.demo.play import Scene
from dicom_node.demo.session import Session
from storage import views
from storage.facts.figures import figure
from storage.facts.prediction import Measurement, Prediction
from storage.facts.study import Urgency
from storage.facts.units import behind

_COLOURS = {Urgency.STAT: "bold red", Urgency.HIGH: "yellow", Urgency.ROUTINE: "green"}
MOST_COLUMNS = 4  #: studies side by side; more are summed up
_STAGES = {
    "assemble": "complete?", "route": "route", "infer": "model", "report": "SR, SEG", "deliver": "C-STORE",
    "commit": "commitment", "announce": "UPS",
}  # fmt: skip


def progress(scenes: Sequence[Scene]) -> Table:
    """Where every study stands: redrawn while the demo runs."""
    table = Table(box=None, pad_edge=False)
    for head in ("Study", "Sent", "Now", "Seconds"):
        table.add_column(head, justify="right" if head in ("Sent", "Seconds") else "left", no_wrap=True)
    for scene in scenes:
        mark = (
            "[green]done[/]" if scene.over and not scene.faults else "[red]failed[/]" if scene.faults else scene.stage
        )
        sent = f"{scene.sent}/{scene.objects}" if scene.objects else ""
        table.add_row(scene.title, sent, mark, f"{scene.seconds:.1f}" if scene.seconds else "")
    return table


def arrived(console: Console, scenes: Sequence[Scene], stored: Sequence[Stored]) -> None:
    """The objects that the PACS holds now."""
    table = Table(title="What arrived back in the PACS", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for head in ("Study", "Object", "Series description", "Size"):
        table.add_column(head, justify="right" if head == "Size" else "left")
    titles = {scene.study.study_uid: scene.title for scene in scenes if scene.study is not None}
    for item in sorted(stored, key=lambda s: (titles.get(s.study_uid, ""), s.modality)):
        table.add_row(titles.get(item.study_uid, item.study_uid), item.modality, item.description, size(item.size))
    console.print(table)


def worklist(console: Console, session: Session, scenes: Sequence[Scene]) -> None:
    """Findings, the most urgent first."""
    titles = {scene.study.study_uid: scene.title for scene in scenes if scene.study is not None}
    with session.ledger.read() as reading:
        items = [item for item in views.worklist(reading) if item.study_uid in titles]
    table = Table(title="Reading worklist", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for head in ("Urgency", "Study", "Result", "Why this urgency"):
        table.add_column(head)
    for item in items:
        urgency = Text(item.urgency.name, style=_COLOURS[item.urgency])
        table.add_row(urgency, titles[item.study_uid], _result(item.prediction), item.prediction.urgency_reason)
    console.print(table)


def _result(prediction: Prediction) -> Text:
    if prediction.reason is not None:
        return Text(f"Not analysed: {prediction.reason.text}", style="yellow")
    lines = [finding.text for finding in prediction.findings]
    lines += [f"{what}: {figure(m.value, m.digits)}{behind(m.unit.value)}" for what, m in measurements(prediction)]
    return Text("\n".join(lines))


def measurements(prediction: Prediction) -> list[tuple[str, Measurement]]:
    """Of the series, or of its segments where there are none of the series; with what each is called."""
    whole = [(m.name.meaning, m) for m in prediction.measurements]
    return whole or [(f"{s.label}, {m.name.meaning.lower()}", m) for s in prediction.segments for m in s.measurements]


def truth(console: Console, scene: Scene, prediction: Prediction | None) -> None:
    """Measured values beside those that are known, with a digit more than the report has."""
    if scene.study is None or not scene.study.truth or prediction is None:
        return
    table = Table(
        title=f"{scene.title}: measured beside truth", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD
    )
    for head in ("", "Measured", "Truth", "Difference", ""):
        table.add_column(head, justify="right" if head else "left")
    reported = {m.name.value: m.value for m in prediction.measurements}
    for known in scene.study.truth:
        value = reported.get(known.code)
        if value is None:
            table.add_row(known.what, "not reported", f"{known.value:.{known.digits}f} {known.unit}", "", known.note)
            continue
        table.add_row(
            known.what,
            f"{value:.{known.digits}f} {known.unit}",
            f"{known.value:.{known.digits}f} {known.unit}",
            f"{round(value, known.digits) - round(known.value, known.digits):+z.{known.digits}f}",
            known.note,
        )
    console.print(table)


def times(console: Console, session: Session, scenes: Sequence[Scene]) -> None:
    """Seconds of work in each stage, and what the hand-offs between them cost."""
    table = Table(
        title="Seconds per stage (in brackets: waited for it)", title_justify="left", title_style="bold",
        box=box.SIMPLE_HEAD,
    )  # fmt: skip
    table.add_column("Stage")
    columns: list[list[str]] = []
    known = [scene for scene in scenes if scene.study is not None]
    groups = [(scene.title, [scene]) for scene in known] if len(known) <= MOST_COLUMNS else [("All studies", known)]
    for title, members in groups:
        table.add_column(title, justify="right")
        with session.ledger.read() as reading:
            tasks = [
                task
                for scene in members
                if scene.study is not None
                for task in views.tasks(reading, study=scene.study.study_uid, limit=1000)
            ]
        columns.append([_spans(tasks, kind) for kind in _STAGES])
    for row, name in enumerate(_STAGES.values()):
        table.add_row(name, *(column[row] for column in columns))
    console.print(table)


def _spans(tasks: Sequence[views.TaskView], kind: str) -> str:
    done = [t for t in tasks if t.kind == kind and t.ended_at and t.claimed_at]
    if not done:
        return ""
    worked = sum((t.ended_at or 0) - (t.claimed_at or 0) for t in done)
    waited = sum(max((t.claimed_at or 0) - t.ready_at, 0) for t in done)
    return f"{worked:.2f} ({waited:.2f})"


def places(console: Console, session: Session, pictures: Sequence[Path]) -> None:
    """Where everything lies, and how to point a real PACS here."""
    console.print("[bold]Where things lie[/]")
    for what, path in (
        ("pictures", ", ".join(str(p) for p in pictures) or "none"),
        ("results in the PACS", session.pacs.folder / "objects"),
        ("the node's data", session.config.node.data),
        ("its log", session.log),
        ("its configuration", session.path),
    ):
        console.print(f"  {what}: {path}", soft_wrap=True, highlight=False)
    called = program()
    console.print("\n[bold]Point a real PACS at a node of your own[/]")
    for step in (
        f"1. {called} config show > node.toml; in it, [[receive.peers]] and [destinations.NAME] of the PACS",
        f"2. {called} doctor, then {called} serve",
        "3. in the PACS: forward studies to this host, port 11112, AE title DICOM_NODE",
        "The demo's own node is made anew by the next demo, and its data goes.",
    ):
        console.print(f"  {step}", soft_wrap=True, highlight=False, markup=False)


def program() -> str:
    """How this command is called: by its name where that finds it, else by its path."""
    own = Path(sys.executable).with_name("dicom-node")
    found = shutil.which("dicom-node")
    return "dicom-node" if found is not None and Path(found).resolve() == own.resolve() else str(own)


def size(number: int) -> str:
    """Bytes for eyes."""
    return f"{number / 1e6:.1f} MB" if number >= 1e6 else f"{number / 1e3:.1f} kB"
