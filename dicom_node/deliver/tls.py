"""TLS as DICOM asks for it: the BCP 195 profile (PS3.15 B.9, RFC 9325), for calling and, shared, for listening."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from storage.facts.errors import Misconfigured

#: RFC 9325 section 4.2: forward secrecy and authenticated encryption only. TLS 1.3 suites are all of that kind.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!SHA1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """PEM files of one party."""

    certificate: Path | None  #: with its chain; also holds the key unless ``key`` is given
    key: Path | None
    trusted: Path | None  #: certificates of the authorities that the other side is checked against


def client_context(files: Files, *, name: str) -> ssl.SSLContext:
    """A context for calling destination ``name``: its certificate and host name are checked, ours is shown.

    Raises Misconfigured for files that cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    load(context, files, what=f"destination {name}")
    if files.trusted is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


def load(context: ssl.SSLContext, files: Files, *, what: str) -> None:
    """Apply the profile and the files. Raises Misconfigured."""
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(CIPHERS)
    if files.certificate is not None:
        try:
            context.load_cert_chain(files.certificate, files.key, password=_no_password)
        except (OSError, ValueError) as error:
            raise Misconfigured(
                f"{what}: certificate {files.certificate} and its key cannot be used ({_fault(error)}): "
                "both must be PEM, belong together, and the key must not be encrypted"
            ) from error
    if files.trusted is not None:
        try:
            context.load_verify_locations(cafile=files.trusted)
        except (OSError, ValueError) as error:
            raise Misconfigured(
                f"{what}: the trusted certificates in {files.trusted} cannot be used ({_fault(error)})"
            ) from error


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def _fault(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)
