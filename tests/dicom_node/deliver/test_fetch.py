"""What lacks of a series is fetched by its objects where these are few, else as the whole series."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.transport import ThreadedAssociationServer

from dicom_node.deliver import retrieval
from dicom_node.deliver.retrieval import fetch, move
from dicom_node.deliver.study_root import FIND, MOVE
from dicom_node.demo.pacs import StandInPacs
from storage.facts.errors import Rejected, Transient
from tests.dicom_node.deliver.making import free_port, outgoing, to

CT = "1.2.840.10008.5.1.4.1.1.2"


class Archive:
    """A PACS with one series, which moves what it is asked to, and remembers how it was asked."""

    def __init__(self, objects: Sequence[Dataset], node_port: int) -> None:
        self.objects, self.node_port = objects, node_port
        self.port = free_port()
        self.moves: list[tuple[str, int]] = []  #: level, UIDs named
        self.tells_objects = self.moves_objects = True
        self.moves_at_most = 1000

    @property
    def study(self) -> str:
        return str(self.objects[0].StudyInstanceUID)

    @property
    def series(self) -> str:
        return str(self.objects[0].SeriesInstanceUID)

    def uids(self, *numbers: int) -> list[str]:
        return [str(self.objects[n].SOPInstanceUID) for n in numbers]

    def fetch(self, here: list[str]) -> tuple[int, int]:
        return fetch(to(self.port), self.study, self.series, here, partial(move, to(self.port), "NODE"))

    def find(self, event: Event) -> Iterator[tuple[int, Dataset | None]]:
        if event.identifier.QueryRetrieveLevel == "IMAGE" and not self.tells_objects:
            yield 0xA900, None
            return
        for one in self.objects:
            answer = Dataset()
            answer.SOPInstanceUID = one.SOPInstanceUID
            yield 0xFF00, answer

    def move(self, event: Event) -> Iterator[object]:
        wanted = event.identifier.get("SOPInstanceUID") or []
        wanted = [wanted] if isinstance(wanted, str) else list(wanted)
        self.moves.append((event.identifier.QueryRetrieveLevel, len(wanted)))
        if event.move_destination != "NODE":
            yield None, None  # a destination that is not known
            return
        yield "127.0.0.1", self.node_port
        if wanted and not self.moves_objects:
            yield 1
            yield 0xA900, None
            return
        chosen = [one for one in self.objects if not wanted or one.SOPInstanceUID in wanted[: self.moves_at_most]]
        yield len(chosen)
        for one in chosen:
            yield 0xFF00, one

    @contextmanager
    def listening(self) -> Iterator[Archive]:
        ae = AE(ae_title="PACS")
        ae.add_supported_context(FIND)
        ae.add_supported_context(MOVE)
        ae.add_requested_context(CT)
        server = ae.start_server(
            ("127.0.0.1", self.port),
            block=False,
            evt_handlers=[(evt.EVT_C_FIND, self.find), (evt.EVT_C_MOVE, self.move)],
        )
        assert isinstance(server, ThreadedAssociationServer)
        try:
            yield self
        finally:
            server.shutdown()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[StandInPacs]:
    """Whatever is moved comes here."""
    with StandInPacs(tmp_path / "node") as node:
        yield node


@pytest.fixture
def archive(node: StandInPacs, tmp_path: Path) -> Iterator[Archive]:
    """It has ten objects of a series."""
    objects = [pydicom.dcmread(outgoing(tmp_path, 2 * n).path) for n in range(10)]
    with Archive(objects, node.port).listening() as archive:
        yield archive


def came(node: StandInPacs, number: int) -> set[str]:
    until = time.monotonic() + 5
    while len(node.objects()) < number and time.monotonic() < until:
        time.sleep(0.01)
    return {one.sop_instance_uid for one in node.objects()}


def test_a_few_objects_that_lack_are_asked_for_by_their_uids(archive: Archive, node: StandInPacs) -> None:
    sent = archive.fetch(archive.uids(0, 1, 2, 3, 5, 6, 8, 9))

    assert sent == (2, 0)
    assert archive.moves == [("IMAGE", 2)]
    assert came(node, 2) == set(archive.uids(4, 7))


@pytest.mark.parametrize("here", [0, 5], ids=["nothing", "half"])
def test_a_series_of_which_half_lacks_is_asked_for_as_a_whole(archive: Archive, node: StandInPacs, here: int) -> None:
    sent = archive.fetch(archive.uids(*range(here)))

    assert sent == (10, 0)
    assert archive.moves == [("SERIES", 0)]
    assert len(came(node, 10)) == 10


def test_more_objects_than_a_request_takes_are_asked_for_as_a_series(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval, "MOST_OBJECTS", 1)
    archive.fetch(archive.uids(*range(8)))

    assert archive.moves == [("SERIES", 0)]


def test_a_pacs_that_does_not_list_objects_sends_the_series(archive: Archive) -> None:
    archive.tells_objects = False

    assert archive.fetch(archive.uids(*range(8))) == (10, 0)
    assert archive.moves == [("SERIES", 0)]


def test_a_pacs_that_does_not_move_objects_sends_the_series(archive: Archive, node: StandInPacs) -> None:
    archive.moves_objects = False

    assert archive.fetch(archive.uids(*range(8))) == (10, 0)
    assert archive.moves == [("IMAGE", 2), ("SERIES", 0)]
    assert len(came(node, 10)) == 10


def test_a_pacs_that_moves_only_the_first_of_a_list_sends_the_series(archive: Archive, node: StandInPacs) -> None:
    archive.moves_at_most = 1

    assert archive.fetch(archive.uids(*range(8))) == (10, 0)
    assert archive.moves == [("IMAGE", 2), ("SERIES", 0)]
    assert len(came(node, 10)) == 10


def test_a_pacs_that_is_down_or_does_not_know_the_node_is_said_so(archive: Archive) -> None:
    away, there = to(free_port()), to(archive.port)
    with pytest.raises(Transient, match="nothing listens there"):
        fetch(away, archive.study, archive.series, archive.uids(0), partial(move, away, "NODE"))
    with pytest.raises(Rejected, match="add it there as a C-MOVE target"):
        fetch(there, archive.study, archive.series, archive.uids(*range(8)), partial(move, there, "OTHER"))
