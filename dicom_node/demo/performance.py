"""The demo from set-up to summary. Its exit code is honest: 0 only when everything that was expected came back."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.live import Live

from dicom_node.demo import show
from dicom_node.demo.downloads import Downloads, fetch
from dicom_node.demo.pictures import draw
from dicom_node.demo.play import Scene, play
from dicom_node.demo.session import Session
from dicom_node.demo.studies import Planned, of_folder, own, planned
from storage import views
from storage.facts.errors import NodeError
from storage.facts.prediction import Prediction


def perform(folder: Path, study: Path | None, limit_seconds: float) -> int:
    """Play the demo's own studies, or those under ``study``. Returns the exit code."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=120)
    try:
        downloads = _set_up(console, folder)
        plan = own(folder / "studies", downloads) if study is None else planned(of_folder(study))
        return _play(console, folder, plan, limit_seconds, downloads)
    except NodeError as error:
        console.print(f"[bold red]The demo failed:[/] {error}", soft_wrap=True)
        return 1


def _set_up(console: Console, folder: Path) -> Downloads:
    started = time.monotonic()
    with console.status("Fetching the brain model and the average brain (once)"):
        downloads = fetch(folder)
    console.print(f"[bold]Set-up[/] {time.monotonic() - started:.1f} s. Used with thanks:")
    for licence in downloads.licences:
        console.print(f"  {licence.name}: {licence.identifier} ({licence.text})", soft_wrap=True)
    return downloads


def _play(console: Console, folder: Path, plan: Sequence[Planned], limit_seconds: float, downloads: Downloads) -> int:
    started = time.monotonic()
    with Session(folder / "node", downloads.brain_weights.parent) as session:
        console.print(f"The node is ready on port {session.port}, {time.monotonic() - started:.1f} s after its start.")
        with Live(console=console, refresh_per_second=5, transient=not console.is_terminal) as live:
            scenes = play(session, plan, limit_seconds, lambda now: live.update(show.progress(now)))
        took = time.monotonic() - started
        if not console.is_terminal:
            console.print(show.progress(scenes))
        console.print()
        pictures = _summary(console, session, scenes)
        show.places(console, session, pictures)
        faults = _faults(session, scenes)
    for fault in faults:
        console.print(f"[bold red]Fault:[/] {fault}", soft_wrap=True)
    console.print(f"\n{'[bold green]Done' if not faults else '[bold red]Failed'}[/] in {took:.1f} s, set-up aside.")
    return 1 if faults else 0


def _summary(console: Console, session: Session, scenes: Sequence[Scene]) -> list[Path]:
    show.arrived(console, scenes, session.pacs.objects())
    show.worklist(console, session, scenes)
    predictions = _predictions(session)
    pictures: list[Path] = []
    for scene in scenes:
        if scene.study is None:
            continue
        found = predictions.get(scene.study.study_uid, [])
        for prediction in found:
            show.truth(console, scene, prediction)
            picture = draw(session.ledger, prediction, session.folder.parent / "pictures")
            pictures += [picture] if picture else []
        if not found:
            _explain(console, session, scene)
    show.times(console, session, scenes)
    return pictures


def _predictions(session: Session) -> dict[str, list[Prediction]]:
    with session.ledger.read() as reading:
        items = views.worklist(reading)
    found: dict[str, list[Prediction]] = {}
    for item in items:
        found.setdefault(item.study_uid, []).append(item.prediction)
    return found


def _explain(console: Console, session: Session, scene: Scene) -> None:
    """Why no model saw a study."""
    assert scene.study is not None
    with session.ledger.read() as reading:
        series = views.study_series(reading, scene.study.study_uid)
        decisions = [(s.series_uid, d) for s in series for d in views.decisions(reading, s.series_uid)]
    console.print(f"[bold]{scene.title}: no model saw it[/]")
    for series_uid, decision in decisions:
        console.print(f"  series …{series_uid[-12:]}: not {decision['rule']}: {decision['why']}", soft_wrap=True)


def _faults(session: Session, scenes: Sequence[Scene]) -> list[str]:
    """What was promised and did not happen."""
    faults = [f"{scene.title}: {fault}" for scene in scenes for fault in scene.faults]
    there = {item.sop_instance_uid for item in session.pacs.objects()}
    with session.ledger.read() as reading:
        items = views.worklist(reading)
    with session.ledger.begin_reading() as tx:
        for item in items:
            missing = [o for o in tx.predictions.objects(item.prediction.key) if o.sop_instance_uid not in there]
            faults += [f"object {o.sop_instance_uid} ({o.kind}) is not in the PACS" for o in missing]
    verdict = session.ledger.verify()
    faults += [f"audit trail: {fault}" for fault in verdict.faults]
    return faults
