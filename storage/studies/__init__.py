"""The book of what arrived: associations, instances, series; and how they are forgotten."""

from storage.studies.book import Studies

__all__ = ["Studies"]
