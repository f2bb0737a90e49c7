"""Private attributes have no type: what differs must not compare as the same, and what is the same must."""

from __future__ import annotations

from typing import Any

import pytest

from dicom_node.route.verdict import Verdict
from tests.dicom_node.route.making import verdict

ONE, TWO = "00191001", "00191002"


@pytest.mark.parametrize(
    ("text", "header", "expected"),
    [
        ('tag("0019,1001") == tag("0019,1002")', {ONE: 1234567.0, TWO: 1234568.0}, Verdict.FALSE),
        ('tag("0019,1001") == tag("0019,1002")', {ONE: 0.12345671, TWO: 0.12345674}, Verdict.FALSE),
        ('tag("0019,1001") == tag("0019,1002")', {ONE: 1234567.0, TWO: 1234567}, Verdict.TRUE),
        ('tag("0019,1001") < tag("0019,1002")', {ONE: 9.0, TWO: 10.0}, Verdict.TRUE),
        ('tag("0019,1001") == "1234567.5"', {ONE: 1234567.5}, Verdict.TRUE),
        ('tag("0019,1001") == "1000000"', {ONE: 1000000.0}, Verdict.TRUE),
        ('tag("0019,1001") == "0.00001"', {ONE: 0.00001}, Verdict.TRUE),
        ('tag("0019,1001").matches("^10$")', {ONE: 10.0}, Verdict.TRUE),
        ('tag("0019,1001") == tag("0019,1002")', {ONE: "10", TWO: 10.0}, Verdict.TRUE),
        ('tag("0019,1001") == tag("0019,1002")', {ONE: ["a", 2.0], TWO: "2"}, Verdict.TRUE),
    ],
)
def test_private_numbers_compare_with_every_digit(text: str, header: dict[str, Any], expected: Verdict) -> None:
    assert verdict(text, header) is expected
