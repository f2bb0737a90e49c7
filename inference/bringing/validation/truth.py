"""Reads a truth table: what is known of each series or study, by whatever means, before the package is asked.

A text file with a head and the columns ``series`` (or ``study``), ``target`` and ``value``, separated by commas,
semicolons or tabs. A line says one thing of one series; what a value looks like follows from the target:

==============  ==================================================================================================
classification  1 or 0, present or absent, yes or no
grading         code value or meaning of a class
regression      a number in the unit of the measurement
segmentation    a DICOM Segmentation, or ``.npz`` with the array ``mask``, beside the table; ``FILE#NUMBER`` names
                the segment
detection       ``x y z diameter`` of one lesion, in mm, patient coordinates (LPS); a line each; ``none`` for none
==============  ==================================================================================================
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inference.bringing.validation.targets import Target, Task, find
from inference.packages.outputs import GradeEntry
from storage.facts.errors import Rejected, Transient

COLUMNS = ("series", "study", "target", "value")
_UID = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)+")
_YES, _NO = ("1", "yes", "true", "present", "positive"), ("0", "no", "false", "absent", "negative")
_SHOWN = 20  #: faults that are told at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesion:
    """One thing that is there, in patient coordinates (LPS), mm."""

    place: tuple[float, float, float]
    diameter: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Where a label map is."""

    path: Path
    number: int | None  #: of the segment; None: the one that the package means


Value = bool | int | float | Labels | tuple[Lesion, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of one target."""

    target: Target
    value: Value  #: presence, number of the class, number, label map, or all lesions
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """A truth table, read."""

    series: Mapping[str, tuple[Known, ...]]  #: by Series Instance UID
    studies: Mapping[str, tuple[Known, ...]]  #: by Study Instance UID: of the one series of it that the package takes
    digest: str  #: SHA-256 of the file


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    number: int
    uid: str
    is_study: bool
    target: Target
    text: str


def read_truth(path: Path, targets: tuple[Target, ...]) -> Truth:
    """The table, every line valid. Raises Rejected with each faulty line and why, Transient if it is unreadable."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Transient(f"{path} cannot be read: {error.strerror}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Rejected(f"{path}: it is no text in UTF-8 (byte {error.start})") from error
    faults: list[str] = []
    lines = list(_lines(text, targets, faults))
    known = list(_known(lines, path.resolve().parent, faults))
    if not faults and not known:
        faults.append("it has no line below its head")
    if faults:
        faults.sort(key=lambda fault: int(fault.split()[1].rstrip(":")) if fault.startswith("line ") else 0)
        more = [f"and {len(faults) - _SHOWN} more faults"] if len(faults) > _SHOWN else []
        raise Rejected("\n  ".join([f"{path} is no truth table that can be used:", *faults[:_SHOWN], *more]))
    return Truth(
        series=_by_uid(one for one in known if not one[0].is_study),
        studies=_by_uid(one for one in known if one[0].is_study),
        digest=hashlib.sha256(content).hexdigest(),
    )


def _lines(text: str, targets: tuple[Target, ...], faults: list[str]) -> Iterator[_Line]:
    head = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=head.count))
    try:
        names = [name.strip().lower() for name in next(reader, [])]
        if fault := _wrong_head(names):
            faults.append(f"line 1: {fault}")
            return
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            try:
                yield _line(reader.line_num, names, [cell.strip() for cell in cells], targets)
            except Rejected as error:
                faults.append(f"line {reader.line_num}: {error}")
    except csv.Error as error:
        faults.append(f"line {reader.line_num}: {error}")


def _wrong_head(names: Sequence[str]) -> str:
    strange = [name for name in names if name not in COLUMNS]
    if strange:
        return f"there is no column {strange[0][:40]!r}; the columns are series or study, target, value"
    if len(set(names)) < len(names):
        return "a column stands twice"
    if not {"target", "value"} <= set(names) or not {"series", "study"} & set(names):
        return "the head must name series or study, target, and value"
    return ""


