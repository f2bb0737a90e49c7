"""What `dicom-node status` says of sources, of what lacks, and of what was announced."""

from __future__ import annotations

from storage.facts.arrival import Absence, AbsenceState, Look, Notice, NoticeKind
from storage.ledger import Ledger
from tests.dicom_node.commands.conftest import Run


def lacking(state: AbsenceState) -> Absence:
    return Absence(
        peer="PACS", series_uid="1.2.3.1", study_uid="1.2.3", modality="CT", expected=9, here=4, tries=2,
        seen_at=1e9, next_at=1e9, state=state,
    )  # fmt: skip


def test_the_last_look_at_each_source_and_what_lacks_is_shown(run: Run, node_ledger: Ledger) -> None:
    with node_ledger.begin("test") as tx:
        tx.sources.looked(Look(peer="PACS", at=1e9, studies=7, lacking=1, fetched=1))
        tx.sources.looked(Look(peer="OTHER", at=1e9, why="nothing listens there"))
        tx.sources.keep(lacking(AbsenceState.WAITING))
    shown = run("status").output

    assert "7 recent studies, 1 series lacking, 1 asked for" in shown
    assert "source OTHER" in shown
    assert "nothing listens there" in shown
    [row] = [line.split() for line in shown.splitlines() if line.startswith("1.2.3.1")]
    assert row[:7] == ["1.2.3.1", "1.2.3", "PACS", "CT", "4", "9", "2"]


def test_a_study_of_which_nothing_came_is_shown_with_what_was_said_of_it(run: Run, node_ledger: Ledger) -> None:
    with node_ledger.begin("test") as tx:
        tx.sources.keep(lacking(AbsenceState.WAITING))
        tx.sources.keep(lacking(AbsenceState.GIVEN_UP))
        tx.sources.notice(
            Notice(sop_instance_uid="1.9", kind=NoticeKind.MPPS, state="COMPLETED", peer="CT1", study_uid="1.2.3",
                   modality="CT", objects={"1.2.3.1.1": "1.2.3.1"})
        )  # fmt: skip
    result = run("status", "1.2.3")

    assert result.exit_code == 0
    assert "given up" in result.output
    assert "MPPS of CT1: CT COMPLETED, 1 objects named" in result.output


def test_a_workflow_manager_is_shown_with_what_it_names(run: Run, node_ledger: Ledger) -> None:
    with node_ledger.begin("test") as tx:
        tx.sources.notice(
            Notice(sop_instance_uid="1.8", kind=NoticeKind.UPS, state="READY", peer="RIS", study_uid="1.2.3",
                   objects={"1.2.3.1.1": "1.2.3.1"}, wholes=frozenset({"1.2.3.2"}))
        )  # fmt: skip
    shown = run("status", "1.2.3").output

    assert "UPS of RIS: READY, 1 objects named, 1 series or studies as a whole" in shown


def test_an_unknown_study_is_said_to_be_unknown(run: Run, node_ledger: Ledger) -> None:
    del node_ledger
    assert run("status", "9.9").exit_code == 1
