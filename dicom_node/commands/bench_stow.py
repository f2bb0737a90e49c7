"""STOW-RS in a benchmark: the node with its web door open, and a sender of the same files over HTTP."""

from __future__ import annotations

import hashlib
import http.client
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dicom_node.commands.bench_parties import NODE, Party, entered, shares
from dicom_node.deliver.destination import Destination, Outgoing
from storage.facts.errors import Misconfigured

TOKEN = "benchmark"
_BOUNDARY = "benchmark-of-the-node"
_PART = f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
_END = f"--{_BOUNDARY}--\r\n".encode()
_HEADERS = {
    "Authorization": f"Bearer {TOKEN}",
    "Content-Type": f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}',
    "Accept": "application/dicom+json",
}
_ANSWER_SECONDS = 600.0
SUFFIX = ", by STOW-RS"  #: of a receiver's name


def party(durability: str, name: str, port: int) -> Party:
    """The node that also takes STOW-RS, in the clear as its C-STORE is, on that port."""

    digest = hashlib.sha256(TOKEN.encode()).hexdigest()

    def command(folder: Path, dimse_port: int) -> list[str]:
        return [sys.executable, "-c", NODE, str(folder), str(dimse_port), durability, str(port), digest]

    return Party(name=f"{name}{SUFFIX}", command=command, settled=entered)


def send_by_stow(files: Sequence[Outgoing], to: Destination, associations: int, port: int) -> None:
    """One request a connection, the files as its parts, from disk to socket. Raises Misconfigured."""
    with ThreadPoolExecutor(associations) as pool:
        answers = list(pool.map(lambda share: _post(share, to.host, port), shares(files, associations)))
    if set(answers) != {200}:
        raise Misconfigured(f"{to.name} did not take every object: HTTP {max(answers)}")


def _post(files: Sequence[Outgoing], host: str, port: int) -> int:
    length = len(_END) + sum(len(_PART) + file.path.stat().st_size + 2 for file in files)
    link = http.client.HTTPConnection(host, port, timeout=_ANSWER_SECONDS)
    try:
        link.putrequest("POST", "/studies")
        for name, value in (_HEADERS | {"Content-Length": str(length)}).items():
            link.putheader(name, value)
        link.endheaders()
        for file in files:
            link.send(_PART)
            with file.path.open("rb") as source:
                link.sock.sendfile(source)
            link.send(b"\r\n")
        link.send(_END)
        answer = link.getresponse()
        answer.read()
        return answer.status
    except (OSError, http.client.HTTPException) as error:
        raise Misconfigured(f"the node cannot be stored to by STOW-RS ({type(error).__name__})") from error
    finally:
        link.close()
