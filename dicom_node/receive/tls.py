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

EXPIRED = 10  #: X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL


class Credentials:
    """Gives the TLS context for a new connection; a renewed certificate is used from the next connection on.

    Every peer must show a certificate that leads to a trusted one (PS3.15 B.9: mutual authentication).
    Raises Misconfigured at the construction for files that cannot be used; a later fault is logged, and the earlier
    certificate stays in use. One that has expired is such a fault as long as the earlier one has not.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._stamp = self._stamps()
        self._context, self._judge = self._load()
        if _has_expired(self._context, self._judge):
            log.error("%s has expired: peers that look will not speak to this node", files.certificate)

    def __call__(self) -> ssl.SSLContext:
        """The context for one connection."""
        with self._lock:
            stamp = self._stamps()
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._take_up(*self._load())
                    log.info("the certificate was read again")
                except Misconfigured as error:
                    log.error("%s; the earlier certificate stays in use", error)
            return self._context

    def _take_up(self, context: ssl.SSLContext, judge: ssl.SSLContext) -> None:
        """Raises Misconfigured for a certificate that has expired where the earlier one has not."""
        if _has_expired(context, judge) and not _has_expired(self._context, self._judge):
            raise Misconfigured(f"tls: the certificate in {self._files.certificate} has expired")
        self._context, self._judge = context, judge

    def _load(self) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        """The context for connections, and that of a peer who trusts just this certificate. Raises Misconfigured."""
        context, judge = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        load(context, self._files, what="tls")
        load(judge, Files(certificate=None, key=None, trusted=self._files.certificate), what="tls")
        judge.check_hostname = False
        judge.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_mode = ssl.CERT_REQUIRED
        return context, judge

    def _stamps(self) -> tuple[tuple[int, ...] | None, ...]:
        return tuple(_stamp(path) for path in (self._files.certificate, self._files.key, self._files.trusted))


def _stamp(path: Path | None) -> tuple[int, ...] | None:
    try:
        status = path.stat() if path is not None else None
    except OSError:
        return None
    return None if status is None else (status.st_mtime_ns, status.st_ino, status.st_size)


def _has_expired(context: ssl.SSLContext, judge: ssl.SSLContext) -> bool:
    """Whether a peer finds so, in a handshake over no wire: the standard library tells no dates of our own."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = judge.wrap_bio(to_client, to_server)
    node = context.wrap_bio(to_server, to_client, server_side=True)
    for end in (peer, node, peer):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as error:
            return error.verify_code == EXPIRED
        except ssl.SSLError:
            return False  # another fault, which callers will tell
    return False


def names_of(certificate: dict[str, Any] | None) -> frozenset[str]:
    """Common name and DNS names of a verified peer certificate, lower case; empty without TLS."""
    if not certificate:
        return frozenset()
    subject = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    others = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    return frozenset(str(name).lower() for name in (*subject, *others))
