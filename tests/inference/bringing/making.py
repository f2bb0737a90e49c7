"""Small packages as somebody would send them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

WEIGHTS = b"weights of a network"
PINNED = f'sha256 = "{hashlib.sha256(WEIGHTS).hexdigest()}"\n'
MANIFEST = """
id = "small"
version = "1.0.0"
title = "Small & <b>bold</b>"
manufacturer = "Tests"
intended_use = "For nothing but tests."
licence = "None"
algorithm = "lung-densitometry"

[[weights]]
name = "net"
file = "net.bin"
{pin}source = "the makers"

[accepts]
modality = ["CT"]
slice_thickness = {{ max = 2.5 }}

[[segments]]
number = 1
label = "Part"
category = {{ value = "91723000", scheme = "SCT", meaning = "Anatomical Structure" }}
type = {{ value = "39607008", scheme = "SCT", meaning = "Lung" }}
colour = [1, 2, 3]

[[measurements]]
key = "share"
name = {{ value = "SHARE", scheme = "99TEST", meaning = "Share" }}
unit = {{ value = "%", scheme = "UCUM", meaning = "percent" }}
method = "counted"
plausible = [0.0, 100.0]
plausible_source = "a share"

[[findings]]
condition = {{ value = "87433001", scheme = "SCT", meaning = "Pulmonary emphysema" }}
measurement = "share"
present_from = 10.0
absent_below = 5.0
source = "Somebody et al. 2020, not validated here"

[[urgency]]
measurement = "share"
at_least = 20.0
level = "high"
reason = "much"
"""


def package(folder: Path, *, pin: str = PINNED, change: Callable[[str], str] = str, weights: bytes = WEIGHTS) -> Path:
    """A package in a folder."""
    folder.mkdir(parents=True)
    (folder / "model.toml").write_text(change(MANIFEST.format(pin=pin)), encoding="utf-8")
    (folder / "net.bin").write_bytes(weights)
    return folder


def of_version(number: str) -> Callable[[str], str]:
    """The same package in another version."""
    return lambda text: text.replace('version = "1.0.0"', f'version = "{number}"')


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
