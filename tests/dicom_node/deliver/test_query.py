"""What a PACS has, asked by C-FIND and C-MOVE."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.deliver.dimse import send
from dicom_node.deliver.query import counts, retrieve
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
        retrieve(to(pacs.port), "1.2.3", "1.2.3.4", "NODE")


def test_a_pacs_that_is_down_can_be_asked_later() -> None:
    with pytest.raises(Transient, match="nothing listens there"):
        counts(to(free_port()), "1.2.3")
