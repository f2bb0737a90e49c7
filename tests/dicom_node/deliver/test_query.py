"""What a PACS has, asked by C-FIND and C-MOVE."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.events import Event
from pynetdicom.transport import ThreadedAssociationServer

from dicom_node.deliver.dimse import send
from dicom_node.deliver.query import counts
from dicom_node.deliver.retrieval import move
from dicom_node.deliver.study_root import FIND
from dicom_node.demo.pacs import StandInPacs
from storage.facts.errors import Rejected, Transient
from tests.dicom_node.deliver.making import free_port, outgoing, to


def test_a_pacs_tells_how_many_objects_it_has_of_each_series(tmp_path: Path) -> None:
    files = [outgoing(tmp_path, n, pixels=64) for n in range(3)]
    with StandInPacs(tmp_path / "pacs") as pacs:
        send(files, to(pacs.port))
        studies = {s.study_uid for s in pacs.objects()}
        found: dict[str, int] = {}
        for study in studies:
            found.update(counts(to(pacs.port), study))
        nothing = counts(to(pacs.port), "1.2.3.4.5.6")

        assert sum(found.values()) == 3
        assert set(found) == {s.series_uid for s in pacs.objects()}
    assert nothing == {}


def test_a_pacs_that_offers_no_retrieval_is_said_so(tmp_path: Path) -> None:
    with StandInPacs(tmp_path / "pacs") as pacs, pytest.raises(Rejected, match="does not offer C-MOVE"):
        move(to(pacs.port), "NODE", "1.2.3", "1.2.3.4")


def test_a_pacs_that_is_down_can_be_asked_later() -> None:
    with pytest.raises(Transient, match="nothing listens there"):
        counts(to(free_port()), "1.2.3")


class Talker:
    """A PACS that gives prepared answers, and of each series that it counts 2 objects."""

    def __init__(self, *series: Dataset) -> None:
        self.series = series

    def find(self, event: Event) -> Iterator[tuple[int, Dataset]]:
        if event.identifier.QueryRetrieveLevel == "SERIES":
            yield from ((0xFF00, answer) for answer in self.series)
            return
        for number in range(2):
            one = Dataset()
            one.SOPInstanceUID = f"1.2.3.9.{number}"
            yield 0xFF00, one

    @contextmanager
    def listening(self) -> Iterator[int]:
        port, ae = free_port(), AE(ae_title="PACS")
        ae.add_supported_context(FIND, ImplicitVRLittleEndian)
        server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_FIND, self.find)])
        assert isinstance(server, ThreadedAssociationServer)
        try:
            yield port
        finally:
            server.shutdown()


def listed(series: str, number: str | None, study: str = "1.2.3") -> Dataset:
    answer = Dataset()
    answer.StudyInstanceUID, answer.SeriesInstanceUID, answer.Modality = study, series, "CT"
    if number is not None:
        answer.add_new(0x00201209, "LO", number)  # in implicit VR nobody sees that it is no IS
    return answer


@pytest.mark.parametrize(
    ("number", "objects"),
    [
        ("5 ", 5), (" 5  ", 5), ("0 ", 0), (None, 2), ("", 2), ("-3", 2), ("many", 2), ("5.5 ", 2),
        ("5\\7 ", 2), ("99999999999999999999", 2),
    ],
)  # fmt: skip
def test_a_number_that_is_none_is_counted_and_spoils_no_other(number: str | None, objects: int) -> None:
    with Talker(listed("1.2.3.1", number), listed("1.2.3.2", "4 ")).listening() as port:
        assert counts(to(port), "1.2.3") == {"1.2.3.1": objects, "1.2.3.2": 4}


def test_of_a_series_that_is_listed_twice_the_larger_number_counts_and_other_studies_do_not() -> None:
    talker = Talker(
        listed("1.2.3.1", "10"),
        listed("1.2.3.1", "5 "),
        listed("1.2.3.2", "7 ", study="1.9"),
        listed("1.2.3.3", "1 "),
    )
    with talker.listening() as port:
        assert counts(to(port), "1.2.3") == {"1.2.3.1": 10, "1.2.3.3": 1}
