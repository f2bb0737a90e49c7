"""One transaction, all the books: ``with ledger.begin(actor) as tx``."""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError
from sqlalchemy.orm import Session

from storage import audit, migrations
from storage.bell import CHANNEL, Bell, PostgresBell, SocketBell
from storage.blobs import Blobs
from storage.catalogue import Catalogue
from storage.facts.errors import Misconfigured, Transient
from storage.predictions import Predictions
from storage.queue import Queue
from storage.sources import Sources
from storage.studies import Studies


def this_host() -> str:
    """The first half of every lease's owner name on this machine."""
    return socket.gethostname()


class Transaction:
    """The books, open for one transaction."""

    def __init__(self, session: Session, actor: str, key: bytes) -> None:
        self.trail = audit.Trail(session, actor, key)
        self.studies = Studies(session, self.trail)
        self.sources = Sources(session, self.trail)
        self.queue = Queue(session, self.trail, f"{this_host()}:{os.getpid()}")
        self.predictions = Predictions(session, self.trail)
        self.catalogue = Catalogue(session, self.trail, actor)


class Ledger:
    """The one place where the wings meet: SQL for what is known, blobs for bytes, a bell for what is new.

    ``url`` is a SQLAlchemy URL, or None for SQLite in the data folder. The rest lies in ``data``. A process whose
    memory is bounded has the database migrated apart.
    """

    def __init__(self, data: Path, url: str | None = None, *, migrate_apart: bool = False) -> None:
        data.mkdir(parents=True, exist_ok=True)
        self.data = data
        self.url = url or f"sqlite:///{data / 'ledger.db'}"
        self.blobs = Blobs(data / "blobs")
        self._key = audit.load_key(data / "audit.key")
        self._engine = _engine(self.url)
        with _translated(self.url), self._engine.connect() as connection:
            (migrations.upgrade_apart if migrate_apart else migrations.upgrade)(connection, self.url)
        self.bell: Bell = self._hang_bell()

    def _hang_bell(self) -> Bell:
        if self._engine.dialect.name != "postgresql":
            return SocketBell(self.data / "run")
        import psycopg  # only the cluster extra has it

        conninfo = make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)
        return PostgresBell(lambda: psycopg.connect(conninfo, autocommit=True))

    @contextmanager
    def begin(self, actor: str) -> Iterator[Transaction]:
        """All the books in one transaction, committed at the end, rolled back on any exception.

        Raises Transient when the database does not answer.
        """
        with _translated(self.url), Session(self._engine, expire_on_commit=False) as session, session.begin():
            tx = Transaction(session, actor, self._key)
            yield tx
            if tx.queue.rung and self._engine.dialect.name == "postgresql":
                session.execute(text(f"NOTIFY {CHANNEL}"))
        if tx.queue.rung:
            self.bell.ring()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A read-only session for ``storage.views``: it takes no write lock and leaves nothing behind."""
        with _translated(self.url), self._engine.connect().execution_options(read_only=True) as connection:
            with Session(connection) as session:
                yield session
            connection.rollback()

    @contextmanager
    def begin_reading(self) -> Iterator[Transaction]:
        """All the books for questions only: no write lock is taken, and nothing written in it is kept."""
        with self.read() as session:
            yield Transaction(session, "reader", self._key)

    def verify(self) -> audit.Verdict:
        """Re-compute the whole trail."""
        with self.read() as session:
            return audit.verify(session, self._key, self.data / "audit.checkpoints")

    def checkpoint(self) -> None:
        """Note outside the database how far the trail has come."""
        with self.read() as session:
            audit.checkpoint(session, self.data / "audit.checkpoints")

    def close(self) -> None:
        """Give back connections and sockets."""
        self.bell.close()
        self._engine.dispose()


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except (ValueError, ArgumentError) as error:  # its text may quote the URL, which may hold a password
        raise Misconfigured("the database URL cannot be read: write postgresql://user@host/name") from error
    if parsed.get_backend_name() == "postgresql":
        try:
            return create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True, pool_size=10)
        except ModuleNotFoundError as error:
            raise Misconfigured("PostgreSQL needs psycopg: pip install 'dicom-node[cluster]'") from error
    if parsed.get_backend_name() != "sqlite":
        raise Misconfigured("the database must be SQLite or PostgreSQL")
    engine = create_engine(parsed, connect_args={"timeout": 30, "check_same_thread": False})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that turns into a writer fails at once when another writes: take the lock first.
    read_only = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


@contextmanager
def _translated(url: str) -> Iterator[None]:
    """The border to the database: what it raises, in terms of what to do."""
    try:
        yield
    except OperationalError as error:
        where = make_url(url).render_as_string(hide_password=True)
        raise Transient(f"the database at {where} does not answer: {error.orig}") from error
    except DatabaseError as error:
        if "malformed" in str(error.orig) or "not a database" in str(error.orig):
            where = make_url(url).render_as_string(hide_password=True)
            raise Misconfigured(f"the database at {where} is damaged: restore it from a backup") from error
        raise
