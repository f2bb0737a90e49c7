"""What pydicom raises on bytes that hold no sense. Texts of these errors may quote values: they are not kept."""

from __future__ import annotations

import struct

from pydicom.errors import BytesLengthException, InvalidDicomError

#: On a value that its representation cannot have.
BAD_VALUE = (
    ArithmeticError, AttributeError, BytesLengthException, LookupError, NotImplementedError, TypeError, ValueError,
    struct.error,
)  # fmt: skip
#: On a whole data set that cannot be read or written.
UNREADABLE = (*BAD_VALUE, EOFError, InvalidDicomError, OSError, RecursionError)
