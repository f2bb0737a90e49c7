"""Certificates that change under a running node: the earlier one goes on until the new one can be used."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import pytest

from dicom_node.deliver.echo import echo
from dicom_node.deliver.tls import Files
from dicom_node.receive.tls import Credentials
from storage.facts.errors import Misconfigured
from tests.dicom_node.receive.conftest import MakeReceiver
from tests.dicom_node.receive.test_hardening import Authority, authority, call, tls_settings

__all__ = ["authority"]  # a fixture


def parted(authority: Authority, name: str) -> tuple[bytes, bytes]:
    """A certificate and its key."""
    certificate, mark, key = authority.issue(name).read_bytes().partition(b"-----BEGIN PRIVATE")
    return certificate, mark + key


def test_a_renewal_in_several_steps_is_taken_up_at_the_last_and_each_fault_is_said_once(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    certificate, key = tmp_path / "cert", tmp_path / "key"
    (first, first_key), (second, second_key) = parted(authority, "first"), parted(authority, "second")
    certificate.write_bytes(first)
    key.write_bytes(first_key)
    credentials = Credentials(Files(certificate=certificate, key=key, trusted=authority.trusted))
    began = credentials()

    for step in (lambda: certificate.write_bytes(second[:300]), lambda: certificate.write_bytes(second), key.unlink):
        step()
        assert credentials() is began
        assert credentials() is began
    key.write_bytes(second_key)
    renewed = credentials()

    assert renewed is not began
    assert credentials() is renewed
    said = [record.getMessage() for record in caplog.records if record.name.endswith("receive.tls")]
    assert ["stays in use" in line for line in said] == [True, True, True, False]
    assert all("PRIVATE" not in line for line in said)


def test_a_file_that_grows_within_one_tick_of_the_clock_is_read_again(authority: Authority, tmp_path: Path) -> None:
    path = tmp_path / "cert"
    whole = authority.issue("first").read_bytes()
    path.write_bytes(whole)
    credentials = Credentials(Files(certificate=path, key=None, trusted=authority.trusted))
    began = credentials()
    path.write_bytes(authority.issue("second").read_bytes()[:500])
    half = path.stat()
    assert credentials() is began
    path.write_bytes(authority.issue("third").read_bytes())
    os.utime(path, ns=(half.st_atime_ns, half.st_mtime_ns))

    assert credentials() is not began


def test_an_expired_certificate_does_not_replace_one_that_is_valid(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, valid, expired = tmp_path / "cert", authority.issue("valid"), authority.issue("expired", days=-1)
    path.write_bytes(valid.read_bytes())
    credentials = Credentials(Files(certificate=path, key=None, trusted=authority.trusted))
    began = credentials()
    assert "expired" not in caplog.text
    path.write_bytes(expired.read_bytes())

    assert credentials() is began
    assert "has expired; the earlier certificate stays in use" in caplog.text
    path.write_bytes(authority.issue("next").read_bytes())
    assert credentials() is not began


def test_a_node_starts_with_an_expired_certificate_and_says_so(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cert"
    path.write_bytes(authority.issue("first", days=-1).read_bytes())
    credentials = Credentials(Files(certificate=path, key=None, trusted=authority.trusted))
    began = credentials()
    assert f"{path} has expired" in caplog.text
    path.write_bytes(authority.issue("second", days=-1).read_bytes())

    assert credentials() is not began, "none of them is better than the other"


def test_authorities_that_are_emptied_let_nobody_in_who_was_not(authority: Authority, tmp_path: Path) -> None:
    trusted = tmp_path / "trusted"
    trusted.write_bytes(authority.trusted.read_bytes())
    credentials = Credentials(Files(certificate=authority.issue("node"), key=None, trusted=trusted))
    began = credentials()
    trusted.write_bytes(b"")

    assert credentials() is began
    with pytest.raises(Misconfigured, match="trusted"):
        Credentials(Files(certificate=authority.issue("node"), key=None, trusted=trusted))


def test_handshakes_go_on_while_the_certificate_changes(make_receiver: MakeReceiver, authority: Authority) -> None:
    settings = tls_settings(authority)
    receiver, path = make_receiver(tls=settings), Path(str(settings["certificate"]))
    to = call(receiver, authority, authority.issue("pacs"))
    issued = [authority.issue(name).read_bytes() for name in ("one", "two")]
    stop = threading.Event()

    def change() -> None:
        number = 0
        while not stop.wait(0.005):
            number += 1
            path.write_bytes(issued[number % 2][: None if number % 3 else 400])

    changing = threading.Thread(target=change)
    changing.start()
    try:
        assert all(echo(to) > 0 for _ in range(15))
    finally:
        stop.set()
        changing.join()
