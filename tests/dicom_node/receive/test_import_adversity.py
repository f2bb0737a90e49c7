"""``dicom-node import`` and media of other people: what cannot be had is said, and holds up nothing else."""

from __future__ import annotations

import io
import json
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.commands import import_files as command
from dicom_node.commands.import_files import import_files
from dicom_node.commands.import_sources import DIRECTORY, named_by, opened, sort
from dicom_node.receive.landing import Origin, file_meta
from storage.facts.errors import Misconfigured, Rejected, Transient
from tests.dicom_node.receive.conftest import CT, MakeReceiver, Receiver
from tests.dicom_node.receive.test_scp import SERIES, a_slice

ORIGIN = Origin(association="a", calling_ae="A", called_ae="B", address="")


def part10(number: int) -> bytes:
    buffer = io.BytesIO()
    a_slice(number).save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def write_zip(path: Path, members: Sequence[tuple[str, bytes]], kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def write_dicomdir(folder: Path, names: Sequence[Sequence[str]], *, inactive: int = 0, name: str = "DICOMDIR") -> Path:
    directory = Dataset()
    directory.DirectoryRecordSequence = [Dataset() for _ in names]
    for number, (record, parts) in enumerate(zip(directory.DirectoryRecordSequence, names, strict=True)):
        record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", list(parts)
        record.RecordInUseFlag = 0 if number < inactive else 0xFFFF
    directory.file_meta = FileMetaDataset()
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.file_meta.MediaStorageSOPClassUID, directory.file_meta.MediaStorageSOPInstanceUID = DIRECTORY, "1.2.3"
    folder.mkdir(parents=True, exist_ok=True)
    directory.save_as(folder / name, enforce_file_format=True)
    return folder / name


def run(
    receiver: Receiver, source: Path, folder: Path, *, peers: str = '[[receive.peers]]\nae_title = "PACS"\n'
) -> Result:
    """The command against the receiver, as if it were the node of a configuration."""
    (receiver.data / "run").mkdir(exist_ok=True)
    (receiver.data / "run" / "ready.json").write_text(json.dumps({"port": receiver.scp.port}), encoding="ascii")
    (folder / "node.toml").write_text(
        f'[node]\nport = 0\nbind = "127.0.0.1"\ndata = {json.dumps(str(receiver.data))}\n{peers}', encoding="utf-8"
    )
    return CliRunner().invoke(import_files, [str(source), "-c", str(folder / "node.toml")])


def test_damaged_files_stop_nothing_and_are_counted(make_receiver: MakeReceiver, tmp_path: Path) -> None:
    receiver, source = make_receiver(), tmp_path / "files"
    source.mkdir()
    deflated = file_meta(CT, "1.2.3", "1.2.840.10008.1.2.1.99", ORIGIN)
    damaged = [
        part10(2)[:160],
        file_meta(CT, "1.2.3", ExplicitVRLittleEndian, ORIGIN),
        part10(3).replace(b"UL", b"\x55\xff", 1),
    ]
    others = [b"", b"text", bytes(500), part10(4)[132:]]
    for number, content in enumerate([part10(1), deflated + b"\xff" * 500, *damaged, *others]):
        (source / f"{number}").write_bytes(content)

    result = run(receiver, source, tmp_path)
    receiver.settle()

    # What is deflated wrongly is seen by the node, which is asked.
    assert "1 objects imported, 1 refused, 4 other files passed over, 3 damaged or not to be read" in result.output
    assert result.exit_code == 1
    assert len(receiver.instances(SERIES)) == 1


def test_whatever_bytes_a_file_holds_looking_at_it_ends(tmp_path: Path) -> None:
    draw, good, path = random.Random(5), part10(1)[:2000], tmp_path / "file"
    for _ in range(800):
        raw = bytearray(good)
        for _ in range(draw.choice([1, 3, 10])):
            raw[132 + draw.randrange(600)] = draw.choice([0, 255, draw.randrange(256)])
        path.write_bytes(raw[: draw.choice([len(raw), draw.randrange(len(raw))])])
        found = sort([path])
        assert len(found.files) + found.others + found.unreadable == 1


def test_a_file_that_turns_out_to_be_damaged_on_the_way_costs_no_other(
    make_receiver: MakeReceiver, tmp_path: Path
) -> None:
    """A peer that takes implicit VR alone: the node's sender has to rewrite, and meets what it cannot."""
    receiver, source = (
        make_receiver(peers=[{"ae_title": "PACS", "transfer_syntaxes": ["1.2.840.10008.1.2"]}]),
        tmp_path / "files",
    )
    source.mkdir()
    for number in (1, 2, 3, 4):
        raw = part10(number)
        (source / f"{number}").write_bytes(raw if number != 2 else raw[:-3000])

    result = run(receiver, source, tmp_path)
    receiver.settle()

    assert "3 objects imported, 0 refused, 0 other files passed over, 1 damaged or not to be read" in result.output
    assert "not taken" not in result.output
    assert len(receiver.instances(SERIES)) == 3


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_of_a_damaged_zip_the_rest_is_taken(tmp_path: Path, kind: int) -> None:
    path = write_zip(tmp_path / "a.zip", [("DOE_JANE/1.dcm", part10(1)), ("DOE_JANE/2.dcm", part10(2))], kind)
    raw = bytearray(path.read_bytes())
    raw[70:100] = b"\xff" * 30
    path.write_bytes(raw)

    with opened(path) as lot:
        found = sort(lot.paths)

    assert ([file.sop_instance_uid for file in found.files], lot.unreadable) == ([f"{SERIES}.2"], 1)


def test_names_in_a_zip_lead_nowhere_and_hide_no_object(tmp_path: Path) -> None:
    names = ["../../evil", "/tmp/evil", "a/../b", "C:\\x", "n" * 300, "d", "d/x", "con", "d"]  # the last twice
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = write_zip(tmp_path / "a.zip", [(name, part10(number)) for number, name in enumerate(names)])
    before = sorted(tmp_path.rglob("*"))
    with opened(path) as lot:
        assert len(sort(lot.paths).files) == len(names)

    assert sorted(tmp_path.rglob("*")) == before
    assert lot.unreadable == 0


def encrypted(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[6] |= 1
    raw[raw.rindex(b"PK\1\2") + 8] |= 1
    path.write_bytes(raw)


def bomb(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    at = raw.rindex(b"PK\1\2")
    raw[at + 24 : at + 28] = b"\xfe\xff\xff\xff"  # 4 GB
    head = bytes(raw[at : raw.rindex(b"PK\5\6")])
    end = bytearray(raw[raw.rindex(b"PK\5\6") :])
    end[8:12], end[12:16] = (60_000).to_bytes(2, "little") * 2, (len(head) * 60_000).to_bytes(4, "little")
    path.write_bytes(bytes(raw[:at]) + head * 60_000 + bytes(end))  # 240 TB in 60,000 members


def cut(path: Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 3] + raw[len(raw) // 2 :])


@pytest.mark.parametrize(("change", "said"), [(encrypted, "password"), (bomb, "MB free"), (cut, "damaged|cannot be")])
def test_a_zip_that_cannot_be_unpacked_is_refused_without_naming_what_is_in_it(
    tmp_path: Path, change: Callable[[Path], None], said: str
) -> None:
    path = write_zip(tmp_path / "a.zip", [("DOE_JANE.dcm", part10(1))])
    change(path)

    with pytest.raises(Rejected, match=said) as caught, opened(path):
        pass
    assert "DOE" not in str(caught.value)


@pytest.mark.parametrize(
    "names", [["im1/a001", "im1/a002."], ["IM1/A001;1", "IM1/A002.;1"], ["IM1/A001", "IM1/A002"]], ids=str
)
def test_a_disc_whose_names_the_system_shows_otherwise_is_read_all_the_same(tmp_path: Path, names: list[str]) -> None:
    path = write_dicomdir(tmp_path, [["IM1", "A001"], ["IM1", "A002"]], name="dicomdir")
    for number, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(part10(number))

    with opened(path) as lot:
        assert len(sort(lot.paths).files) == 2
        assert lot.missing == 0


def test_what_a_dicomdir_names_and_is_not_there_is_said(make_receiver: MakeReceiver, tmp_path: Path) -> None:
    receiver, disc = make_receiver(), tmp_path / "disc"
    (tmp_path / "outside").write_bytes(part10(9))
    path = write_dicomdir(disc, [["OLD"], ["A1"], ["A2"], ["..", "outside"], ["LINK"], ["A1", "X"]], inactive=1)
    (disc / "A1").write_bytes(part10(1))
    (disc / "OLD").write_bytes(part10(8))
    (disc / "LINK").symlink_to(tmp_path / "outside")

    result = run(receiver, path, tmp_path)

    assert (
        "1 objects imported, 0 refused, 0 other files passed over, 4 that the DICOMDIR names not there" in result.output
    )
    assert result.exit_code == 1


def test_a_damaged_dicomdir_is_refused_or_read(tmp_path: Path) -> None:
    draw, path = random.Random(3), write_dicomdir(tmp_path, [["A1"]] * 3)
    good = path.read_bytes()
    for _ in range(400):
        raw = bytearray(good)
        for _ in range(4):
            raw[132 + draw.randrange(len(raw) - 132)] = draw.randrange(256)
        path.write_bytes(raw[: draw.choice([len(raw), draw.randrange(len(raw))])])
        with suppress(Rejected):
            named_by(path)


@pytest.mark.parametrize(
    ("peers", "sent_as"),
    [
        (
            [{"ae_title": "PACS", "addresses": ["10.1.2.3"]}, {"ae_title": "IMPORT", "addresses": ["127.0.0.1"]}],
            "IMPORT",
        ),
        ([{"ae_title": "PACS", "called_titles": ["DICOM_NODE"]}], "PACS"),
        ([{"ae_title": "PACS", "addresses": ["10.1.2.3"]}], None),
        ([{"ae_title": "PACS", "certificate_names": ["pacs"]}], None),
    ],
)
def test_it_sends_as_the_first_peer_that_may_call_from_here(
    make_receiver: MakeReceiver, tmp_path: Path, peers: list[dict[str, object]], sent_as: str | None
) -> None:
    receiver, source = make_receiver(peers=peers), tmp_path / "files"
    source.mkdir()
    (source / "1").write_bytes(part10(1))
    table = "".join(
        "[[receive.peers]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in peer.items())
        for peer in peers
    )

    result = run(receiver, source, tmp_path, peers=table)

    if sent_as is None:
        assert isinstance(result.exception, Misconfigured)
        assert 'addresses = ["127.0.0.1"]' in str(result.exception)
        return
    receiver.settle()
    with receiver.ledger.begin_reading() as tx:
        series = tx.studies.series(SERIES)
    assert series is not None
    assert series.calling_ae == sent_as


def test_a_node_that_takes_no_more_is_said_with_what_was_imported(
    make_receiver: MakeReceiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = make_receiver(peers=[{"ae_title": "PACS", "quota_gb_per_day": 0.00003}])
    source = tmp_path / "files"
    source.mkdir()
    for number in range(1, 8):
        (source / f"{number}").write_bytes(part10(number))
    monkeypatch.setattr(command, "BATCH", 2)
    result = run(receiver, source, tmp_path)

    assert isinstance(result.exception, Transient)
    assert "4 objects imported, 0 refused" in result.output
    assert "3 were not sent, or not taken now: import again" in result.output


def test_an_import_that_is_interrupted_says_what_was_imported(make_receiver: MakeReceiver, tmp_path: Path) -> None:
    receiver = make_receiver(peers=[{"ae_title": "PACS", "maximum_mb_per_second": 0.05}])
    source = tmp_path / "files"
    source.mkdir()
    for number in range(1, 200):
        (source / f"{number}").write_bytes(part10(number))
    (receiver.data / "run").mkdir(exist_ok=True)
    (receiver.data / "run" / "ready.json").write_text(json.dumps({"port": receiver.scp.port}), encoding="ascii")
    (tmp_path / "node.toml").write_text(
        f'[node]\nport = 0\nbind = "127.0.0.1"\ndata = {json.dumps(str(receiver.data))}\n'
        '[[receive.peers]]\nae_title = "PACS"\n', encoding="utf-8",
    )  # fmt: skip
    words = [sys.executable, "-m", "dicom_node", "import", str(source), "-c", str(tmp_path / "node.toml")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        until = time.monotonic() + 60
        while receiver.desk.counters.stored < 5 and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "objects imported, 0 refused" in output
    assert "were not sent" in output
    assert "Traceback" not in output
