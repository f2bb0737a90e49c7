"""How the ROUTE stage asks for a choice within the study: begins one, lets one that waits look again, or begins
another."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from storage.facts.task import Kind, Next, State, Task
from storage.ledger import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A choice that a series bears on."""

    rule: str
    package: str
    version: str
    begins: bool  #: it is a candidate itself; else it may only be a further input


def ask(tx: Transaction, task: Task, asked: Sequence[Asked], rules_version: int) -> None:
    """Enter the choices that one routed series bears on, and let every other choice of its study look again.

    A choice that waits is made under the version of the rules that routed its latest series. One that is made, or
    being made, is followed by another, which then knows of it.
    """
    study = task.study_uid or ""
    now = time.time()
    for key, _, state in tx.catalogue.choice_tasks(study, ""):
        if state is State.WAITING:
            tx.queue.hasten(Kind.CHOOSE, key, now, {"touched": now})
    for each in asked:
        _ask_one(tx, task, each, rules_version)


def _ask_one(tx: Transaction, task: Task, asked: Asked, rules_version: int) -> None:
    study = task.study_uid or ""
    prefix = f"{study}/{asked.rule}/{asked.package}@{asked.version}/"
    known = tx.catalogue.choice_tasks(study, prefix)
    if not known and not asked.begins:
        return
    key, generation, state = known[-1] if known else ("", 0, State.DONE)
    if known and state is State.WAITING:
        now = time.time()
        tx.queue.hasten(Kind.CHOOSE, key, now, {"touched": now, "rules_version": rules_version})
        return
    payload = {
        "rule": asked.rule,
        "package": asked.package,
        "version": asked.version,
        "rules_version": rules_version,
        "generation": generation + 1,
        "touched": 0,
    }
    tx.queue.enqueue(Next(kind=Kind.CHOOSE, key=f"{prefix}{generation + 1}", payload=payload), after=task)
