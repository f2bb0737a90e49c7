"""Texts inside rules: escapes, dates, times, and the tests that a rule can make on a text."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from datetime import date, time
from functools import lru_cache

import re2

_SHORT = 64  #: characters of a value whose answer is remembered
MAX_PATTERN = 500  #: characters of a regular expression
_PATTERN_MEMORY = 1 << 20  #: bytes that one compiled expression may take

_ESCAPES = {'"': '"', "'": "'", "\\": "\\", "n": "\n", "t": "\t"}


def unescape(written: str) -> str:
    """A quoted text without its escapes. Raises ValueError for an escape that the language does not have."""

    def one(match: re.Match[str]) -> str:
        if match[1] not in _ESCAPES:
            raise ValueError(f'unknown escape \\{match[1]}: write \\\\{match[1]}, or r"…" for a regular expression')
        return _ESCAPES[match[1]]

    return re.sub(r"\\(.)", one, written, flags=re.DOTALL)


def date_of(written: str) -> str:
    """``2026-01-31`` as DICOM writes it (DA). Raises ValueError for anything else."""
    try:
        return date.fromisoformat(written).strftime("%Y%m%d") if re.fullmatch(r"\d{4}-\d\d-\d\d", written) else _no()
    except ValueError:
        raise ValueError('a date is written date("2026-01-31")') from None


def time_of(written: str) -> str:
    """``13:05`` or ``13:05:59`` as DICOM writes it (TM). Raises ValueError for anything else."""
    try:
        return time.fromisoformat(written).strftime("%H%M%S") if re.fullmatch(r"\d\d:\d\d(:\d\d)?", written) else _no()
    except ValueError:
        raise ValueError('a time is written time("13:05") or time("13:05:59")') from None


def _no() -> str:
    raise ValueError


def closest(word: str, among: Iterable[str]) -> str | None:
    """The word of a short list that was probably meant."""
    folded = {each.casefold(): each for each in among}
    close = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=0.6)
    return folded[close[0]] if close else None


def test_of(method: str, wanted: str) -> Callable[[str], bool]:
    """The predicate of a method. Raises ValueError for a regular expression that is no RE2 syntax or too large."""
    match method:
        case "contains":
            return lambda value: wanted in value
        case "startsWith":
            return lambda value: value.startswith(wanted)
        case "endsWith":
            return lambda value: value.endswith(wanted)
    return _matcher(wanted)


def _matcher(pattern: str) -> Callable[[str], bool]:
    """An RE2 search: linear in the text whatever the pattern (Cox, "Regular Expression Matching in the Wild", 2010)."""
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"the regular expression is longer than {MAX_PATTERN} characters")
    options = re2.Options()
    options.max_mem, options.log_errors = _PATTERN_MEMORY, False
    try:
        search = re2.compile(pattern, options).search
    except re2.error as error:
        detail = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        raise ValueError(f"not a regular expression (RE2 syntax): {detail}") from None
    known = lru_cache(maxsize=512)(lambda value: search(value) is not None)
    # Descriptions repeat from study to study; long texts do not, and would fill the memory.
    return lambda value: known(value) if len(value) <= _SHORT else search(value) is not None
