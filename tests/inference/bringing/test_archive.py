"""What somebody sends is taken in whole, or not at all, and nothing of it lands elsewhere."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.bringing.archive import Bounds, take_in
from storage.facts.errors import Misconfigured


def zipped(path: Path, fill: Callable[[zipfile.ZipFile], None]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        fill(archive)
    return path


def _link(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("weights.pt")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(info, "/etc/passwd")


def test_a_folder_and_a_zip_of_it_are_taken_in_alike(tmp_path: Path) -> None:
    source = tmp_path / "source" / "inner"
    source.mkdir(parents=True)
    (source / "model.toml").write_text("x")
    (source / "deep").mkdir()
    (source / "deep" / "w.bin").write_bytes(b"123")
    archive = zipped(
        tmp_path / "a.zip",
        lambda z: [z.write(p, p.relative_to(tmp_path / "source")) for p in source.rglob("*")] and None,
    )

    for number, given in enumerate((source, tmp_path / "source", archive)):
        folder = take_in(given, tmp_path / f"target{number}")
        assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*")) == [
            "deep",
            "deep/w.bin",
            "model.toml",
        ]
        assert (folder / "deep" / "w.bin").read_bytes() == b"123"


@pytest.mark.parametrize(
    ("fill", "words"),
    [
        (lambda z: z.writestr("../outside.txt", "x"), "leaves the folder"),
        (lambda z: z.writestr("/absolute.txt", "x"), "leaves the folder"),
        (lambda z: z.writestr("a/../../b", "x"), "leaves the folder"),
        (lambda z: z.writestr("a\\..\\b", "x"), "leaves the folder"),
        (lambda z: z.writestr("C:/b", "x"), "leaves the folder"),
        (_link, "a link or device"),
        (lambda z: (z.writestr("A.txt", "x"), z.writestr("a.TXT", "y")), "two files have one name"),
        (lambda z: z.writestr("zeros", b"\0" * 3_000_000), "this is no model package"),
        (lambda z: [z.writestr(str(n), "x") for n in range(12)], "more than 10 files"),
    ],
)
def test_a_hostile_zip_is_refused_before_a_byte_is_written(
    tmp_path: Path, fill: Callable[[zipfile.ZipFile], None], words: str
) -> None:
    archive = zipped(tmp_path / "a.zip", fill)

    with pytest.raises(Misconfigured, match=words):
        take_in(archive, tmp_path / "in" / "target", Bounds(files=10, small=1_000_000))
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [archive]


def test_a_zip_that_lies_about_a_size_is_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", lambda z: z.writestr("big", b"ab" * 5000))
    content = bytearray(archive.read_bytes())
    at = content.index(b"PK\x01\x02")  # the directory is what is believed
    content[at + 24 : at + 28] = (100).to_bytes(4, "little")
    archive.write_bytes(content)

    with pytest.raises(Misconfigured, match=r"larger than the archive says|damaged"):
        take_in(archive, tmp_path / "target")


def test_a_damaged_zip_and_a_link_in_a_folder_are_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", lambda z: z.writestr("a", os.urandom(1000)))
    content = bytearray(archive.read_bytes())
    content[200] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(Misconfigured, match="damaged"):
        take_in(archive, tmp_path / "one")

    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(archive)
    with pytest.raises(Misconfigured, match="a link"):
        take_in(folder, tmp_path / "two")
    with pytest.raises(Misconfigured, match="neither a folder nor a ZIP"):
        take_in(tmp_path / "nothing", tmp_path / "three")
