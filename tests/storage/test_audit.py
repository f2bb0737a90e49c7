"""The trail: whatever is done to it with SQL is found and named."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text

from storage.ledger import Ledger


def written(ledger: Ledger, rows: int = 6) -> None:
    for number in range(rows):
        with ledger.begin("alice") as tx:
            tx.trail.append("deed", study="1.2.3", number=number)


def tamper(ledger: Ledger, *statements: str) -> None:
    engine = create_engine(ledger.url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def test_an_untouched_trail_is_whole(ledger: Ledger) -> None:
    written(ledger)
    verdict = ledger.verify()
    assert (verdict.rows, verdict.faults) == (6, ())


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("UPDATE audit SET actor = 'mallory' WHERE seq = 3", "row 3 (deed) was altered"),
        ("UPDATE audit SET at = at - 60 WHERE seq = 4", "row 4 (deed) was altered"),
        ("UPDATE audit SET details = '{\"number\": 9}' WHERE seq = 2", "row 2 (deed) was altered"),
        ("UPDATE audit SET study_uid = NULL WHERE seq = 1", "row 1 (deed) was altered"),
        ("DELETE FROM audit WHERE seq = 3", "rows 3 to 3 are missing"),
        ("DELETE FROM audit WHERE seq = 1", "rows 1 to 1 are missing"),
        ("DELETE FROM audit WHERE seq > 4", "rows 5 to 6 were cut off the end"),
        ("DELETE FROM audit_head", "the head of the trail is missing"),
        ("UPDATE audit_head SET seq = 5", "the head of the trail was altered"),
    ],
)
def test_a_change_is_found_and_named(ledger: Ledger, statement: str, fault: str) -> None:
    written(ledger)
    tamper(ledger, statement)
    assert any(fault in found for found in ledger.verify().faults)


def test_swapped_rows_are_found(ledger: Ledger) -> None:
    written(ledger)
    tamper(
        ledger,
        "UPDATE audit SET seq = 99 WHERE seq = 2",
        "UPDATE audit SET seq = 2 WHERE seq = 3",
        "UPDATE audit SET seq = 3 WHERE seq = 99",
    )
    faults = ledger.verify().faults
    assert any("row 2" in f for f in faults)
    assert any("row 3" in f for f in faults)


def test_an_appended_row_without_the_key_is_found(ledger: Ledger) -> None:
    written(ledger)
    tamper(
        ledger,
        "INSERT INTO audit (seq, at, actor, action, outcome, details, digest)"
        " SELECT 7, at, actor, action, outcome, details, digest FROM audit WHERE seq = 6",
    )
    faults = ledger.verify().faults
    assert any("row 7" in f for f in faults)
    assert any("goes on after its head" in f for f in faults)


def test_a_database_put_back_to_an_older_state_is_found(ledger: Ledger) -> None:
    written(ledger, 3)
    tamper(ledger, "CREATE TABLE kept AS SELECT * FROM audit", "CREATE TABLE kept_head AS SELECT * FROM audit_head")
    written(ledger, 3)
    ledger.checkpoint()
    assert ledger.verify().faults == ()
    tamper(
        ledger,
        "DELETE FROM audit",
        "DELETE FROM audit_head",
        "INSERT INTO audit SELECT * FROM kept",
        "INSERT INTO audit_head SELECT * FROM kept_head",
    )
    faults = ledger.verify().faults
    assert faults == ("the trail was put back to an older state: it ends at row 3, not 6",)
