"""What somebody meets who has had the node for an hour: a slip of the finger, another user, a file elsewhere."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from dicom_node.cli import cli
from dicom_node.commands.opening import usable
from dicom_node.commands.worklist import MOST
from dicom_node.config import load
from dicom_node.results import language
from storage.facts.errors import Misconfigured
from storage.facts.prediction import Reason
from storage.ledger import Ledger
from tests import builders
from tests.dicom_node.commands.conftest import NODE_TOML, Run
from tests.storage.series import arrive


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(("stauts",), "status"), (("rules", "aply"), "apply"), (("destinatons", "list"), "destinations")],
)
def test_a_mistyped_command_is_answered_with_the_nearest(typed: tuple[str, ...], meant: str) -> None:
    done = CliRunner().invoke(cli, typed)

    assert done.exit_code == 2
    assert f"Did you mean '{meant}'?" in done.output


def test_a_word_that_is_near_no_command_is_not_guessed_at() -> None:
    assert "Did you mean" not in CliRunner().invoke(cli, ["xyzzy"]).output


def test_settings_are_not_shown_for_a_named_file_that_is_not_there(run: Run, tmp_path: Path) -> None:
    """Defaults would be taken for what is in that file."""
    result = run("config", "show", path=tmp_path / "nodes.toml")

    assert isinstance(result.exception, Misconfigured)
    assert "nodes.toml: there is no such file" in str(result.exception)


def test_the_defaults_are_shown_where_no_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DICOM_NODE_CONFIG", raising=False)

    assert "port = 11112" in CliRunner().invoke(cli, ["config", "show"]).output


def test_what_only_the_stages_would_refuse_is_found_by_check_and_doctor(run: Run, tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    text = NODE_TOML.replace('data = "data"', 'data = "data"\nlanguage = "fr"')
    bad.write_text(text.replace("timeout_seconds", 'without = ["imag"]\ntimeout_seconds'), encoding="utf-8")

    checked, examined = run("config", "check", path=bad), run("doctor", path=bad)

    assert isinstance(checked.exception, Misconfigured)
    for told in (str(checked.exception), examined.output):
        assert "node.language: fr is no readable table of a language" in told
        assert "destinations.pacs.without: there is no kind imag; known: " in told
    assert examined.exit_code == 1


def test_the_doctor_goes_on_where_the_password_of_the_database_is_missing(run: Run, tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    lines = 'data = "data"\ndatabase = "postgresql://u@127.0.0.1:1/x"\ndatabase_password_file = "nowhere"'
    bad.write_text(NODE_TOML.replace('data = "data"', lines), encoding="utf-8")

    examined = run("doctor", path=bad)

    assert isinstance(examined.exception, SystemExit)
    assert "fault   ledger: node.database_password_file: " in examined.output
    assert "fault   models: the worker cannot be asked: node.database_password_file: " in examined.output
    assert examined.output.splitlines()[-1].endswith("fault(s) keep the node from working")


@pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("setpriv") is None, reason="only root can make files of another user"
)
@pytest.mark.parametrize("command", ["serve", "status", "rules list", "rules history", "audit verify", "doctor"])
def test_a_command_given_as_another_user_than_the_node_says_whose_the_data_is(config: Path, command: str) -> None:
    data = config.parent / "data"
    Ledger(data).close()
    nobody = pwd.getpwnam("nobody").pw_uid
    for path in (*data.rglob("*"), data):
        os.chown(path, nobody, -1)
    as_another = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]

    done = subprocess.run(
        [*as_another, sys.executable, "-m", "dicom_node", *command.split(), "-c", str(config)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    said = done.stdout + done.stderr
    assert f"cannot be used: Permission denied. {data} belongs to nobody: give the command as the node's user" in said
    assert done.returncode == (1 if command == "doctor" else 78)
    assert "Traceback" not in said


def test_what_cannot_be_used_for_another_reason_names_no_user(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"cannot be used: Is a directory$"), usable(tmp_path):
        tmp_path.open("rb")


def test_a_long_result_is_cut_in_the_worklist_and_whole_in_the_status(run: Run, node_ledger: Ledger) -> None:
    reason = Reason(code=builders.INCOMPLETE, text="; ".join(["Slice thickness is 5 mm"] * 9))
    said = builders.failure(builders.slices(), reason=reason)
    with node_ledger.begin("worker") as tx:
        arrive(tx, said.series_uid, said.study_uid)
        tx.predictions.save(said)

    listed, status = run("worklist", "--days", "100000").output, run("status", said.study_uid).output

    assert max(map(len, listed.splitlines())) < MOST + 150
    assert " …" in listed
    assert "`dicom-node results show STUDY` tells the rest" in listed
    assert reason.text in status


def test_a_table_of_a_language_lies_beside_the_configuration(run: Run, config: Path) -> None:
    config.write_text(NODE_TOML.replace("[node]", '[node]\nlanguage = "ours.toml"'), encoding="utf-8")
    missing = run("config", "check")
    shipped = Path(language.__file__).with_name("language_de.toml")
    (config.parent / "ours.toml").write_bytes(shipped.read_bytes())

    assert f"{config.parent}/ours.toml is no readable table" in str(missing.exception or missing.output)
    assert run("config", "check").exit_code == 0
    assert load(config).node.language == f"{config.parent}/ours.toml"


def test_a_device_that_is_none_is_said_in_words(run: Run, config: Path) -> None:
    config.write_text(f'{NODE_TOML}\n[slots]\ndevices = ["gpu0"]\n', encoding="utf-8")

    assert "'gpu0' is no device of torch: cpu, cuda, or one of several as cuda:0" in str(
        run("config", "check").exception
    )
