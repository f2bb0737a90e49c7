"""Tells running out of memory from other faults, whoever raised it and whatever it was translated into."""

from __future__ import annotations

from collections.abc import Iterator

from inference.runtime import OutOfMemory

#: What torch's allocators say where they raise a plain RuntimeError.
_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")


def ran_out(error: BaseException) -> bool:
    """Whether it, or what it was raised from, is a lack of memory."""
    return any(_is_memory(one) for one in _causes(error))


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | OutOfMemory):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
