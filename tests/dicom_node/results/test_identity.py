"""Names are the same for the same thing, and never for another."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydicom.uid import UID

from dicom_node.results.identity import Naming, NodeIdentity, series_description, uid
from tests import builders
from tests.dicom_node.results.making import NODE


def naming(**changes: object) -> Naming:
    given = {"prediction": builders.prediction(builders.slices(3)), "node": NODE, "made_at": builders.MADE_AT}
    return Naming(**(given | changes))  # type: ignore[arg-type]


def test_uids_follow_from_names_alone_and_are_valid() -> None:
    assert uid("a", "b") == uid("a", "b") == "2.25.183459490787341121424901842359437546548"
    assert uid("a", "b") != uid("ab")
    for one in (naming().uid("sr"), naming().device_uid, naming().tracking_uid(1)):
        assert UID(one).is_valid
        assert one.startswith("2.25.")


def test_another_run_package_node_time_kind_or_index_gives_another_uid() -> None:
    first = naming()
    prediction = first.prediction
    others = [
        naming(prediction=replace(prediction, key="other")),
        naming(prediction=replace(prediction, algorithm=builders.algorithm(digest="cd" * 32))),
        naming(node=NodeIdentity(serial_number="NODE-2", software_version="0.1.0")),
        naming(made_at=builders.MADE_AT + timedelta(microseconds=1)),
    ]
    uids = [first.uid("sr"), first.uid("seg"), first.uid("sr", 1), *(other.uid("sr") for other in others)]
    assert len(set(uids)) == len(uids)


def test_the_same_moment_gives_the_same_uid_in_every_time_zone() -> None:
    there = datetime(2026, 11, 21, 9, 0, tzinfo=timezone(timedelta(hours=1)))
    assert naming(made_at=there).uid("sr") == naming(made_at=there.astimezone(UTC)).uid("sr")


def test_the_device_observer_is_the_same_for_every_version_and_run_of_a_package() -> None:
    first = naming()
    newer = replace(first.prediction, key="other", algorithm=builders.algorithm(version="2.0.0", digest="ef" * 32))
    assert naming(prediction=newer).device_uid == first.device_uid


@pytest.mark.parametrize("length", [5, 60, 200])
def test_the_series_description_fits_and_always_says_what_it_is_not_for(length: int) -> None:
    text = series_description(builders.algorithm(package="p" * length))
    assert text.startswith("AI p")
    assert text.endswith("(research, not for diagnosis)")
    assert len(text) <= 64


def test_a_product_is_described_without_the_caution() -> None:
    assert series_description(builders.algorithm(research=False)) == "AI ct-test-lung 1.2.0"
