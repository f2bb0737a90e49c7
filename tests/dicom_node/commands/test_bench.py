"""What `dicom-node bench` measures is what was really sent and kept."""

from __future__ import annotations

import re
from pathlib import Path

import pydicom
import pytest
from click.testing import CliRunner

from dicom_node.cli import cli
from dicom_node.commands import bench_parties, bench_stow
from dicom_node.deliver.destination import Destination
from storage.facts.errors import Misconfigured


def test_stow_is_measured_beside_c_store_with_the_same_objects() -> None:
    arguments = ["ingest", "--by", "stow", "--what", "small", "--objects", "6", "--rounds", "1", "--associations", "2"]
    done = CliRunner().invoke(cli, ["bench", *arguments, "--only", "this node, no sync", "--sender", "node"])

    assert done.exit_code == 0, done.output
    assert "| this node, no sync |" in done.output
    assert "| this node, no sync, by STOW-RS |" in done.output
    assert re.search(r"this node, no sync: STOW-RS has \d+\.\d\d times the rate of C-STORE", done.output)


def test_what_is_sent_by_stow_lies_in_the_node(tmp_path: Path) -> None:
    source, data, port = tmp_path / "source", tmp_path / "data", bench_parties.free_port()
    source.mkdir()
    data.mkdir()
    files = bench_parties.make_small(source, 5)
    party = bench_stow.party("none", "node", port)
    with bench_parties.started(party, data, nodelay=True) as (to, _):
        bench_stow.send_by_stow(files, to, 2, port)
    kept = {pydicom.dcmread(path).SOPInstanceUID for path in data.rglob("*.dcm")}

    assert kept == {file.sop_instance_uid for file in files}


def test_a_node_that_takes_no_stow_is_said_so(tmp_path: Path) -> None:
    files = bench_parties.make_small(tmp_path, 1)
    nobody = Destination(name="node", ae_title="N", host="127.0.0.1", port=1, calling_ae="B")

    with pytest.raises(Misconfigured, match="cannot be stored to by STOW-RS"):
        bench_stow.send_by_stow(files, nobody, 1, bench_parties.free_port())


@pytest.mark.skipif(bench_parties.program("storescp") is None, reason="DCMTK is not installed")
@pytest.mark.parametrize("nodelay", [True, False])
def test_dcmtk_is_measured_with_and_without_the_algorithm_of_nagle(tmp_path: Path, nodelay: bool) -> None:
    storescp = bench_parties.program("storescp")

    def logging(folder: Path, port: int) -> list[str]:
        return ["sh", "-c", f"exec {storescp} -d -od {folder} {port} > {folder}/log 2>&1"]

    with bench_parties.started(bench_parties.Party(name="storescp", command=logging), tmp_path, nodelay=nodelay):
        pass  # it has answered a C-ECHO by then

    assert ("disabling Nagle algorithm" in (tmp_path / "log").read_text(encoding="utf-8")) is nodelay
