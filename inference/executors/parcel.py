"""Carries an answer from a slot to the worker: small things through the pipe, arrays through a file that both map.

A slot runs code and weights of others, and the worker holds the keys of the ledger: the worker takes nothing but known
values from a slot. So what is unpickled may name only our own facts and numpy's arrays.
"""

from __future__ import annotations

import errno
import io
import mmap
import pickle
from collections.abc import Sequence
from enum import Enum, EnumType
from pathlib import Path
from typing import Any

from storage.facts.errors import Rejected, Transient

_MODULES = ("storage.facts.", "inference.pipeline", "inference.algorithms.raw", "inference.executors.messages")
_NUMPY = frozenset({"_frombuffer", "_reconstruct", "scalar", "ndarray", "dtype"})


class _Careful(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.startswith(_MODULES):
            found = super().find_class(module, name)
            if isinstance(found, type) and found.__module__.startswith(_MODULES):
                return found
        if module.partition(".")[0] == "numpy" and name in _NUMPY:
            return super().find_class(module, name)
        if (module, name) == ("builtins", "getattr"):
            return _member
        raise pickle.UnpicklingError(f"a slot may not name {module}.{name}")


def _member(owner: object, name: str) -> Enum:
    """What Python before 3.11.4 calls ``getattr`` for: it pickles a member of an enumeration by its name."""
    if not isinstance(owner, EnumType):
        raise pickle.UnpicklingError("a slot may not name an attribute")
    found: Enum = owner[name]
    return found


def say(value: object) -> bytes:
    """A message without large arrays."""
    return pickle.dumps(value, protocol=5)


def hear(data: bytes, buffers: Sequence[memoryview] = ()) -> Any:
    """What a slot said. Raises Rejected when it is not one of the things that a slot may say."""
    try:
        return _Careful(io.BytesIO(data), buffers=buffers).load()
    except (pickle.UnpicklingError, AttributeError, ImportError, EOFError, TypeError, ValueError, LookupError) as error:
        raise Rejected(f"a slot gave no answer that can be understood ({type(error).__name__})") from error


def pack(value: object, scratch: Path) -> tuple[bytes, tuple[int, ...]]:
    """The value without its arrays, and the sizes of the arrays, which are written to ``scratch``.

    Raises Transient when the disk refuses them.
    """
    arrays: list[pickle.PickleBuffer] = []
    body = pickle.dumps(value, protocol=5, buffer_callback=arrays.append)
    views = [array.raw() for array in arrays]
    if views:
        try:
            with scratch.open("wb") as file:
                for view in views:
                    file.write(view)
        except OSError as error:
            scratch.unlink(missing_ok=True)
            code = errno.errorcode.get(error.errno or 0, str(error))
            raise Transient(f"cannot write to {scratch.parent}: {code}; free some space there") from error
    return body, tuple(view.nbytes for view in views)


def unpack(body: bytes, sizes: Sequence[int], scratch: Path) -> Any:
    """The value that was packed; its arrays are views of the file, which may be unlinked at once.

    Raises Transient when the file is not there, Rejected when it is not what was packed.
    """
    if not sizes:
        return hear(body)
    try:
        with scratch.open("rb") as file:
            mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)) if any(sizes) else memoryview(b"")
    except (OSError, ValueError) as error:
        raise Transient(f"{scratch} cannot be read: {error}") from error
    if len(mapped) != sum(sizes):
        raise Rejected(f"{scratch.name} holds {len(mapped)} bytes, {sum(sizes)} were announced")
    views, start = [], 0
    for size in sizes:
        views.append(mapped[start : start + size])
        start += size
    return hear(body, views)
