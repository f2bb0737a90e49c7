"""One quick look into an embedded ledger, without the ORM: for answers that must come at once."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from storage.facts.errors import NodeError
from storage.facts.routing import RuleSet, set_of


def rules_in_force(data: Path) -> RuleSet | None:
    """The rule set in force on SQLite in the data folder; None where the full way must be taken.

    That is where there is no ledger, it is of another version, or a draft waits that should be spoken of.
    """
    database = data / "ledger.db"
    if not database.exists():
        return None
    try:
        connection = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=5)
        try:
            if connection.execute("SELECT 1 FROM rule_draft").fetchone() is not None:
                return None
            row = connection.execute("SELECT document FROM rule_version ORDER BY number DESC LIMIT 1").fetchone()
        finally:
            connection.close()
        return RuleSet() if row is None else set_of(json.loads(row[0]))
    except (sqlite3.Error, ValueError, NodeError):
        return None
