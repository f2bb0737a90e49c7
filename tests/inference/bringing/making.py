"""Small packages as somebody would send them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.inference.manifests import packed, small, swap

WEIGHTS = b"weights of a network"


def package(folder: Path, *, change: Callable[[str], str] = str, weights: bytes = WEIGHTS, pinned: bool = True) -> Path:
    """A package in a new folder."""
    assert not folder.exists()
    return packed(folder, change(small(WEIGHTS if pinned else None)), {"net.bin": weights})


def of_version(number: str) -> Callable[[str], str]:
    """The same package in another version."""
    return swap('version = "1.0.0"', f'version = "{number}"')


def key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """A private key, and the folder of trusted keys with its public one."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    private = Ed25519PrivateKey.generate()
    trusted = folder / "trusted"
    trusted.mkdir(parents=True, exist_ok=True)
    secret = folder / f"{name}.key"
    secret.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (trusted / f"{name}.pem").write_bytes(public)
    return secret, trusted
