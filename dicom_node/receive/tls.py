"""The certificate that the node shows to those who call it, read again when its files change."""

from __future__ import annotations

import logging
import ssl
import threading
from pathlib import Path
from typing import Any

from dicom_node.deliver.tls import Files, load
from storage.facts.errors import Misconfigured

log = logging.getLogger(__name__)


class Credentials:
    """Gives the TLS context for a new connection; a renewed certificate is used from the next connection on.

    Every peer must show a certificate that leads to a trusted one (PS3.15 B.9: mutual authentication).
    Raises Misconfigured at the construction for files that cannot be used; a later fault is logged, and the earlier
    certificate stays in use.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._stamp = self._stamps()
        self._context = self._load()

    def __call__(self) -> ssl.SSLContext:
        """The context for one connection."""
        with self._lock:
            stamp = self._stamps()
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._context = self._load()
                    log.info("the certificate was read again")
                except Misconfigured as error:
                    log.error("%s; the earlier certificate stays in use", error)
            return self._context

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        load(context, self._files, what="tls")
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _stamps(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(_stamp(path) for path in (self._files.certificate, self._files.key, self._files.trusted))


def _stamp(path: Path | None) -> tuple[int, int] | None:
    try:
        status = path.stat() if path is not None else None
    except OSError:
        return None
    return None if status is None else (status.st_mtime_ns, status.st_ino)


def names_of(certificate: dict[str, Any] | None) -> frozenset[str]:
    """Common name and DNS names of a verified peer certificate, lower case; empty without TLS."""
    if not certificate:
        return frozenset()
    subject = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    others = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    return frozenset(str(name).lower() for name in (*subject, *others))
