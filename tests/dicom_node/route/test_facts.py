"""Derived facts: geometry, acquisition, provenance, each with its evidence."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dicom_node.route.vocabulary import DERIVED
from tests.dicom_node.route.making import (
    AXIAL,
    CORONAL,
    CT,
    MR,
    SAGITTAL,
    SECONDARY_CAPTURE,
    facts,
    stack,
)


def value(name: str, header: dict[str, Any], slices: list[dict[str, Any]] | None = None) -> Any:
    return facts(header, slices).derived[name].value


def test_every_derived_name_of_the_language_is_derived_and_has_evidence() -> None:
    derived = facts({}).derived

    assert set(derived) == set(DERIVED)
    assert all(fact.evidence for fact in derived.values())


def test_a_regular_stack_is_measured() -> None:
    slices = stack([100 - 2.5 * n for n in range(40)])

    assert value("slice_spacing_mm", {}, slices) == 2.5
    assert value("spacing_irregular", {}, slices) == 0.0
    assert value("coverage_mm", {}, slices) == 100.0
    assert value("orientation", {}, slices) == "AXIAL"
    assert value("tilt_degrees", {}, slices) == 0.0
    assert value("number_of_frames", {}, slices) == 40


def test_a_missing_slice_shows_as_irregular_spacing() -> None:
    slices = stack([0, 1, 2, 4, 5, 6])

    assert value("slice_spacing_mm", {}, slices) == 1.0
    assert value("spacing_irregular", {}, slices) == 1.0


def test_repeated_positions_count_once() -> None:
    assert value("slice_spacing_mm", {}, stack([0, 0, 3, 3, 6, 6])) == 3.0


def test_gantry_tilt_is_the_angle_between_normal_and_stack() -> None:
    tilt = math.radians(18.5)
    slices = stack([5.0 * n for n in range(10)], [1, 0, 0, 0, math.cos(tilt), -math.sin(tilt)])

    assert value("tilt_degrees", {}, slices) == 18.5
    assert value("orientation", {}, slices) == "AXIAL"
    assert value("slice_spacing_mm", {}, slices) == round(5.0 * math.cos(tilt), 3)


def test_one_slice_has_the_tilt_that_its_scanner_stated() -> None:
    assert value("tilt_degrees", {"GantryDetectorTilt": -18.5}, stack([0])) == 18.5


@pytest.mark.parametrize(
    ("orientation", "name"),
    [
        (AXIAL, "AXIAL"),
        ([1, 0, 0, 0, -1, 0], "AXIAL"),
        (CORONAL, "CORONAL"),
        (SAGITTAL, "SAGITTAL"),
        ([0, 1, 0, 0.707, 0, -0.707], "OBLIQUE"),
        ([0, 0, 0, 0, 0, 0], None),
        ([1, 0, 0, 1, 0, 0], None),
        ([1, 0, 0], None),
    ],
)
def test_planes_have_their_anatomical_names(orientation: list[float], name: str | None) -> None:
    assert value("orientation", {}, stack([0], orientation)) == name


def enhanced(frames: int, kept: int) -> dict[str, Any]:
    return {
        "NumberOfFrames": frames,
        "SharedFunctionalGroupsSequence": [{"PlaneOrientationSequence": [{"ImageOrientationPatient": SAGITTAL}]}],
        "PerFrameFunctionalGroupsSequence": [
            {"PlanePositionSequence": [{"ImagePositionPatient": [2.0 * n, 0.0, 0.0]}]} for n in range(kept)
        ],
    }


def test_the_frames_of_an_enhanced_object_form_a_stack() -> None:
    assert value("slice_spacing_mm", enhanced(30, 30)) == 2.0
    assert value("coverage_mm", enhanced(30, 30)) == 60.0
    assert value("orientation", enhanced(30, 30)) == "SAGITTAL"
    assert value("number_of_frames", enhanced(30, 30)) == 30


def test_frames_that_were_not_all_kept_are_not_measured() -> None:
    assert value("coverage_mm", enhanced(30, 20)) is None


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        ("STANDARD", "standard"), ("SOFT", "soft"), ("LUNG", "sharp"), ("BONEPLUS", "sharp"), ("STD+", "standard"),
        ("B10f", "soft"), ("B30s", "standard"), (["Br38f", "3"], "standard"), ("B70f", "sharp"), ("Hr60", "sharp"),
        ("FC08", "standard"), ("FC52", "sharp"), ("UB", "standard"), ("C", "sharp"), ("11", None), ("", None),
    ],
)  # fmt: skip
def test_kernels_are_classed_by_the_vendors_naming(kernel: Any, expected: str | None) -> None:
    assert value("kernel_class", {"ConvolutionKernel": kernel}) == expected


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"SeriesDescription": "anat-T1w", "ProtocolName": "anat-T1w"}, "T1"),
        ({"SeriesDescription": "t1_mprage_sag_p2"}, "T1"),
        ({"SeriesDescription": "Ax T2 FLAIR"}, "FLAIR"),
        ({"SeriesDescription": "AX T1 FLAIR"}, "T1"),
        ({"SeriesDescription": "I_t2_tse_sag_p2_384", "ScanningSequence": "SE", "RepetitionTime": 3270.0,
          "EchoTime": 96.0}, "T2"),
        ({"SeriesDescription": "ep2d_diff_mddw_20_p2"}, "DWI"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"], "SeriesDescription": "t1"}, "DWI"),
        ({"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]}, "ADC"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "T1", "NONE"]}, "T1"),
        ({"AcquisitionContrast": "FLUID_ATTENUATED"}, "FLAIR"),
        ({"ScanningSequence": "SE", "RepetitionTime": 500.0, "EchoTime": 12.0}, "T1"),
        ({"ScanningSequence": ["SE", "IR"], "RepetitionTime": 9000.0, "EchoTime": 120.0, "InversionTime": 2500.0},
         "FLAIR"),
        ({"ScanningSequence": ["GR", "IR"], "RepetitionTime": 2300.0, "EchoTime": 3.0, "InversionTime": 900.0}, "T1"),
        ({"ScanningSequence": "SE", "RepetitionTime": 4000.0, "EchoTime": 100.0, "SeriesDescription": "t1 sag"}, None),
        ({"SeriesDescription": "T1/T2 mapping"}, None),
        ({"SeriesDescription": "ABOUT1 THING"}, None),
        ({"ScanningSequence": "GR", "RepetitionTime": 30.0, "EchoTime": 9.0}, None),
        ({}, None),
        ({"Modality": "CT", "SeriesDescription": "T1"}, None),
    ],
)  # fmt: skip
def test_mr_contrast_comes_from_codes_timing_and_words(attributes: dict[str, Any], expected: str | None) -> None:
    assert value("mr_sequence", {"Modality": "MR"} | attributes) == expected


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"ContrastBolusAgent": "ISOVUE300/100"}, "yes"),
        ({"ContrastBolusAgent": "NONE"}, "no"),
        ({"ContrastBolusAgentSequence": [{"CodeValue": "1"}]}, "yes"),
        ({"SeriesDescription": "ROUTINE CHEST NON-CON"}, "no"),
        ({"SeriesDescription": "Thorax mit KM"}, "yes"),
        ({"StudyDescription": "CT CHEST WITHOUT CONTRAST"}, "no"),
        ({"StudyDescription": "CT ABDOMEN WITHOUT CONTRAST AND WITH CONTRAST"}, None),
        ({"SeriesDescription": "arterial", "StudyDescription": "CT LIVER W/O"}, "yes"),
        ({"SeriesDescription": "Lung 1.0"}, None),
    ],
)
def test_contrast_is_said_only_where_the_header_states_it(attributes: dict[str, Any], expected: str | None) -> None:
    assert value("contrast", attributes) == expected


CT_IMAGE = {"Modality": "CT", "SOPClassUID": CT, "KVP": 120.0, "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}
PROVENANCE: list[tuple[str, str, dict[str, Any], bool | None]] = [
    ("a CT", "is_derived", CT_IMAGE, False),
    ("a compressed CT", "is_derived", CT_IMAGE | {"ImageType": ["DERIVED", "PRIMARY", "AXIAL"]}, False),
    ("a converted MR", "is_derived", {"Modality": "MR", "ImageType": ["DERIVED", "SECONDARY"]}, False),
    ("a reformat", "is_derived", CT_IMAGE | {"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED"]}, True),
    ("a projection", "is_derived", CT_IMAGE | {"SeriesDescription": "Lung MIP 8mm"}, True),
    ("an MPRAGE is no MPR", "is_derived", {"Modality": "MR", "SeriesDescription": "mprage"}, False),
    ("a derivation code", "is_derived", CT_IMAGE | {"DerivationCodeSequence": [{"CodeValue": "113072"}]}, True),
    ("lossy compression", "is_derived", CT_IMAGE | {"DerivationCodeSequence": [{"CodeValue": "113040"}]}, False),
    ("a coronal CT", "is_derived", CT_IMAGE | stack([0], CORONAL, 1)[0], True),
    ("a coronal MR", "is_derived", {"Modality": "MR"} | stack([0], CORONAL, 1)[0], False),
    ("a coronal topogram", "is_derived", CT_IMAGE | stack([0], CORONAL)[0] | {"ScanOptions": "SURVIEW"}, False),
    ("labels by modality", "is_label_map", CT_IMAGE | {"Modality": "SEG"}, True),
    ("labels by body part", "is_label_map", CT_IMAGE | {"BodyPartExamined": "SEG"}, True),
    ("labels by words", "is_label_map", CT_IMAGE | {"SeriesDescription": "Vessel segmentation"}, True),
    ("a head mask that was scanned", "is_label_map", CT_IMAGE | {"SeriesDescription": "head with mask"}, False),
    ("a mask that was not", "is_label_map", CT_IMAGE | {"SeriesDescription": "lung mask", "KVP": ""}, True),
    ("8 bits", "is_label_map", CT_IMAGE | {"BitsStored": 8}, True),
    ("12 bits", "is_label_map", CT_IMAGE | {"BitsStored": 12}, False),
    ("a label map is derived", "is_derived", CT_IMAGE | {"Modality": "SEG"}, True),
    ("a localizer by code", "is_localizer", CT_IMAGE | {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, True),
    ("a localizer by word", "is_localizer", {"Modality": "MR", "SeriesDescription": "AAHead_Scout"}, True),
    ("a location is no localizer", "is_localizer", CT_IMAGE | {"SeriesDescription": "location 3"}, False),
    ("a mosaic", "is_mosaic", {"ImageType": ["ORIGINAL", "PRIMARY", "DIFFUSION", "MOSAIC"]}, True),
    ("a capture by code", "is_screen_capture", {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, True),
    ("a dose report", "is_screen_capture", {"SeriesDescription": "Dose Report"}, True),
    ("CT as capture", "is_screen_capture", {"Modality": "CT", "SOPClassUID": SECONDARY_CAPTURE}, True),
    ("CR as capture", "is_screen_capture", {"Modality": "CR", "SOPClassUID": SECONDARY_CAPTURE}, False),
    ("a CT image", "is_image", CT_IMAGE, True),
    ("a multi-frame capture", "is_image", {"SOPClassUID": SECONDARY_CAPTURE + ".2"}, True),
    ("a segmentation", "is_image", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"}, False),
    ("a report", "is_image", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.33"}, False),
    ("a structure set", "is_image", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.3"}, False),
    ("a document", "is_image", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1"}, False),
    ("a private class", "is_image", {"SOPClassUID": "1.2.276.0.19"}, None),
    ("no class", "is_image", {}, None),
    ("a phantom", "is_phantom", {"StudyDescription": "Daily QC"}, True),
    ("a phantom by name", "is_phantom", {"PatientName": "ACR^PHANTOM"}, True),
    ("a patient", "is_phantom", {"PatientName": "Doe^Jane", "StudyDescription": "Aqua jogging"}, False),
    ("a result of ours", "is_from_this_node", {"ManufacturerModelName": "DICOM-Node"}, True),
    ("a UID of ours", "is_from_this_node", {"SOPInstanceUID": "1.2.826.0.1.99.4"}, True),
    ("a UID like ours", "is_from_this_node", {"SOPInstanceUID": "1.2.826.0.1.994.4"}, False),
]


@pytest.mark.parametrize(("case", "name", "header", "expected"), PROVENANCE, ids=[row[0] for row in PROVENANCE])
def test_provenance_is_told_from_the_header(
    case: str, name: str, header: dict[str, Any], expected: bool | None
) -> None:
    assert value(name, header) is expected, case


def test_what_this_node_sends_itself_is_its_own() -> None:
    assert facts({}, calling_ae="DICOM_NODE").derived["is_from_this_node"].value is True


def test_a_few_images_in_different_planes_are_a_localizer() -> None:
    planes = stack([0, 10, 20]) + stack([0, 10, 20], CORONAL, 1) + stack([0, 10, 20], SAGITTAL, 0)

    assert value("is_localizer", {"Modality": "MR", "SOPClassUID": MR}, planes) is True
    assert value("is_localizer", {"Modality": "MR", "SOPClassUID": MR}, stack([0, 10, 20])) is False


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"PatientAge": "045Y"}, 45.0),
        ({"PatientAge": "006M"}, 0.5),
        ({"PatientAge": "old"}, None),
        ({"PatientBirthDate": "19800601", "StudyDate": "20200531"}, 39),
        ({"PatientBirthDate": "18000101", "StudyDate": "20200101"}, None),
        ({"PatientBirthDate": "20300101", "StudyDate": "20200101"}, None),
    ],
)
def test_age_comes_from_what_is_plausible(header: dict[str, Any], expected: float | None) -> None:
    assert value("patient_age_years", header) == expected
