"""A receiver on a free port of 127.0.0.1, without the stages behind it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import UID
from pynetdicom import AE
from pynetdicom.association import Association

from dicom_node.config import NodeConfig
from dicom_node.receive.assembly import expect
from dicom_node.receive.completeness import AskTheSource, QuietTime
from dicom_node.receive.feed import Feed, serve
from dicom_node.receive.index import Index
from dicom_node.receive.intake import FrontDesk
from dicom_node.receive.landing import Incoming
from dicom_node.receive.scp import Scp
from storage.facts.study import Instance
from storage.ledger import Ledger

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
VERIFICATION = "1.2.840.10008.1.1"


@dataclass
class Receiver:
    """What a test may look at."""

    scp: Scp
    feed: Feed
    index: Index
    incoming: Incoming
    desk: FrontDesk
    ledger: Ledger
    data: Path

    def settle(self) -> None:
        """Wait until everything acknowledged is in the ledger."""
        self.feed.stop()

    def instances(self, series_uid: str) -> list[Instance]:
        """What the ledger knows of a series."""
        with self.ledger.begin_reading() as tx:
            return tx.studies.instances(series_uid)

    def associate(self, *, calling: str = "PACS", called: str = "DICOM_NODE", max_pdu: int = 16382) -> Association:
        """Ask for an association with contexts for CT, MR and C-ECHO."""
        ae = AE(ae_title=calling)
        ae.dimse_timeout = ae.acse_timeout = 10
        for uid in (CT, MR):
            for syntax in ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.4.70"):
                ae.add_requested_context(uid, UID(syntax))
        ae.add_requested_context(VERIFICATION)
        return ae.associate("127.0.0.1", self.scp.port, ae_title=called, max_pdu=max_pdu)


MakeReceiver = Callable[..., Receiver]


def listen(feed: Feed, index: Index) -> threading.Thread:
    """The index's end of the link, in a thread of the test instead of a process."""
    link = feed.connect()

    def run() -> None:
        with link:
            serve(link, index.take)

    thread = threading.Thread(target=run, name="index", daemon=True)
    thread.start()
    return thread


@pytest.fixture
def make_receiver(tmp_path: Path) -> Iterator[MakeReceiver]:
    """Starts receivers with the settings given."""
    made: list[Receiver] = []

    def make(
        *, streaming: bool = True, tls: dict[str, Any] | None = None, titles: Sequence[str] = (), **receive: Any
    ) -> Receiver:
        data = tmp_path / "data"
        settings = {"peers": [{"ae_title": "PACS"}], "refuse_below_mb": 1, **receive}
        node = {"port": 0, "bind": "127.0.0.1", "data": str(data), "further_titles": tuple(titles)}
        config = NodeConfig.model_validate({"node": node, "receive": settings, "tls": tls or {}})
        ledger = Ledger(data)
        policy = AskTheSource(quiet=QuietTime(settings=config.receive), askable=frozenset())
        feed, index = Feed(), Index(ledger, expect(policy))
        incoming = Incoming(data, durable=True, refuse_below=config.receive.refuse_below_mb * 2**20)
        desk = FrontDesk(incoming, feed)
        scp = Scp(config, desk, feed, lambda _kind, _information: 0, streaming=streaming)
        feed.start()
        listen(feed, index)
        scp.start()
        made.append(Receiver(scp=scp, feed=feed, index=index, incoming=incoming, desk=desk, ledger=ledger, data=data))
        return made[-1]

    yield make
    for receiver in made:
        receiver.scp.stop()
        receiver.feed.stop()
        receiver.ledger.close()


@pytest.fixture(params=[True, False], ids=["streaming", "plain"])
def receiver(request: pytest.FixtureRequest, make_receiver: MakeReceiver) -> Receiver:
    """A receiver by either path: the guarantees are the same."""
    return make_receiver(streaming=request.param)
