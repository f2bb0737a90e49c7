"""The border to highdicom, which has no errors of its own: what it raises for what it cannot say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from storage.facts.errors import Rejected


@contextmanager
def highdicom(what: str, refusal: type[Exception] = Rejected) -> Iterator[None]:
    """Raises ``refusal`` where highdicom does not take what it is given; ``what`` begins the sentence."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise refusal(f"{what}: {type(error).__name__}: {error}") from error
