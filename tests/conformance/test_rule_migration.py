"""Rules that were written before rule sets had versions are in force after the migration, as version 1."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

from storage import migrations
from storage.facts.routing import Rule
from storage.facts.study import Urgency
from storage.ledger import Ledger


def test_the_rules_of_an_older_database_are_in_force_after_the_migration(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    engine = create_engine(url)
    with engine.connect() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        row = "('{}', {}, {}, 'Modality == \"CT\"', 'lung', '[\"pacs\"]', {}, 'ann', 1.0)"
        connection.execute(text("INSERT INTO rule VALUES " + row.format("late", 2, 0, 1)))
        connection.execute(text("INSERT INTO rule VALUES " + row.format("early", 1, 1, 0)))
        connection.commit()
    engine.dispose()

    ledger = Ledger(tmp_path)
    with ledger.begin_reading() as tx:
        version = tx.catalogue.live()
    ledger.close()

    def rule(name: str, **more: object) -> Rule:
        return Rule(name=name, expression='Modality == "CT"', package="lung", destinations=("pacs",), **more)  # type: ignore[arg-type]

    assert (version.number, version.author) == (1, "migration")
    assert version.rules.rules == (
        rule("early", position=1),
        rule("late", position=2, enabled=False, urgency=Urgency.HIGH),
    )
