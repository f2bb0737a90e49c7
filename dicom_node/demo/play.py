"""Plays studies through a session: each is written, sent, and watched until nothing more happens to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dicom_node.demo.session import Failed, Session
from dicom_node.demo.studies import Planned, Study
from storage.facts.errors import NodeError

LOOK_SECONDS = 0.15


@dataclass(slots=True)
class Scene:
    """One study and how far it has come."""

    title: str
    study: Study | None = None
    objects: int = 0
    sent: int = 0
    stage: str = "waiting"
    over: bool = False
    seconds: float = 0.0  #: from the first object sent to the last deed
    faults: list[str] = field(default_factory=list)


def play(
    session: Session, planned: Sequence[Planned], limit_seconds: float, show: Callable[[list[Scene]], None]
) -> list[Scene]:
    """Send the studies one after another while the node works on them; returns when all are over or time is up."""
    scenes = [Scene(title=each.title) for each in planned]
    sender = threading.Thread(target=_send_all, args=(session, planned, scenes), daemon=True)
    started = time.monotonic()
    begun: dict[int, float] = {}
    sender.start()
    while not all(scene.over or scene.faults for scene in scenes):
        for number, scene in enumerate(scenes):
            _look(session, scene, begun.setdefault(number, time.monotonic()) if scene.sent else None)
        show(scenes)
        if not session.alive():
            raise Failed(f"the node ended: {session.last_log_line()} (its log: {session.log})")
        if time.monotonic() - started > limit_seconds:
            late = [f"{scene.title} is still at {scene.stage!r}" for scene in scenes if not scene.over]
            raise Failed(f"after {limit_seconds:.0f} s {'; '.join(late)} (the node's log: {session.log})")
        time.sleep(LOOK_SECONDS)
    show(scenes)
    return scenes


def _look(session: Session, scene: Scene, begun: float | None) -> None:
    if scene.study is None or begun is None or scene.over or scene.faults:
        return
    progress = session.progress(scene.study.study_uid)
    scene.seconds = time.monotonic() - begun
    if scene.sent < scene.objects:
        scene.stage = "being sent"
        return
    scene.stage = progress.stage
    scene.over = progress.over and progress.received >= len({f.sop_instance_uid for f in scene.study.files})
    if scene.over:
        scene.faults += progress.failed


def _send_all(session: Session, planned: Sequence[Planned], scenes: Sequence[Scene]) -> None:
    for each, scene in zip(planned, scenes, strict=True):
        try:
            scene.stage = "being written"
            scene.study = each.write()
            scene.objects = len(scene.study.files)

            def count(_answer: object, scene: Scene = scene) -> None:
                scene.sent += 1

            session.send(scene.study.files, count)
        except NodeError as error:
            scene.faults.append(str(error))
