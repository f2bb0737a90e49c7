"""Who is called, and what is handed over."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from pathlib import Path

from storage.facts.errors import Misconfigured, Rejected

_UID = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """An application entity to call, and how patient to be with it. Raises Misconfigured for what cannot be called."""

    name: str  #: as in the configuration; for people
    ae_title: str  #: called AE title
    host: str
    port: int
    calling_ae: str
    tls: ssl.SSLContext | None = None  #: a client context (PS3.15 B.9); None: in the clear
    connect_seconds: float = 10.0  #: for the TCP connection
    answer_seconds: float = 30.0  #: for each answer, and for the peer to take each piece of what is sent
    max_pdu: int = 131072  #: longest P-DATA-TF that is taken and sent, bytes (PS3.8 D.1)
    associations: int = 1  #: at a time, for many objects; many archives take few from one AE title

    def __post_init__(self) -> None:
        """Check what the network layer could only refuse later, and less plainly."""
        for what, title in (("AE title", self.ae_title), ("calling AE title", self.calling_ae)):
            if not title.strip() or len(title) > 16 or not title.isascii() or not title.isprintable() or "\\" in title:
                raise Misconfigured(
                    f"destination {self.name}: its {what} must be 1 to 16 printable ASCII characters without backslash"
                )
        if not self.host or any(c.isspace() or c in "/\\@" for c in self.host):
            raise Misconfigured(f"destination {self.name}: {self.host!r} is not a host name or an IP address")
        if not 0 < self.port < 65536:
            raise Misconfigured(f"destination {self.name}: port {self.port} is not between 1 and 65535")
        if not 4096 <= self.max_pdu <= 1 << 20:
            raise Misconfigured(f"destination {self.name}: the PDU length must be between 4096 and 1048576 bytes")
        if not 1 <= self.associations <= 32:
            raise Misconfigured(f"destination {self.name}: its associations must be between 1 and 32")
        if self.connect_seconds <= 0 or self.answer_seconds <= 0:
            raise Misconfigured(f"destination {self.name}: its time-outs must be above 0 seconds")

    def __str__(self) -> str:
        """For texts: name, AE title and address."""
        return f"{self.name} ({self.ae_title} at {self.host}:{self.port})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A Part 10 file to be stored elsewhere. Raises Rejected where a UID is none: no request could be made of it."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str

    def __post_init__(self) -> None:
        """A single bad UID in the negotiation would cost the other objects their association."""
        for what in ("sop_class_uid", "sop_instance_uid", "transfer_syntax_uid"):
            if not _UID.fullmatch(getattr(self, what)):
                raise Rejected(
                    f"object {self.sop_instance_uid or '(without UID)'} cannot be sent: its {what} is no UID"
                )
