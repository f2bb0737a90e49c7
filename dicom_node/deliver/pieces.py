"""A message on its way in, fragment by fragment (PS3.8 Annex E.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dicom_node.deliver.command import Message

MESSAGE_BYTES = 1 << 24  #: longest data set that is kept in memory

#: Takes a piece of a data set while it arrives; it is valid for the call alone.
Write = Callable[[memoryview], None]

#: Asked at the end of a command that a data set follows: who takes it, or None to have it in the message.
Begin = Callable[[Message], Write | None]


@dataclass(slots=True)
class Parts:
    """What of it has come."""

    begin: Begin | None
    command: bytearray = field(default_factory=bytearray)
    data: bytearray = field(default_factory=bytearray)
    write: Write | None = None
    context_id: int = 0  #: of the command, where its data set is handed on

    def add(self, piece: memoryview, is_command: bool) -> None:
        """One more fragment."""
        if self.write is not None:
            self.write(piece)
        else:
            part = self.command if is_command else self.data
            part += piece

    @property
    def is_too_long(self) -> bool:
        """Whether it is longer than any message that is kept in memory."""
        return max(len(self.command), len(self.data)) > MESSAGE_BYTES