def _line(number: int, names: Sequence[str], cells: Sequence[str], targets: tuple[Target, ...]) -> _Line:
    if len(cells) != len(names):
        raise Rejected(f"it has {len(cells)} cells, the head has {len(names)}")
    given = dict(zip(names, cells, strict=True))
    series, study = given.get("series", ""), given.get("study", "")
    if bool(series) == bool(study):
        raise Rejected("it must name a series or a study, and not both")
    if not _UID.fullmatch(series or study):
        raise Rejected("what stands for the series or study is no UID (PS3.5 9.1)")
    if not given["value"]:
        raise Rejected("its value is empty: leave the line out where nothing is known")
    target = find(targets, given["target"])
    return _Line(number=number, uid=series or study, is_study=bool(study), target=target, text=given["value"])


def _known(lines: Sequence[_Line], folder: Path, faults: list[str]) -> Iterator[tuple[_Line, Known]]:
    """Lines with their values; those that list the lesions of one series become one."""
    first: dict[tuple[str, str], _Line] = {}
    lesions: dict[tuple[str, str], list[Lesion]] = {}
    for line in lines:
        key = (line.uid, line.target.name)
        earlier = first.setdefault(key, line)
        try:
            if line.target.task is Task.DETECTION:
                lesions.setdefault(key, []).extend(_lesion(line, earlier))
                continue
            if earlier is not line:
                raise Rejected(f"{line.target.name} of this series stands in line {earlier.number}, too")
            yield line, Known(target=line.target, value=_value(line, folder), line=line.number)
        except Rejected as error:
            faults.append(f"line {line.number}: {error}")
    for key, found in lesions.items():
        line = first[key]
        yield line, Known(target=line.target, value=tuple(found), line=line.number)


def _lesion(line: _Line, earlier: _Line) -> list[Lesion]:
    if line.text.casefold() == "none":
        if earlier is not line:
            raise Rejected(f"it says that there is none, line {earlier.number} names one")
        return []
    if earlier.text.casefold() == "none":
        raise Rejected(f"line {earlier.number} says that there is none")
    try:
        x, y, z, diameter = map(float, line.text.split())
    except ValueError:
        raise Rejected("a lesion is four numbers: x y z diameter, in mm; or none") from None
    if not all(map(math.isfinite, (x, y, z))) or not 0 < diameter < 1000:
        raise Rejected("a lesion has a place, and a diameter between 0 and 1000 mm")
    return [Lesion(place=(x, y, z), diameter=diameter)]


def _value(line: _Line, folder: Path) -> Value:
    text = line.text.casefold()
    match line.target.task:
        case Task.PRESENCE:
            if text not in _YES + _NO:
                raise Rejected(f"{line.target.name} is present or absent (1 or 0)")
            return text in _YES
        case Task.GRADE:
            return _class(line)
        case Task.MEASUREMENT:
            return _number(line)
        case _:
            return _labels(line, folder)


def _class(line: _Line) -> int:
    entry = line.target.entry
    assert isinstance(entry, GradeEntry)
    for number, code in enumerate(entry.classes):
        if line.text.casefold() in (code.value.casefold(), code.meaning.casefold()):
            return number
    raise Rejected(f"{entry.key} has the classes {', '.join(code.value for code in entry.classes)}")


def _number(line: _Line) -> float:
    try:
        value = float(line.text)
    except ValueError:
        raise Rejected(f"{line.target.name} is a number, with a point for decimals") from None
    if not math.isfinite(value):
        raise Rejected(f"{line.target.name} is a finite number")
    return value


def _labels(line: _Line, folder: Path) -> Labels:
    name, _, number = line.text.partition("#")
    if number and not (number.isdigit() and int(number) > 0):
        raise Rejected("after the # stands the number of a segment")
    path = folder / name
    if not path.is_file():
        raise Rejected("there is no file of that name beside the table")
    return Labels(path=path, number=int(number) if number else None)


def _by_uid(known: Iterator[tuple[_Line, Known]]) -> dict[str, tuple[Known, ...]]:
    found: dict[str, list[Known]] = {}
    for line, one in known:
        found.setdefault(line.uid, []).append(one)
    return {uid: tuple(each) for uid, each in found.items()}
