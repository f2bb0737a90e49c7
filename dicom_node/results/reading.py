"""Reads data sets that may be wrong in any way: what is not there is empty."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

#: What pydicom raises on values that are not of their representation.
FORMAT_ERRORS = (AttributeError, KeyError, IndexError, TypeError, ValueError)


def first(dataset: Dataset, keyword: str) -> Dataset:
    """The first item of a sequence; an empty data set when there is none."""
    items = dataset.get(keyword)
    return items[0] if isinstance(items, Sequence) and len(items) else Dataset()


def code_of(item: Dataset) -> tuple[str, str]:
    """Value and scheme of a code item."""
    return text_of(item, "CodeValue"), text_of(item, "CodingSchemeDesignator")


def text_of(dataset: Dataset, keyword: str) -> str:
    """A value as text; empty when it is absent."""
    found = dataset.get(keyword)
    return "" if found is None else str(found).strip()


def first_of(dataset: Dataset, keyword: str) -> str:
    """The first of several values as text; empty when there is none."""
    found = dataset.get(keyword)
    values = [found] if isinstance(found, str) else list(found or [])
    return str(values[0]).strip() if values else ""
