"""The trail that cannot be altered unseen.

Each row carries HMAC-SHA256(key, predecessor's digest + this row), and a sealed head names the last row. The key lies
outside the database (``audit.key``, mode 0600), so whoever can write SQL but not read that file cannot make a row that
verifies. Rewinding the whole database to an older state is told by checkpoints kept in a file of their own.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from storage.facts.errors import Misconfigured
from storage.tables import AuditHead, AuditRow

GENESIS = "0" * 64


def load_key(path: Path) -> bytes:
    """The installation's audit key, made on first use."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = path.read_bytes()
        if len(key) < 32:
            raise Misconfigured(f"{path} is not an audit key (32 bytes or more): restore it from a backup") from None
        return key
    with os.fdopen(handle, "wb") as file:
        file.write(secrets.token_bytes(32))
        file.flush()
        os.fsync(file.fileno())
    return path.read_bytes()


def _digest(key: bytes, previous: str, row: AuditRow) -> str:
    body = json.dumps(
        [row.seq, row.at, row.actor, row.action, row.outcome, row.study_uid, row.series_uid, row.details],
        sort_keys=True,
        separators=(",", ":"),
    )
    return hmac.new(key, (previous + body).encode(), hashlib.sha256).hexdigest()


def _seal(key: bytes, seq: int, digest: str) -> str:
    return hmac.new(key, f"head {seq} {digest}".encode(), hashlib.sha256).hexdigest()


class Trail:
    """Appends to the trail inside the transaction of the deed."""

    def __init__(self, session: Session, actor: str, key: bytes) -> None:
        self._session, self._actor, self._key = session, actor, key
        self._held: AuditHead | None = None

    def hold(self) -> None:
        """Let no other transaction append until this one ends: whoever changes anything appends."""
        self._head()

    def append(
        self,
        action: str,
        *,
        outcome: int = 0,
        study: str | None = None,
        series: str | None = None,
        **details: Any,
    ) -> None:
        """Add one row. ``details`` must be plain JSON and free of patient data."""
        head = self._head()
        row = AuditRow(
            seq=head.seq + 1,
            at=time.time(),
            actor=self._actor,
            action=action,
            outcome=outcome,
            study_uid=study,
            series_uid=series,
            details=json.loads(json.dumps(details, default=str)),
        )
        row.digest = _digest(self._key, head.digest, row)
        head.seq, head.digest = row.seq, row.digest
        head.seal = _seal(self._key, row.seq, row.digest)
        self._session.add(row)

    def _head(self) -> AuditHead:
        if self._held is not None:
            return self._held
        if self._session.get_bind().dialect.name == "postgresql":
            self._session.execute(text("SELECT pg_advisory_xact_lock(1146045267)"))
        # Read under the lock: another transaction may have written rows since this one began.
        head = self._session.get(AuditHead, 1, with_for_update=True, populate_existing=True)
        if head is None:
            head = AuditHead(id=1, seq=0, digest=GENESIS, seal=_seal(self._key, 0, GENESIS))
            self._session.add(head)
            self._session.flush()
        self._held = head
        return head


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a verification of the whole trail found."""

    rows: int
    head: str  #: digest of the last row
    faults: tuple[str, ...]  #: empty: the trail is whole


def checkpoint(session: Session, path: Path) -> None:
    """Note in ``path`` how far the trail has come: told apart later from a database put back to an older state."""
    head = session.get(AuditHead, 1)
    if head is not None:
        with path.open("a", encoding="ascii") as file:
            file.write(f"{head.seq} {head.digest}\n")


def verify(session: Session, key: bytes, checkpoints: Path | None = None) -> Verdict:
    """Re-compute every digest; name each row that was altered, removed, reordered or cut off."""
    expected = dict(_read_checkpoints(checkpoints)) if checkpoints else {}
    faults: list[str] = []
    previous, position = GENESIS, 0
    for row in session.scalars(select(AuditRow).order_by(AuditRow.seq).execution_options(yield_per=1000)):
        if row.seq != position + 1:
            faults.append(f"rows {position + 1} to {row.seq - 1} are missing")
        elif not hmac.compare_digest(row.digest, _digest(key, previous, row)):
            faults.append(f"row {row.seq} ({row.action}) was altered, inserted or moved")
        if row.seq in expected and expected[row.seq] != row.digest:
            faults.append(f"row {row.seq} is not the row that was checkpointed")
        previous, position = row.digest, row.seq
    faults += _verify_end(session.get(AuditHead, 1), key, position, previous, max(expected, default=0))
    return Verdict(rows=position, head=previous, faults=tuple(faults))


def _verify_end(head: AuditHead | None, key: bytes, position: int, digest: str, checkpointed: int) -> Iterator[str]:
    if head is None:
        if position or checkpointed:
            yield "the head of the trail is missing"
        return
    if not hmac.compare_digest(head.seal, _seal(key, head.seq, head.digest)):
        yield "the head of the trail was altered"
    elif head.seq > position:
        yield f"rows {position + 1} to {head.seq} were cut off the end"
    elif (head.seq, head.digest) != (position, digest):
        yield f"the trail goes on after its head at row {head.seq}"
    if checkpointed > position:
        yield f"the trail was put back to an older state: it ends at row {position}, not {checkpointed}"


def _read_checkpoints(path: Path) -> Iterator[tuple[int, str]]:
    if not path.exists():
        return
    for line in path.read_text(encoding="ascii").splitlines():
        seq, _, digest = line.partition(" ")
        if seq.isdigit() and digest:
            yield int(seq), digest
