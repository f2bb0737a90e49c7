"""Series that were recorded before rules could choose are found as earlier studies of their patient."""

from __future__ import annotations

import json
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, text

from storage import migrations
from storage.facts.routing import patient_digest
from storage.ledger import Ledger

HEADERS = {
    "1.1": {"PatientID": "P1", "IssuerOfPatientID": "A"},
    "2.1": {"PatientID": " P1 ", "IssuerOfPatientID": "A "},
    "3.1": {"PatientID": "P1"},
    "4.1": {"PatientID": 7},
    "5.1": {},
}


def recorded(connection: Connection) -> None:
    for uid, header in HEADERS.items():
        series = {"uid": uid, "study": uid[0], "header": json.dumps(header)}
        connection.execute(
            text(
                "INSERT INTO series (series_uid, study_uid, modality, calling_ae, called_ae, revision, "
                "complete_instances, header, first_at, last_at) "
                "VALUES (:uid, :study, 'CT', '', '', 1, 1, :header, 1, 1)"
            ),
            series,
        )
        connection.execute(text("INSERT INTO series_fact VALUES (:uid, 1, '', '{}')"), {"uid": uid})


def test_patients_of_an_older_database_are_known_after_the_migration(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    with engine.connect() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        recorded(connection)
        connection.commit()
    engine.dispose()

    ledger = Ledger(tmp_path)
    with ledger.begin_reading() as tx:
        found = {study: tx.catalogue.of_same_patient(study) for study in "12345"}
    ledger.close()

    assert found == {"1": ["2.1"], "2": ["1.1"], "3": [], "4": [], "5": []}
    assert patient_digest(HEADERS["1.1"]) == patient_digest(HEADERS["2.1"])
    assert patient_digest(HEADERS["4.1"]) is patient_digest(HEADERS["5.1"]) is None
