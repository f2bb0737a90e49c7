"""Real studies go out and come back whole."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info

from dicom_node.deliver.destination import Outgoing
from dicom_node.deliver.dimse import Outcome, send
from dicom_node.demo.pacs import StandInPacs
from storage.facts.errors import Rejected
from tests.dicom_node.deliver.making import to

pytestmark = pytest.mark.shared_data


def _outgoing(path: Path) -> Outgoing | None:
    try:
        meta = read_file_meta_info(path)
        if path.read_bytes()[132:138] != b"\x02\x00\x00\x00UL":
            return None
        return Outgoing(path=path, sop_class_uid=str(meta.MediaStorageSOPClassUID),
                        sop_instance_uid=str(meta.MediaStorageSOPInstanceUID),
                        transfer_syntax_uid=str(meta.TransferSyntaxUID))  # fmt: skip
    except (InvalidDicomError, AttributeError, Rejected):
        return None


def _data_set(path: Path) -> str:
    raw = path.read_bytes()
    return hashlib.sha256(raw[144 + int.from_bytes(raw[140:144], "little") :]).hexdigest()


@pytest.mark.parametrize("name", ["ct_body_20slice_totalseg", "mr_t1_enhanced_xa30", "cr_chest_6_rsna_nih"])
def test_a_real_study_arrives_with_every_byte(name: str, tmp_path: Path, shared_data: Path, pacs: StandInPacs) -> None:
    with zipfile.ZipFile(shared_data / "studies" / f"{name}.zip") as archive:
        archive.extractall(tmp_path / "study")
    files = [o for p in sorted((tmp_path / "study").rglob("*")) if p.is_file() and (o := _outgoing(p)) is not None]

    sent = send(files, to(pacs.port))

    assert files
    assert {s.status for s in sent} == {0}
    held = {o.sop_instance_uid: _data_set(o.path) for o in pacs.objects()}
    assert held == {f.sop_instance_uid: _data_set(f.path) for f in files}


@pytest.mark.filterwarnings("ignore")  # the files are odd on purpose
def test_hostile_files_are_refused_one_by_one_and_never_hang(
    tmp_path: Path, shared_data: Path, pacs: StandInPacs
) -> None:
    with zipfile.ZipFile(shared_data / "nasty.zip") as archive:
        archive.extractall(tmp_path / "nasty")
    paths = [p for p in sorted((tmp_path / "nasty").rglob("*")) if p.is_file()]
    files = list({o.sop_instance_uid: o for p in paths if (o := _outgoing(p)) is not None}.values())

    sent = send(files, to(pacs.port))

    stored = {s.sop_instance_uid for s in sent if s.outcome is Outcome.STORED}
    assert len(stored) > 0.8 * len(files)
    held = {o.sop_instance_uid: o.path for o in pacs.objects()}
    by_uid = {f.sop_instance_uid: f.path for f in files}
    assert {u: _data_set(held[u]) for u in stored} == {u: _data_set(by_uid[u]) for u in stored}
