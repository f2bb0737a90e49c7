"""What other people's HTTP does at STOW-RS: it is taken where the standards allow it, and noted where not."""

from __future__ import annotations

import json
import logging
import re
import resource
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from xml.etree import ElementTree

import numpy as np
import pytest
import requests
from pydicom.dataset import Dataset

from dicom_node.config import NodeConfig
from dicom_node.deliver.tls import Files
from dicom_node.receive.stow import Stow
from tests.builders import pixels, source
from tests.dicom_node.receive.test_hardening import Authority, authority, ends_within, refusals
from tests.dicom_node.receive.test_stow import JSON, TOKEN, Open, Web, a_ct, body, failures, open_web, part10

__all__ = ["authority", "open_web"]  # fixtures
HEAD = "Host: a\r\n" + "".join(f"{name}: {value}\r\n" for name, value in JSON.items())


def post(raw: bytes, *, more: str = "", version: str = "1.1", head: str = HEAD) -> bytes:
    return f"POST /studies HTTP/{version}\r\n{head}Content-Length: {len(raw)}\r\n{more}\r\n".encode() + raw


@contextmanager
def connected(web: Web) -> Iterator[socket.socket]:
    assert web.stow.port is not None
    with socket.create_connection(("127.0.0.1", web.stow.port), 10) as link:
        yield link


def ask(web: Web, raw: bytes, answers: int = 1) -> list[tuple[int, bytes]]:
    """Status and content of each answer to what is sent in one go."""
    found = []
    with connected(web) as link, link.makefile("rb") as lines:
        link.sendall(raw)
        while len(found) < answers:
            head = b"".join(iter(lines.readline, b"\r\n"))
            status, length = int(head.split()[1]), re.search(rb"content-length: (\d+)", head.lower())
            found.append((status, lines.read(int(length[1])) if length and not raw.startswith(b"HEAD") else b""))
    return found


@pytest.mark.parametrize(
    ("make", "statuses"),
    [
        (lambda good: post(good, version="1.0"), [200]),
        (lambda good: post(good, version="1.0", head=HEAD.replace("Host: a\r\n", "")), [200]),
        (lambda good: post(good, head=HEAD.replace("Host: a\r\n", "")), [400]),
        (lambda good: post(good) + post(good), [200, 200]),
        (lambda good: post(good, more="Expect: 100-continue\r\n"), [100, 200]),
        (lambda good: post(good, more="Expect: 100-continue\r\n").replace(TOKEN.encode(), b"other"), [401]),
        (lambda good: post(good, more="Connection: upgrade\r\nUpgrade: h2c\r\n"), [200]),
        (lambda _: b"HEAD /studies HTTP/1.1\r\n" + HEAD.encode() + b"\r\n", [405]),
        (lambda _: b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", [404]),
        (lambda _: post(b"", more="Transfer-Encoding: gzip, chunked\r\n"), [501]),
        (lambda _: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [404]),
        (lambda _: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), [400]),
    ],
    ids=["1.0", "1.0 without host", "1.1 without host", "pipelined", "expects", "expects and may not", "upgrade",
         "HEAD", "OPTIONS", "gzip", "HTTP/2", "TLS"],
)  # fmt: skip
def test_each_kind_of_request_has_its_answer(
    open_web: Open, make: Callable[[bytes], bytes], statuses: list[int]
) -> None:
    web = open_web()

    assert [status for status, _ in ask(web, make(body(part10(a_ct(1)))), len(statuses))] == statuses


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda good: b"This is a multi-part message in MIME format.\r\n" + good, 200),
        (lambda good: b"\r\nlooks like --edge, is none\r\n\r\n" + good, 200),
        (lambda good: b"-" * 60_000 + b"\r\n" + good, 200),
        (lambda good: b"-" * 70_000 + b"\r\n" + good, 400),
        (lambda good: good + b"and --edge\r\nsome more", 200),
        (lambda good: good.replace(b"Content-Type: application/dicom\r\n", b""), 200),
        (lambda good: good.replace(b"Content-Type: ", b"content-TYPE:\t"), 200),
        (lambda good: b"--edge\r\nContent-Type: application/dicom+json\r\n\r\n[]\r\n" + good, 202),
        (lambda good: good.replace(b"\r\n", b"\n"), 400),
    ],
    ids=["preamble", "preamble that looks like a boundary", "long preamble", "endless preamble", "epilogue",
         "no headers", "tab", "JSON part", "LF alone"],
)  # fmt: skip
def test_a_body_may_have_what_rfc_2046_allows_around_its_parts(
    open_web: Open, change: Callable[[bytes], bytes], status: int
) -> None:
    web, dataset = open_web(), a_ct(1)
    raw = change(body(part10(dataset)))
    statuses = {web.post(raw).status_code, web.post(raw[i : i + 7] for i in range(0, len(raw), 7)).status_code}

    assert statuses == {status}
    assert web.names() == ({str(dataset.SOPInstanceUID)} if status < 300 else set())


