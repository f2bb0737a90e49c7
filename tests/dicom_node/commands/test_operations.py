"""What an administrator reads at 3 a.m."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pynetdicom import AE
from sqlalchemy import create_engine, text

from dicom_node import doctor
from dicom_node.config import load
from dicom_node.deliver.echo import VERIFICATION
from dicom_node.deliver.study_root import FIND, GET, MOVE
from storage import views
from storage.facts.errors import Misconfigured
from storage.facts.task import Kind, Next
from storage.ledger import Ledger
from tests import builders
from tests.dicom_node.commands.conftest import NODE_TOML, Run
from tests.dicom_node.deliver.making import free_port
from tests.storage.series import arrive


def test_config_check_names_every_fault_with_the_nearest_key(run: Run, tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text(NODE_TOML.replace("port = 0", "prt = 0").replace("timeout_seconds", "time_out"), encoding="utf-8")
    result = run("config", "check", path=bad)

    assert isinstance(result.exception, Misconfigured)
    assert "node.prt: unknown key; did you mean port?" in str(result.exception)
    assert "destinations.pacs.time_out: unknown key; did you mean timeout_seconds?" in str(result.exception)


def test_config_show_prints_what_is_in_force(run: Run, config: Path, tmp_path: Path) -> None:
    shown = tmp_path / "shown.toml"
    shown.write_text(run("config", "show").output, encoding="utf-8")

    assert load(shown) == load(config)
    assert "# TCP port. Default 11112" in shown.read_text(encoding="utf-8")
    comments = [line for line in run("config", "show", "--bare").output.splitlines() if line.startswith("#")]
    assert all(line.endswith("= (not set)") for line in comments)


def test_a_missing_configuration_says_how_to_get_one(run: Run, tmp_path: Path) -> None:
    result = run("rules", "list", path=tmp_path / "none.toml")

    assert isinstance(result.exception, Misconfigured)
    assert "dicom-node config show > node.toml" in str(result.exception)


def test_the_program_fails_in_a_sentence_and_with_the_code_for_configuration(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dicom_node", "serve", "-c", str(tmp_path / "none.toml")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 78
    assert done.stderr.startswith("dicom-node: ")
    assert "Traceback" not in done.stderr


def test_dead_letters_are_listed_with_their_reason_and_retried(run: Run, node_ledger: Ledger) -> None:
    with node_ledger.begin("test") as tx:
        tx.queue.enqueue(Next(kind=Kind.DELIVER, key="k>pacs", payload={}, series_uid="1.2.3.1", study_uid="1.2.3"))
        task = tx.queue.claim([Kind.DELIVER], 30)
        assert task is not None
        tx.queue.fail(task, "PACS refused the object")

    listed = run("tasks", "list").output
    retried = run("tasks", "retry", "--all")

    assert "PACS refused the object" in listed
    assert "1 task(s) will be tried again" in retried.output
    with node_ledger.begin("test") as tx:
        assert tx.queue.claim([Kind.DELIVER], 30) is not None
    assert run("tasks", "retry").exit_code == 2


def test_to_retry_all_leaves_no_dead_letter_behind(run: Run, node_ledger: Ledger) -> None:
    """A dead run whose report is dead, too, and another whose report is at work."""
    with node_ledger.begin("test") as tx:
        for key in ("a", "b"):
            tx.queue.enqueue(Next(kind=Kind.INFER, key=key, study_uid="1.2.3"))
            task = tx.queue.claim([Kind.INFER], 30)
            assert task is not None
            tx.queue.fail(task, "no weights")
            tx.queue.enqueue(Next(kind=Kind.REPORT, key=key), after=task)
        task = tx.queue.claim([Kind.REPORT], 30)
        assert task is not None
        tx.queue.fail(task, "no template")
        assert tx.queue.claim([Kind.REPORT], 30) is not None

    retried = run("tasks", "retry", "--all")

    assert "1 task(s) will be tried again" in retried.output
    assert "what task 3 left behind is at work as task 4: try again in a moment" in retried.output
    with node_ledger.read() as session:
        states = {t.id: t.state for t in views.tasks(session)}
    assert states == {1: "waiting", 2: "cancelled", 3: "failed", 4: "running"}


def test_a_task_is_cancelled(run: Run, node_ledger: Ledger) -> None:
    with node_ledger.begin("test") as tx:
        tx.queue.enqueue(Next(kind=Kind.ROUTE, key="k"))
    assert run("tasks", "cancel", "1").exit_code == 0
    assert "no tasks" in run("tasks", "list").output
    assert "cancelled" in run("tasks", "list", "--all").output


def test_the_pace_of_each_package_is_shown(run: Run, node_ledger: Ledger) -> None:
    nothing = run("tasks", "pace").output
    said = builders.prediction(builders.slices(), builders.two_blobs(), key="run")
    with node_ledger.begin("worker") as tx:
        arrive(tx, said.series_uid, said.study_uid)
        tx.queue.enqueue(Next(kind=Kind.INFER, key="run", payload={}, series_uid=said.series_uid))
        task = tx.queue.claim([Kind.INFER], 30)
        assert task is not None
        tx.predictions.save(said)
        tx.queue.finish(task)
    shown = run("tasks", "pace", "--hours", "1").output.splitlines()

    assert "no run ended in the last 24 hours" in nothing
    assert shown[0].split() == ["PACKAGE", "RUNS", "MEAN", "LONGEST", "WAITED", "(MEAN)"]
    package = f"{said.algorithm.package}@{said.algorithm.version}"
    assert shown[1].split()[:2] == [package, "1"]
    assert shown[1].count(" s") == 3


def test_the_trail_is_shown_for_a_study_and_verified(run: Run, node_ledger: Ledger) -> None:
    with node_ledger.begin("alice") as tx:
        tx.trail.append("looked", study="1.2.3", why="to see")
    shown, verified = run("audit", "show", "1.2.3"), run("audit", "verify")
    assert "alice" in shown.output
    assert "why=to see" in shown.output
    assert verified.exit_code == 0
    assert "intact" in verified.output

    engine = create_engine(node_ledger.url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE audit SET actor = 'mallory'"))
    engine.dispose()
    altered = run("audit", "verify")
    assert altered.exit_code == 1
    assert "row 1 (looked) was altered" in altered.output


def test_status_of_an_unknown_study_points_to_refused_objects(run: Run, node_ledger: Ledger) -> None:
    assert node_ledger.data.is_dir()
    result = run("status", "9.9")

    assert result.exit_code == 1
    assert "audit show" in result.output


def test_the_doctor_finds_what_is_wrong_and_says_what_to_do(run: Run, config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config.write_text(
            NODE_TOML.replace("port = 0", f"port = {port}").replace('[[receive.peers]]\nae_title = "PACS"', ""),
            encoding="utf-8",
        )
        result = run("doctor")

    assert result.exit_code == 1
    assert f"127.0.0.1:{port} cannot be used" in result.output
    assert "nobody may send" in result.output
    assert "destination pacs: PACS at 127.0.0.1:1" in result.output
    assert "nothing listens there" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("offered", "by", "told"),
    [
        ((FIND, GET), "C-GET", "ok      peer PACS: pacs offers C-FIND and C-GET"),
        ((FIND, GET), "C-MOVE", "does not offer C-MOVE (Study Root) to this node: allow it there"),
        ((MOVE,), "C-GET", "does not offer C-FIND and C-GET (Study Root) to this node: allow it there"),
        ((), "", "ok      peer PACS: pacs offers C-FIND"),
        (None, "C-GET", "warning peer PACS: C-FIND and C-GET at pacs cannot be used"),
    ],
)
def test_the_doctor_asks_whether_a_source_lets_itself_be_asked(
    run: Run, config: Path, offered: tuple[str, ...] | None, by: str, told: str
) -> None:
    port, ae = free_port(), AE(ae_title="PACS")
    for uid in (VERIFICATION, *(offered or (FIND,))):
        ae.add_supported_context(uid)
    fetch = f'fetch = true\nfetch_by = "{by}"' if by else ""
    peer = f'[[receive.peers]]\nae_title = "PACS"\nquery = "pacs"\n{fetch}'
    toml = NODE_TOML.replace('[[receive.peers]]\nae_title = "PACS"', peer)
    config.write_text(toml.replace("port = 1\n", f"port = {port}\n"), encoding="utf-8")
    server = ae.start_server(("127.0.0.1", port), block=False) if offered is not None else None
    try:
        output = run("doctor").output
    finally:
        if server is not None:
            server.shutdown()

    assert told in output


def test_the_doctor_names_a_device_that_is_out_of_service_until_it_comes_back(run: Run, node_ledger: Ledger) -> None:
    with node_ledger.begin("worker") as tx:
        tx.trail.append("device in service", device="cpu", host="reading-room", why="it started")
        tx.trail.append("device out of service", outcome=8, device="cuda:1", host="reading-room", why="it hangs")
    told = [line for line in run("doctor").output.splitlines() if " device: " in line]
    with node_ledger.begin("worker") as tx:
        tx.trail.append("device in service", device="cuda:1", host="reading-room", why="it started")

    assert len(told) == 1
    assert "cuda:1 of reading-room is out of service since" in told[0]
    assert told[0].endswith("UTC: it hangs")
    assert " device: " not in run("doctor").output


def test_the_doctor_says_that_retention_does_not_believe_a_clock_that_jumped(
    run: Run, node_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = time.time()
    before = run("doctor").output
    for days in (400, 399, 0):
        with monkeypatch.context() as then:
            then.setattr(time, "time", lambda at=today - days * 86400.0: at)
            with node_ledger.begin("clock") as tx:
                tx.queue.enqueue(Next(kind=Kind.RETAIN, key=f"retain/{days}"))
    after = " ".join(run("doctor").output.split())

    assert "retention" not in before
    assert "files count 386 days less than by the clock" in after


def test_the_doctor_counts_what_waits_for_the_ledger_and_what_could_not_be_read_again(run: Run, config: Path) -> None:
    data = load(config).node.data
    for name in ("incoming/1.2.dcm", "incoming/1.3.dcm", "incoming/1.4.part", "quarantine/1.5.dcm"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(b"")

    result = run("doctor")

    assert "2 received objects wait for the ledger: the next start enters them" in result.output
    assert "1 acknowledged files could not be read again" in result.output


@pytest.mark.parametrize(
    ("begins", "days", "verdict", "found"),
    [
        (-400, 365, "fault", "expired on"), (-1, 10, "warning", "more days"), (-1, 400, "ok", "valid until"),
        (-1, 20_000, "ok", "valid until"), (1, 400, "fault", "valid only from"),
    ],
)  # fmt: skip
def test_the_doctor_says_when_the_certificate_ends(
    tmp_path: Path, begins: int, days: int, verdict: str, found: str
) -> None:
    path = tmp_path / "node.pem"
    start = datetime.now(UTC) + timedelta(days=begins)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "node")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(start)
    certificate = builder.not_valid_after(start + timedelta(days=days)).sign(key, hashes.SHA256())
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    check = doctor._validity(path)

    ends = certificate.not_valid_after_utc.timestamp()
    assert doctor.validity(path.read_text())[1] == ends
    assert (check.verdict, found in check.found) == (verdict, True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_the_doctor_finds_a_folder_that_cannot_be_written(run: Run, config: Path) -> None:
    config.parent.chmod(0o500)
    result = run("doctor")
    config.parent.chmod(0o700)

    assert "cannot be written" in result.output
