"""The same node on PostgreSQL: woken by NOTIFY instead of datagrams, killed once in the middle."""

from __future__ import annotations

from pathlib import Path

from dicom_node.demo.session import Session
from dicom_node.demo.studies import of_folder
from storage.facts.task import Kind
from tests.acceptance.conftest import wait_for
from tests.acceptance.making import put_rule, write_package, write_study
from tests.acceptance.test_kill import check_one_set_each, kill, reach


def test_a_study_goes_through_on_postgresql_though_everything_is_killed(postgresql: str, tmp_path: Path) -> None:
    write_package(tmp_path / "models")
    write_study(tmp_path / "study", 1)
    [study] = of_folder(tmp_path / "study")
    with Session(tmp_path / "node", tmp_path / "models", database=postgresql) as session:
        put_rule(session)
        session.send(study.files)
        assert reach(session, study.study_uid, Kind.INFER, "running")
        kill(session, "everything")
        session.start_node()
        wait_for(session, study.study_uid)
        check_one_set_each(session, [study])
        assert not (session.config.node.data / "ledger.db").exists()
