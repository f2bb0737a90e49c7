"""What headers state, and holes in a stack, bear on whether a series is complete, once counts proved to hold."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.config import ReceiveSection
from dicom_node.receive import head
from dicom_node.receive.assembly import Assembly, evidence_of
from dicom_node.receive.completeness import AskTheSource, Judgement, QuietTime, judge
from dicom_node.receive.gaps import LEAST_SERIES
from dicom_node.receive.shape import UNSAID, Shape, holds, kept, shape_of
from storage.facts.arrival import Arrival, Evidence, Tally
from storage.facts.study import Instance, Series, Urgency
from storage.facts.task import Kind, Later, Task
from storage.ledger import Ledger
from storage.stage import Done

SETTINGS = ReceiveSection(quiet_seconds=5, quiet_seconds_open=20, quiet_seconds_broken=15, quiet_seconds_step=120)
SURE, WRONG = Tally(kept=40.0), Tally(kept=30.0, broken=10.0)
AXIAL = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def instances(headers: Sequence[Mapping[str, Any]], series: str = "1.2.3.1") -> list[Instance]:
    return [
        Instance(
            sop_instance_uid=f"{series}.{n}", sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            transfer_syntax_uid="1.2.840.10008.1.2.1", series_uid=series, study_uid="1.2.3",
            path=f"instances/{series}.{n}.dcm", size=10, digest=f"{n:064x}", header=dict(header),
        )
        for n, header in enumerate(headers)
    ]  # fmt: skip


def acquired(number: int, stated: int, acquisition: int = 1, **more: Any) -> list[dict[str, Any]]:
    header = {"ImageType": ["ORIGINAL", "PRIMARY"], "AcquisitionNumber": acquisition, "ImagesInAcquisition": stated}
    return [{**header, **more} for _ in range(number)]


def stack(places: Sequence[float], **more: Any) -> list[dict[str, Any]]:
    return [{"ImageOrientationPatient": AXIAL, "ImagePositionPatient": [1.0, 2.0, z], **more} for z in places]


def timed(numbers: Sequence[int], total: int) -> list[dict[str, Any]]:
    """So many images at each temporal position."""
    return [
        {"NumberOfTemporalPositions": total, "TemporalPositionIdentifier": position}
        for position, images in enumerate(numbers, 1)
        for _ in range(images)
    ]


def parts(numbers: Sequence[int], total: int, uid: str = "1.9") -> list[dict[str, Any]]:
    return [{"ConcatenationUID": uid, "InConcatenationNumber": n, "InConcatenationTotalNumber": total} for n in numbers]


@pytest.mark.parametrize(
    ("headers", "lacking", "whole"),
    [
        (acquired(30, 30), 0, True),
        (acquired(29, 30), 1, False),
        (acquired(31, 30), 0, False),  # two reconstructions in a series, or a lie
        ([*acquired(30, 30, 1), *acquired(10, 30, 2)], 20, False),
        ([*acquired(30, 30, 1), *acquired(30, 30, 2)], 0, False),  # a third may come
        ([*acquired(10, 30, 1), *acquired(20, 30, 2)], 0, True),  # each rotation has a number
        ([*acquired(20, 20, 1), *acquired(30, 40, 2)], 10, False),
        ([*acquired(10, 30), *acquired(5, 40)], 0, False),  # they contradict each other
        (acquired(30, 30, ImageType=["DERIVED", "SECONDARY"]), 0, False),
        ([*acquired(10, 30), {}], 0, False),
        (acquired(1, 60, NumberOfFrames=60), 0, True),
        (acquired(30, 0), 0, False),
        (parts([1, 2, 3], 3), 0, True),
        (parts([1, 3], 3), 1, False),
        (parts([1, 1, 2], 3), 1, False),
        ([*parts([1, 2], 2), *parts([1], 2, "1.10")], 1, False),
        ([], 0, False),
        (stack(range(10)), 0, False),  # a stack never says that nothing lacks
    ],
)
def test_counts_that_headers_state(headers: Sequence[Mapping[str, Any]], lacking: int, whole: bool) -> None:
    shape = shape_of(instances(headers))

    assert (shape.lacking, shape.whole) == (lacking, whole)


@pytest.mark.parametrize(
    ("headers", "holes"),
    [
        (stack([0, 1, 2, 3, 4, 5, 6, 7]), 0),
        (stack([0, 1, 2, 4, 5, 6, 7, 8, 9]), 1),
        (stack([9, 8, 7, 6, 3, 2, 1, 0]), 2),
        (stack([0, 2, 4, 6, 8, 10]), 0),  # every other one: the spacing of what is here
        (stack([0, 1, 2, 3.5, 4.5, 5.5, 6.5]), 0),  # no whole number of spaces
        (stack([0, 1, 2, 10, 12, 19, 30]), 0),  # no stack
        (stack([0, 1, 100]), 0),  # too few
        (stack([0, 1, 2, 3, 4, 100, 101, 102, 103, 104]), 0),  # two slabs
        ([*stack([0, 1, 2, 4, 5, 6, 7, 8, 9], EchoNumbers=1), *stack([0, 1, 2, 3, 4, 5, 6, 8, 9], EchoNumbers=2)], 2),
        (timed([5, 5, 5], 3), 0),
        (timed([5, 5, 4], 3), 1),
        (timed([5, 5], 3), 5),
        ([*timed([5, 5], 3), {}], 0),
    ],
)
def test_places_without_an_image(headers: Sequence[Mapping[str, Any]], holes: int) -> None:
    shape = shape_of(instances(headers))

    assert shape.holes == holes
    assert not shape.whole


def test_a_hole_in_an_oblique_stack_is_found_along_its_normal() -> None:
    turned = [0.8, 0.6, 0.0, 0.0, 0.0, -1.0]
    normal = (-0.6, 0.8, 0.0)
    places = [n * 1.25 for n in range(40) if n not in (17, 18)]
    headers = [
        {"ImageOrientationPatient": turned, "ImagePositionPatient": [10 + normal[i] * at for i in range(3)]}
        for at in places
    ]

    assert shape_of(instances(headers)).holes == 2


KEYWORDS = (
    "ImageType", "AcquisitionNumber", "ImagesInAcquisition", "NumberOfTemporalPositions", "TemporalPositionIdentifier",
    "ConcatenationUID", "InConcatenationNumber", "InConcatenationTotalNumber", "NumberOfFrames", "EchoNumbers",
    "ImagePositionPatient", "ImageOrientationPatient",
)  # fmt: skip
TEXTS = st.sampled_from(("", "ORIGINAL", "1.2", "-3"))
ODD = st.one_of(
    st.none(), st.integers(-5, 9), st.floats(), TEXTS,
    st.lists(st.one_of(st.floats(), st.integers(-3, 3), TEXTS), max_size=6),
)  # fmt: skip


@given(st.lists(st.dictionaries(st.sampled_from(KEYWORDS), ODD), max_size=8))
def test_odd_headers_never_stop_it(headers: list[dict[str, Any]]) -> None:
    shape = shape_of(instances(headers))

    assert (
        0
        <= shape.here
        <= sum(max(h["NumberOfFrames"], 1) if isinstance(h.get("NumberOfFrames"), int) else 1 for h in headers)
    )
    assert shape.stated >= 0
    assert shape.holes >= 0


def test_counts_are_relied_on_when_many_held_and_none_was_broken() -> None:
    assert holds(None) is None
    assert holds(Tally(kept=LEAST_SERIES - 1.0)) is None
    assert holds(Tally(kept=float(LEAST_SERIES))) is True
    assert holds(Tally(kept=float(LEAST_SERIES), broken=1.0)) is False
    assert holds(Tally(kept=999.0, broken=1.0)) is True
    assert kept(UNSAID) is None
    assert kept(Shape(stated=30, here=30, telling=True)) is True
    assert kept(Shape(stated=30, here=29, telling=True)) is False
    assert kept(Shape(stated=60, here=60)) is False, "nobody could have known that no third acquisition comes"


def an_evidence(counts: Tally | None, *, opened: int = 0, here: int = 30) -> Evidence:
    series = Series(
        series_uid="1", study_uid="1", modality="CT", calling_ae="P", called_ae="N", revision=0, instances=here,
        header={},
    )  # fmt: skip
    return Evidence(
        series=series, complete_instances=0, last_at=100.0, open_associations=opened, last_closed_at=100.0,
        last_ending="released", associations=1, gap=0.1, counts=counts,
    )  # fmt: skip


WHOLE, CUT = Shape(stated=30, here=30, telling=True), Shape(stated=40, here=30, telling=True)
HOLED = Shape(holes=2)


@pytest.mark.parametrize(
    ("counts", "shape", "expected", "opened", "at"),
    [
        (SURE, WHOLE, None, 0, 100.0),
        (SURE, WHOLE, 30, 0, 100.0),
        (SURE, WHOLE, None, 1, 100.7),
        (None, WHOLE, None, 0, 105.0),
        (WRONG, WHOLE, None, 0, 105.0),
        (SURE, CUT, None, 0, 220.0),
        (SURE, CUT, 30, 0, 220.0),  # the source, too, has still to get it
        (None, CUT, None, 0, 115.0),
        (None, CUT, 30, 0, 100.3),  # the word of the source is better than a count that nobody knows
        (WRONG, CUT, None, 0, 105.0),
        (None, HOLED, None, 0, 115.0),
        (WRONG, HOLED, 30, 0, 105.0),
        (None, UNSAID, None, 0, 105.0),
    ],
)
def test_how_long_is_waited(counts: Tally | None, shape: Shape, expected: int | None, opened: int, at: float) -> None:
    def look(now: float) -> Judgement:
        return judge(an_evidence(counts, opened=opened), expected, SETTINGS, now, shape)

    assert not look(at - 0.01).complete
    assert look(at - 0.01).again == pytest.approx(at)
    assert look(at + 0.01).complete


def test_what_a_reliable_count_lacks_is_said_to_be_missing() -> None:
    given_up = judge(an_evidence(SURE), None, SETTINGS, 300.0, CUT, asked=False)

    assert (given_up.complete, given_up.missing) == (True, 10)
    assert "40 images" in given_up.why
    assert judge(an_evidence(None), None, SETTINGS, 300.0, CUT, asked=False).missing == 0
    assert judge(an_evidence(SURE), 30, SETTINGS, 300.0, CUT).missing == 0, "the source has no more either"


def test_a_number_that_the_source_has_said_for_long_is_believed_at_once() -> None:
    evidence = an_evidence(None)
    stalled = Evidence(
        series=evidence.series, complete_instances=0, last_at=100.0, open_associations=0, last_closed_at=100.0,
        last_ending="released", associations=2, gap=3.0,
    )  # fmt: skip

    assert not judge(stalled, 30, SETTINGS, 100.1).complete
    assert not judge(stalled, 30, SETTINGS, 100.1, said_since=99.0).complete
    assert judge(stalled, 30, SETTINGS, 100.1, said_since=20.0).complete


def arrive(ledger: Ledger, series: str, headers: Sequence[Mapping[str, Any]], first: int = 0) -> None:
    now = time.time()
    arrivals = [
        Arrival(instance=one, association=None, calling_ae="SCANNER", called_ae="N", received_at=now)
        for one in instances(headers, series)[first:]
    ]
    with ledger.begin("test") as tx:
        tx.studies.record(arrivals)


def look(ledger: Ledger, series: str, quiet: float) -> Done | Later:
    settings = ReceiveSection(quiet_seconds=quiet, quiet_seconds_step=300)
    assembly = Assembly(
        ledger=ledger, completeness=AskTheSource(quiet=QuietTime(settings=settings), askable=frozenset()),
        quiet=QuietTime(settings=settings), sources={}, read_header=lambda _path: {"Modality": "CT"},
    )  # fmt: skip
    task = Task(
        id=1, kind=Kind.ASSEMBLE, key=f"{series}/1", payload={}, urgency=Urgency.ROUTINE, attempt=1, failures=0,
        study_uid="1.2.3", series_uid=series, created_at=time.time(),
    )  # fmt: skip
    result = assembly.work(task)
    if isinstance(result, Done) and result.record is not None:
        with ledger.begin("test") as tx:
            result.record(tx)
    return result


def test_a_scanner_whose_counts_held_is_not_waited_for_and_one_that_broke_them_is(ledger: Ledger) -> None:
    def enhanced(frames: int) -> list[dict[str, Any]]:  # one object: no pauses are learned, counts alone decide
        return acquired(1, 3, NumberOfFrames=frames)

    for number in range(LEAST_SERIES):
        arrive(ledger, f"1.3.{number}", enhanced(3))
        assert isinstance(look(ledger, f"1.3.{number}", quiet=0), Done)

    arrive(ledger, "1.4", enhanced(3))
    time.sleep(0.25)
    whole = look(ledger, "1.4", quiet=60)
    arrive(ledger, "1.5", enhanced(2))
    time.sleep(0.25)
    cut = look(ledger, "1.5", quiet=0)
    with ledger.begin_reading() as tx:
        waiting = evidence_of(tx, "1.5")

    arrive(ledger, "1.4", [*enhanced(3), *enhanced(3)], first=1)  # more than was stated
    time.sleep(0.25)
    assert isinstance(look(ledger, "1.4", quiet=0), Done)
    arrive(ledger, "1.6", enhanced(3))
    time.sleep(0.25)
    doubted = look(ledger, "1.6", quiet=60)

    assert isinstance(whole, Done)
    assert "state 3 images" in str(whole.note)
    assert isinstance(cut, Later)
    assert waiting is not None
    assert cut.at == pytest.approx(waiting.last_at + 300)
    assert isinstance(doubted, Later)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_what_is_stated_is_read_off_the_wire(syntax: UID) -> None:
    dataset = Dataset()
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.AcquisitionNumber, dataset.ImagesInAcquisition, dataset.NumberOfTemporalPositions = 4, 120, 3
    dataset.ConcatenationUID, dataset.InConcatenationNumber, dataset.InConcatenationTotalNumber = "1.9", 2, 7
    written = DicomBytesIO()
    written.is_implicit_VR, written.is_little_endian = syntax.is_implicit_VR, True
    write_dataset(written, dataset)

    found = head.read(written.getvalue(), syntax)

    assert shape_of(instances([found])) == Shape(stated=7, here=1, telling=True)
    del found["ConcatenationUID"]
    assert shape_of(instances([found])) == Shape(stated=120, here=1, telling=True)
    assert found["NumberOfTemporalPositions"] == 3
