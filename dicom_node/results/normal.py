"""Mends attribute values of a source, so that what real archives hold may stand in an object that we answer for.

A value that breaks its value representation (PS3.5 6.2) is re-written where its meaning is certain, cut where it is a
description, and left out where it identifies: half an identifier is another one.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Callable
from datetime import date
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicom_node.unreadable import BAD_VALUE

_DATE = re.compile(r"(\d{4})[-./]?(\d{2})[-./]?(\d{2})(?:\d{6}.*)?")
_TIME = re.compile(r"(\d{2})(?::?([0-5]\d)(?::?([0-5]\d)(\.\d{1,6})?)?)?")
_AGE = re.compile(r"0*(\d{1,3})([DWMY]?)")
_SEX = {"M": "M", "F": "F", "O": "O", "MALE": "M", "FEMALE": "F", "OTHER": "O"}


def value(dataset: Dataset, keyword: str) -> Any:
    """The value of an attribute; None where it is absent, empty, or cannot be read."""
    if keyword not in dataset:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote values: they may be a patient's
        try:
            found = dataset.get(keyword)
        except BAD_VALUE:
            return None
    return None if found is None or (hasattr(found, "__len__") and len(found) == 0) else found


def plain(found: Any) -> str:
    """A value as one line of text: several values joined by backslashes, no control characters, composed accents."""
    if found is None:
        return ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            parts = [str(v) for v in found] if isinstance(found, MultiValue | list) else [str(found)]
        except BAD_VALUE:
            return ""
    return line("\\".join(parts))


def line(text: str) -> str:
    """A text as one line: no control characters, at which readers stop, and composed accents."""
    return _printed(text, "")


def paragraphs(text: str) -> str:
    """A text that may have several lines (ST, LT, UT), without any other control characters."""
    return _printed(text, "\r\n")


def _printed(text: str, kept: str) -> str:
    composed = unicodedata.normalize("NFC", text)
    return "".join(c if c in kept or unicodedata.category(c) not in ("Cc", "Cs") else " " for c in composed).strip()


def as_date(text: str) -> str:
    """DA: ``2026.11.01`` and ``2026-11-01`` are re-written; a bare year says no day and becomes empty."""
    match = _DATE.fullmatch(text)
    if match is None:
        return ""
    try:
        return f"{date(*map(int, match.groups())):%Y%m%d}"
    except ValueError:
        return ""


def as_time(text: str) -> str:
    """TM: ``10:15:00`` is re-written, what is no time becomes empty."""
    match = _TIME.fullmatch(text)
    if match is None or int(match[1]) > 23:
        return ""
    return "".join(part or "" for part in match.groups())


def as_age(text: str) -> str:
    """AS: a bare number means years."""
    match = _AGE.fullmatch(text.upper())
    return f"{int(match[1]):03d}{match[2] or 'Y'}" if match else ""


def as_sex(text: str) -> str:
    """CS of PatientSex (PS3.3 C.7.1.1): M, F or O; empty when it is unknown."""
    return _SEX.get(text.upper(), "")


def as_number(text: str) -> str:
    """DS of a positive quantity; empty when it is none."""
    try:
        number = float(text)
    except ValueError:
        return ""
    return f"{number:.8g}"[:16] if 0 < number < 1e6 else ""


def as_identifier(most: int) -> Callable[[str], str]:
    """SH or LO that identifies: empty when it is longer than allowed or has several values."""
    return lambda text: "" if len(text) > most or "\\" in text else text


def as_text(most: int) -> Callable[[str], str]:
    """SH or LO that describes: cut where it is too long."""
    return lambda text: line(text.replace("\\", " "))[:most].rstrip()


def as_code(text: str) -> str:
    """CS of 16 characters; empty when it is none."""
    return text.upper() if re.fullmatch(r"[A-Z0-9 _]{1,16}", text.upper()) else ""


def as_name(text: str) -> str:
    """PN: at most three component groups of 64 characters with five components each (PS3.5 6.2.1)."""
    groups = text.replace("\\", " ").split("=")[:3]
    return "=".join("^".join(group.split("^")[:5])[:64] for group in groups).rstrip("=")
