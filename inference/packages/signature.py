"""Who vouches for a package: an Ed25519 signature (RFC 8032) over the digests of all its files.

``signature.ed25519`` in the package holds the signature in base64. What is signed is a line for each other file, its
SHA-256 and its path, ordered by path; so a signature covers the manifest, weights, self-test and reports alike. Trusted
keys are PEM files in a folder that the models folder's owner cannot write; a key's file name says whose it is.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from storage.facts.errors import Misconfigured

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SIGNATURE = "signature.ed25519"
_HEAD = "dicom-node model package, SHA-256 by path"
_CHUNK = 1 << 20


def listing(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below the folder but the signature, by path with slashes. Raises Misconfigured."""
    found = {}
    try:
        for path in sorted(folder.rglob("*")):
            if path.is_symlink():
                raise Misconfigured(f"{path}: a link: a package holds its files itself")
            if path.is_file() and path != folder / SIGNATURE:
                found[path.relative_to(folder).as_posix()] = _digest(path)
    except OSError as error:
        raise Misconfigured(f"{folder} cannot be read: {error.strerror}") from error
    return dict(sorted(found.items()))


def sign(folder: Path, key: Path) -> Path:
    """Sign a package with a private key in PEM, in the place of an earlier signature. Raises Misconfigured."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        private = load_pem_private_key(key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise Misconfigured(f"{key} is no private key in PEM without password ({type(error).__name__})") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise Misconfigured(f"{key} is no Ed25519 key: `openssl genpkey -algorithm ed25519` makes one")
    path = folder / SIGNATURE
    path.write_text(base64.b64encode(private.sign(_message(listing(folder)))).decode() + "\n", encoding="ascii")
    return path


def signer(folder: Path, trusted: Path | None, files: Mapping[str, str] | None = None) -> str:
    """The name of the trusted key that signed the package; empty where it is not signed or no keys are given.

    ``files`` is its listing, if that is known. Raises Misconfigured when no trusted key made its signature.
    """
    path = folder / SIGNATURE
    if trusted is None or not path.exists():
        return ""
    from cryptography.exceptions import InvalidSignature

    message, signature = _message(files if files is not None else listing(folder)), _read(path)
    keys = _keys(trusted)
    for name, key in keys.items():
        try:
            key.verify(signature, message)
        except InvalidSignature:
            continue
        return name
    known = ", ".join(keys) or "none"
    raise Misconfigured(
        f"{folder.name}: its signature was made by no trusted key ({trusted} has: {known}), or its files were changed "
        "after it was signed: get the package again, or add the key of its maker"
    )


def _keys(trusted: Path) -> dict[str, Ed25519PublicKey]:
    """Public keys by file name without ending."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if not trusted.is_dir():
        raise Misconfigured(f"{trusted}: there is no such folder of trusted keys")
    found = {}
    for path in sorted(trusted.glob("*.pem")):
        try:
            key = load_pem_public_key(path.read_bytes())
        except (OSError, ValueError) as error:
            raise Misconfigured(f"{path} is no public key in PEM ({type(error).__name__}): take it away") from error
        if not isinstance(key, Ed25519PublicKey):
            raise Misconfigured(f"{path} is no Ed25519 key: take it away")
        found[path.stem] = key
    return found


def _message(files: Mapping[str, str]) -> bytes:
    lines = [_HEAD, *(f"{digest}  {path}" for path, digest in sorted(files.items()))]
    return ("\n".join(lines) + "\n").encode()


def _read(path: Path) -> bytes:
    try:
        return base64.b64decode(path.read_text(encoding="ascii").strip(), validate=True)
    except (OSError, UnicodeDecodeError, binascii.Error) as error:
        raise Misconfigured(f"{path} is no signature (64 bytes in base64): get the package again") from error


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