@pytest.mark.parametrize("accept", ["application/dicom+xml", "application/dicom+json"])
@pytest.mark.parametrize("instead", [b"1.2\x013", b"DOE^JANE", b"1.2\\1.3", b""])
def test_what_is_no_uid_is_not_repeated_in_an_answer_nor_noted(open_web: Open, instead: bytes, accept: str) -> None:
    web = open_web()
    raw = part10(a_ct(1))
    uid = str(a_ct(1).SOPInstanceUID).encode()
    answer = web.post(body(raw.replace(uid, instead.ljust(len(uid), b"\0"))), Accept=accept)
    why = refusals(web.receiver, "object refused")

    assert answer.status_code == 409
    if accept.endswith("xml"):
        said = [element.get("keyword") for element in ElementTree.fromstring(answer.content)]
    else:
        said = [element.keyword for element in Dataset.from_json(json.loads(answer.content))]
    assert said == ["RetrieveURL", "OtherFailuresSequence"]
    assert why == ["0xC000 a part is no DICOM file (PS3.10 7.1)"]
    assert b"DOE" not in answer.content


def test_each_part_that_is_refused_is_counted_and_noted(open_web: Open) -> None:
    web = open_web()
    answer = web.post(body(part10(a_ct(1)), b"no DICOM at all" * 100, b""), "/1.2.3.4.5")

    assert answer.status_code == 409
    assert web.receiver.desk.counters.refused == {"A900": 1, "C000": 2}
    assert len(refusals(web.receiver, "object refused")) == 3
    assert web.names() == set()


def test_a_disk_that_runs_full_in_the_middle_asks_for_another_try_where_nothing_was_stored(open_web: Open) -> None:
    web = open_web()
    small, large = part10(a_ct(1)), part10(pixels(source(number=2), np.zeros((1024, 1024), np.int16)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        some, none = web.post(body(small, large)), web.post(body(large))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert (some.status_code, failures(some)) == (202, [0xA700])
    assert (none.status_code, failures(none), none.headers["Retry-After"]) == (503, [0xA700], "60")
    assert web.names() == {str(a_ct(1).SOPInstanceUID)}


def test_a_quota_that_is_used_up_asks_for_another_try(open_web: Open) -> None:
    web = open_web(peers=[{"ae_title": "VIEWER", "quota_gb_per_day": 0.00001}])
    statuses = [web.post(body(part10(a_ct(number)))).status_code for number in (1, 2, 3)]

    assert statuses == [200, 200, 503]


def test_a_token_is_in_no_log_line(open_web: Open, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    web = open_web()
    good = body(part10(a_ct(1)))
    for raw in (post(good), post(b"x" + good), post(good)[:-40] + b"\r\n", post(good, more="\xff: \r\n")):
        ask(web, raw) if raw.endswith(b"--\r\n") else cut_off(web, raw)
    for scheme in ("Basic ", "Bearer x", ""):
        web.post(good, Authorization=scheme + TOKEN)
    told = caplog.text + str(refusals(web.receiver, "connection refused"))

    assert TOKEN not in told
    assert "STOW-RS without a token" in told


def cut_off(web: Web, raw: bytes) -> None:
    with connected(web) as link:
        link.sendall(raw)
        link.shutdown(socket.SHUT_WR)
        while link.recv(65536):
            pass


def test_a_chunk_whose_head_trickles_in_does_not_hold_a_place(open_web: Open) -> None:
    web = open_web(maximum_requests=1, stall_seconds=1.0)
    began, ended = time.monotonic(), False
    with connected(web) as link:
        link.sendall(b"POST /studies HTTP/1.1\r\n" + HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\n5;a=")
        while not ended and time.monotonic() < began + 20:
            try:
                link.sendall(b"b")
            except OSError:
                break
            ended = ends_within(link, 0.1)

    assert time.monotonic() - began < 15
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            assert web.post(body(part10(a_ct(1)))).status_code == 200
            return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise AssertionError("its place is still held")


@pytest.mark.parametrize("bind", ["::", "::1", "127.0.0.1", "localhost"])
def test_an_address_of_either_family_is_listened_on(open_web: Open, bind: str) -> None:
    web = open_web()
    config = NodeConfig.model_validate({"node": {"bind": bind}, "stow": {"port": 0, "clear": True}})
    stow = Stow(config, web.receiver.desk, web.receiver.incoming, web.receiver.feed.tell)
    stow.start()
    for host in ["::1", "127.0.0.1"] if bind == "::" else [bind]:
        socket.create_connection((host, stow.port or 0), 10).close()
    stow.stop()


def test_a_stranger_who_knocks_by_tls_is_noted(open_web: Open, authority: Authority) -> None:
    files = Files(certificate=authority.issue("node"), key=None, trusted=authority.trusted)
    web = open_web(tls=files)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody
    with connected(web) as link, pytest.raises(ssl.SSLError):
        context.wrap_socket(link, server_hostname="127.0.0.1")
    until = time.monotonic() + 10
    while not web.receiver.desk.counters.turned_away and time.monotonic() < until:
        time.sleep(0.02)

    assert web.receiver.desk.counters.turned_away == {"connection refused": 1}
    assert "no TLS connection" in refusals(web.receiver, "connection refused")[0]
