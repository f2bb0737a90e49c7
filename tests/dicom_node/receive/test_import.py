"""Files are taken in by ``dicom-node import`` as if a peer had sent them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.commands.import_files import import_files
from dicom_node.commands.import_sources import named_by, sort
from storage.facts.errors import Misconfigured
from tests.dicom_node.receive.conftest import MakeReceiver, Receiver
from tests.dicom_node.receive.test_scp import SERIES, a_slice


def write_files(folder: Path) -> None:
    folder.mkdir()
    for number in (1, 2, 3):
        a_slice(number).save_as(folder / f"{number}.dcm", enforce_file_format=True)
    (folder / "readme.txt").write_text("no image", encoding="ascii")


def run(receiver: Receiver, source: Path, folder: Path) -> str:
    """The command against the receiver, as if it were the node of a configuration."""
    (receiver.data / "run").mkdir(exist_ok=True)
    (receiver.data / "run" / "ready.json").write_text(json.dumps({"port": receiver.scp.port}), encoding="ascii")
    config = folder / "node.toml"
    config.write_text(
        f'[node]\nport = 0\nbind = "127.0.0.1"\ndata = {json.dumps(str(receiver.data))}\n'
        '[[receive.peers]]\nae_title = "PACS"\n',
        encoding="utf-8",
    )
    result = CliRunner().invoke(import_files, [str(source), "-c", str(config)])
    assert result.exception is None, result.output
    return result.output


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_folder_or_a_zip_is_imported_and_what_is_no_image_passed_over(
    make_receiver: MakeReceiver, tmp_path: Path, kind: str
) -> None:
    receiver = make_receiver()
    source = tmp_path / "files"
    write_files(source)
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "files.zip", "w") as archive:
            for path in source.iterdir():
                archive.write(path, f"deep/er/{path.name}")
        source = tmp_path / "files.zip"

    output = run(receiver, source, tmp_path)
    receiver.settle()

    assert "3 objects imported, 0 refused, 1 other files passed over" in output
    assert len(receiver.instances(SERIES)) == 3


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
def test_a_dicomdir_names_what_is_imported_and_nothing_outside_of_it(tmp_path: Path) -> None:
    directory = Dataset()
    directory.DirectoryRecordSequence = [Dataset() for _ in range(4)]
    for number, record in enumerate(directory.DirectoryRecordSequence):
        record.DirectoryRecordType = "IMAGE" if number else "PATIENT"
    for record, parts in zip(
        directory.DirectoryRecordSequence[1:], (["IM", "1"], ["IM", "2"], ["..", "9"]), strict=True
    ):
        record.ReferencedFileID = parts
    directory.file_meta = FileMetaDataset()
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    directory.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    (tmp_path / "disc" / "IM").mkdir(parents=True)
    directory.save_as(tmp_path / "disc" / "DICOMDIR", enforce_file_format=True)
    for path, number in (("disc/IM/1", 1), ("disc/IM/2", 2), ("9", 9)):
        a_slice(number).save_as(tmp_path / path, enforce_file_format=True)

    named = named_by(tmp_path / "disc" / "DICOMDIR")

    found = sort(named.paths)
    assert sorted(f.sop_instance_uid for f in found.files) == [f"{SERIES}.1", f"{SERIES}.2"]
    assert (found.others, found.unreadable, named.missing) == (0, 0, 1)


def test_a_node_that_does_not_run_is_said_to_be_so(tmp_path: Path) -> None:
    write_files(tmp_path / "files")
    config = tmp_path / "node.toml"
    config.write_text('[node]\nport = 0\n[[receive.peers]]\nae_title = "PACS"\n', encoding="ascii")

    result = CliRunner().invoke(import_files, [str(tmp_path / "files"), "-c", str(config)])

    assert isinstance(result.exception, Misconfigured)
    assert "does not run" in str(result.exception)
