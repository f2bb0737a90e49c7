"""Finds the series in a folder, and to which group of patients and machines each belongs. Names are not read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from inference.imaging.border import reading
from inference.imaging.header import texts
from inference.imaging.irregular import Irregular
from storage.facts.errors import Rejected

_TAGS = ["SeriesInstanceUID", "StudyInstanceUID", "Modality", "PatientSex", "PatientAge", "Manufacturer"]
_NO_IMAGES = frozenset({"SEG", "SR", "PR", "KO", "RTSTRUCT", "RTDOSE", "RTPLAN", "DOC", "REG"})
_SEXES = {"F": "female", "M": "male", "O": "other"}
_AGES = ((18, "below 18"), (40, "18 to 39"), (60, "40 to 59"), (80, "60 to 79"))
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}  #: units of an Age String (PS3.5 6.2)
NOT_STATED = "not stated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One series in the folder."""

    series_uid: str
    study_uid: str
    groups: Mapping[str, str]  #: what it is counted under: sex, age, manufacturer
    paths: list[Path] = field(default_factory=list)


def series_in(folder: Path) -> dict[str, Series]:
    """The image series below a folder, by UID; files that are no DICOM are passed over.

    Raises Rejected when there is none, Transient when one cannot be read now.
    """
    found: dict[str, Series] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        header = _header(path)
        if header is None or str(header.get("Modality", "")) in _NO_IMAGES:
            continue
        uid = str(header.get("SeriesInstanceUID", ""))
        if uid not in found:
            groups = dict(_groups(header))
            found[uid] = Series(series_uid=uid, study_uid=str(header.get("StudyInstanceUID", "")), groups=groups)
        found[uid].paths.append(path)
    if not found:
        raise Rejected(f"{folder} holds no DICOM images: give the folder with the studies of the truth table")
    return found


def _header(path: Path) -> Dataset | None:
    try:
        with reading(path, "the header"):
            return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
    except Irregular as error:
        if isinstance(error.__cause__, InvalidDicomError | EOFError):
            return None
        raise Rejected(error.reason.text) from error


def _groups(header: Dataset) -> Iterator[tuple[str, str]]:
    yield "Sex", _SEXES.get(next(iter(texts(header, "PatientSex")), ""), NOT_STATED)
    yield "Age", _age(next(iter(texts(header, "PatientAge")), ""))
    yield "Manufacturer", next(iter(texts(header, "Manufacturer")), NOT_STATED)[:40]


def _age(text: str) -> str:
    if not text[:-1].isdigit() or text[-1:] not in _YEARS:
        return NOT_STATED
    years = int(text[:-1]) * _YEARS[text[-1]]
    return next((name for below, name in _AGES if years < below), "80 and more")
