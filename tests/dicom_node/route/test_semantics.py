"""The meaning of rules, case by case, and that no header can break it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.route.rules import RoutingRule, evaluate
from dicom_node.route.verdict import Verdict
from storage.facts.study import SLICE_KEYWORDS
from tests.dicom_node.route.making import facts, verdict

T, F, U = Verdict.TRUE, Verdict.FALSE, Verdict.UNKNOWN

HEADER: dict[str, Any] = {
    "Modality": "CT",
    "SliceThickness": 1.25,
    "Rows": 512,
    "SeriesNumber": "3",  # an IS that was kept as text
    "KVP": "high",  # a DS that is no number
    "BodyPartExamined": "",
    "StationName": " CT-1 ",
    "SeriesDescription": "Thorax 1.0 Br64",
    "ImageType": ["ORIGINAL", "PRIMARY", "", "AXIAL"],
    "WindowWidth": [400.0, 1500.0],
    "PixelSpacing": ["0.7", "x"],
    "StudyDate": "20260131",
    "SeriesDate": "soon",
    "AcquisitionDateTime": "20260131130500.25+0100",
    "StudyTime": "1305",
    "SeriesTime": "130559.999",
    "ProtocolName": 5,  # a number where text belongs
    "RequestAttributesSequence": [{"RequestedProcedureID": "A"}, {"RequestedProcedureID": "B", "Rows": 2}, {}],
    "00190011": "ACME 1.1",
    "0019110A": "7",
    "0019100A": 9,
    "0019100B": "word",
    "SharedFunctionalGroupsSequence": [{"MREchoSequence": [{"EffectiveEchoTime": 2.5}]}],
}

CASES = [
    # missing and empty
    ('Manufacturer == "GE"', U), ('Manufacturer != "GE"', U), ('!(Manufacturer == "GE")', U), ("KVP > 1", U),
    ('BodyPartExamined == "CHEST"', U), ('BodyPartExamined != "CHEST"', U), ("has(BodyPartExamined)", F),
    ("has(Modality)", T), ("!has(Manufacturer)", T), ("has(KVP)", T), ("size(Manufacturer) == 0", T),
    # Kleene
    ('Manufacturer == "GE" && Modality == "MR"', F), ('Manufacturer == "GE" && Modality == "CT"', U),
    ('Manufacturer == "GE" || Modality == "CT"', T), ('Manufacturer == "GE" || Modality == "MR"', U),
    ('!(Manufacturer == "GE" || Modality == "CT")', F), ("true", T), ("false", F), ("!false", T),
    # text
    ('Modality == "CT"', T), ('Modality == "ct"', T), ('Modality != "CT"', F), ('StationName == "CT-1"', T),
    ('StationName == "ct-1"', F), ('SeriesDescription.contains("Br64")', T), ('SeriesDescription.contains("br64")', F),
    ('SeriesDescription.startsWith("Thorax")', T), ('SeriesDescription.endsWith("x")', F),
    ('SeriesDescription.matches(r"(?i)^thorax\\s")', T), ('SeriesDescription.matches("b.d")', F),
    ('Modality.startsWith("c")', T), ('Manufacturer.contains("GE")', U), ('ProtocolName == "5"', U),
    ("'it\\'s' == StationName", F),
    # numbers
    ("SliceThickness <= 1.25", T), ("SliceThickness < 1.25", F), ("1 < SliceThickness", T), ("Rows == 512", T),
    ("SliceThickness in [1, 1.25]", T), ("SeriesNumber == 3", T), ("SeriesNumber >= -2.5e1", T), ("KVP == 120", U),
    ("KVP != 120", U), ("Rows < 512 || Rows > 512", F),
    # several values
    ('ImageType == "PRIMARY"', T), ('ImageType != "PRIMARY"', F), ('ImageType != "DERIVED"', T),
    ('"AXIAL" in ImageType', T), ('ImageType in ["X", "AXIAL"]', T), ('!(ImageType in ["X", "Y"])', T),
    ('ImageType[0] == "ORIGINAL"', T), ('ImageType[1] == "ORIGINAL"', F), ('ImageType[2] == "AXIAL"', U),
    ('ImageType[9] == "AXIAL"', U), ("size(ImageType) == 3", T), ("WindowWidth > 1000", T), ("WindowWidth < 1000", T),
    ("!(WindowWidth > 2000)", T), ("WindowWidth[0] > 1000", F), ("PixelSpacing == 0.7", T), ("PixelSpacing == 0.8", U),
    ("Rows in WindowWidth", F), ("WindowWidth >= Rows", T),
    # dates and times
    ('StudyDate == date("2026-01-31")', T), ('StudyDate > date("2026-01-31")', F),
    ('StudyDate > date("2025-12-31")', T),
    ('SeriesDate > date("2025-12-31")', U), ('AcquisitionDateTime == date("2026-01-31")', T),
    ('StudyTime == time("13:05")', T), ('SeriesTime == time("13:05:59")', T), ('StudyTime < time("13:04:59")', F),
    ("StudyDate == SeriesDate", U), ("StudyDate == StudyDate", T),
    # sequences
    ('RequestAttributesSequence.RequestedProcedureID == "B"', T),
    ('RequestAttributesSequence.RequestedProcedureID != "B"', F),
    ('RequestAttributesSequence[0].RequestedProcedureID == "B"', F),
    ('RequestAttributesSequence[2].RequestedProcedureID == "B"', U), ("RequestAttributesSequence[1].Rows == 2", T),
    ("size(RequestAttributesSequence) == 3", T), ("has(RequestAttributesSequence)", T),
    ("has(RequestAttributesSequence.Columns)", F), ("has(ReferencedImageSequence)", F), ("EffectiveEchoTime < 3", T),
    # private
    ('tag("0019,100A") == 9', T), ('tag("0019,100A") == "9"', T), ('tag("0019,100A", "ACME 1.1") == 7', T),
    ('tag("0019,100a", "ACME 1.1") == "7"', T), ('tag("0019,100A", "OTHER") == 7', U), ('tag("0019,100B") > 3', U),
    ('tag("0019,100B").contains("or")', T), ('tag("0028,0010") == 512', T), ('has(tag("0019,100C"))', F),
    # derived
    ("number_of_instances == 1", T), ("is_image", U), ("!is_image", U), ("is_localizer == false", T),
    ('calling_ae == "CT1"', T), ("slice_spacing_mm < 2", U), ("has(slice_spacing_mm)", F), ("is_derived != true", T),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_a_rule_means_what_the_page_says(text: str, expected: Verdict) -> None:
    assert verdict(text, HEADER) is expected


_RULES = [RoutingRule(name=str(number), when=text, package="p") for number, (text, _) in enumerate(CASES)]
_ODD = [
    RoutingRule(name="odd1", when='StudyDate > date("2026-01-01") || PixelSpacing[1] < 2', package="p"),
    RoutingRule(name="odd2", when='mr_sequence == "T1" && kernel_class == "soft" && contrast == "no"', package="p"),
    RoutingRule(
        name="odd3", when="RequestAttributesSequence.RequestedProcedureCodeSequence.CodeValue == '1'", package="p"
    ),
]
_KEYS = st.sampled_from(
    [
        *HEADER, *SLICE_KEYWORDS, "PatientName", "PatientAge", "PatientBirthDate",
        "SOPClassUID",
        "ScanningSequence", "RepetitionTime", "EchoTime",
        "InversionTime", "ConvolutionKernel", "ContrastBolusAgent", "PerFrameFunctionalGroupsSequence",
        "DerivationCodeSequence", "GantryDetectorTilt", "BitsStored", "PlanePositionSequence", "_skipped",
    ]
)  # fmt: skip
_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(10**400), 10**400), st.floats(), st.text(max_size=12),
    st.sampled_from(["CT", "MR", "045Y", "20260131", "1.2.840.10008.5.1.4.1.1.2", "ORIGINAL", "LOCALIZER", "B30f"]),
)  # fmt: skip
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(_KEYS, inner, max_size=4)),
    max_leaves=12,
)
_HEADERS = st.dictionaries(_KEYS, _VALUES, max_size=20)


@settings(max_examples=150, deadline=None)
@given(_HEADERS, st.lists(_HEADERS, max_size=4))
def test_no_header_can_make_evaluation_raise(header: dict[str, Any], slices: list[dict[str, Any]]) -> None:
    decisions = evaluate([*_RULES, *_ODD], facts(header, slices))

    assert len(decisions) == len(_RULES) + len(_ODD)
    assert all(decision.verdict in (T, F, U) and decision.why for decision in decisions)


@settings(max_examples=60, deadline=None)
@given(_HEADERS)
def test_a_rule_about_an_absent_attribute_never_matches(header: dict[str, Any]) -> None:
    header.pop("Manufacturer", None)

    for text in ('Manufacturer == "A"', 'Manufacturer != "A"', '!Manufacturer.contains("A")', 'Manufacturer in ["A"]'):
        assert verdict(text, header) is U


def test_a_large_header_is_evaluated_in_bounded_time() -> None:
    wide = {
        "RequestAttributesSequence": [{"RequestedProcedureID": "x" * 1000}] * 100_000,
        "WindowWidth": [1.0] * 100_000,
    }

    assert verdict('RequestAttributesSequence.RequestedProcedureID.matches(r"(x+x+)+y")', wide) is F
    assert verdict("WindowWidth == WindowCenter || WindowWidth > WindowWidth", wide) is U
    assert verdict("WindowWidth > WindowWidth", wide) is F
