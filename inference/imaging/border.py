"""Turns what pydicom and its decoders raise on bad files into the node's own errors."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom.errors import BytesLengthException, InvalidDicomError

from inference.imaging.irregular import INCORRECTLY_FORMATTED, Irregular
from storage.facts.errors import Transient

#: What parsing hostile bytes was seen to raise; texts of these errors may quote element values, so they are not kept.
_BAD_BYTES = (
    InvalidDicomError,
    BytesLengthException,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    NotImplementedError,
    RuntimeError,  # of the decoders; RecursionError of deeply nested sequences
    OverflowError,
    struct.error,
    zlib.error,
)


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Guard one access to one file.

    Raises Transient when the file or the memory is not there now, Irregular when its bytes can never be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote element values
        try:
            yield
        except Irregular:
            raise
        except MemoryError as error:
            raise Transient(f"there is not enough memory to read {what} of {path.name}: it is tried again") from error
        except _BAD_BYTES as error:
            raise _unreadable(path, what, error) from error
        except OSError as error:
            if error.errno is None:  # pydicom's word for a file that ends too early
                raise _unreadable(path, what, error) from error
            raise Transient(f"{path} cannot be opened ({error.strerror or 'input/output error'})") from error


def _unreadable(path: Path, what: str, error: Exception) -> Irregular:
    return Irregular(
        INCORRECTLY_FORMATTED,
        f"{what.capitalize()} of the object in {path.name} cannot be read ({type(error).__name__}): send the series "
        "again from its source.",
    )
