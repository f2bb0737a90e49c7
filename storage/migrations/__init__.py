"""How the database came to its present shape; applied under a lock when a process opens an older one.

Alembic is imported only when there is something to do: a node that starts on a current database does not pay for it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from storage.facts.errors import Transient

#: The newest revision in ``versions``; a test holds it against the folder.
HEAD = "0007"


def upgrade(connection: Connection, url: str) -> None:
    """Bring the database to HEAD in one transaction. Raises nothing when it is there already."""
    if current(connection) == HEAD:
        return
    from alembic import command
    from alembic.config import Config

    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL lock_timeout = '30s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(1146045266)"))
    if current(connection) != HEAD:
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent))
        config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, HEAD)
    connection.commit()


def upgrade_apart(connection: Connection, url: str) -> None:
    """The same in a process of its own, so that this one never loads Alembic. Raises Transient when that fails."""
    if current(connection) == HEAD:
        return
    connection.rollback()  # its lock would keep the other process out
    command = [sys.executable, "-m", "storage.migrations"]
    done = subprocess.run(command, input=url, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise Transient(f"the database could not be brought up to date: {last[0]}")


def current(connection: Connection) -> str | None:
    """The revision that the database says it is at."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return None if revision is None else str(revision)
