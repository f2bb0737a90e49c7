"""Which series a package refuses, with which code, and in words that name the found and the allowed value."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from pydicom.dataset import Dataset

from inference.imaging.geometry import Geometry
from inference.packages.gates import refuse
from inference.packages.manifest import load_manifest
from inference.packages.store import SHIPPED
from storage.facts.prediction import Reason

LUNG = load_manifest(SHIPPED / "ct-lung-densitometry" / "model.toml")
BRAIN = load_manifest(SHIPPED / "brain-t1" / "model.toml")

CHEST = Geometry(
    orientation="axial",
    frames=300,
    rows=512,
    columns=512,
    pixel_spacing=(0.7, 0.7),
    spacing=1.0,
    thickness=1.25,
    irregularity=0.0,
    largest_gap=1.0,
    drift=0.0,
    tilt=0.0,
    coverage=300.0,
    duplicates=0,
)
HEAD = dataclasses.replace(
    CHEST, orientation="sagittal", frames=176, pixel_spacing=(1.0, 1.0), thickness=1.0, coverage=176
)


def header(**attributes: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def ct(**changes: Any) -> Dataset:
    given = {
        "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "ConvolutionKernel": "STANDARD",
        "RescaleType": "HU",
    }
    return header(**{k: v for k, v in (given | changes).items() if v is not None})


def mr(**changes: Any) -> Dataset:
    given = {"Modality": "MR", "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"], "SeriesDescription": "t1_mprage_sag"}
    return header(**{k: v for k, v in (given | changes).items() if v is not None})


def lung(changes: dict[str, Any], geometry: dict[str, Any] | None = None) -> Reason | None:
    return refuse(LUNG, ct(**changes), dataclasses.replace(CHEST, **(geometry or {})))


def brain(changes: dict[str, Any], geometry: dict[str, Any] | None = None) -> Reason | None:
    return refuse(BRAIN, mr(**changes), dataclasses.replace(HEAD, **(geometry or {})))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ConvolutionKernel": "B30f"},
        {"ConvolutionKernel": ["Br40d", "3"]},
        {"ConvolutionKernel": "I31f"},
        {"ConvolutionKernel": "B"},
        {"ConvolutionKernel": "FC08"},
        {"RescaleType": None},
        {"ContrastBolusAgent": "NONE"},
        {"BodyPartExamined": "CHEST"},
        {"BodyPartExamined": "HEAD", "SeriesDescription": "Thorax 1.0"},
    ],
)
def test_a_plain_thin_chest_is_accepted_by_the_lung_package(changes: dict[str, Any]) -> None:
    assert lung(changes) is None


@pytest.mark.parametrize(
    ("changes", "geometry", "code", "words"),
    [
        ({"Modality": "MR"}, {}, "110522", ("Modality is MR", "takes CT")),
        ({"ImageType": ["DERIVED", "SECONDARY", "MIP"]}, {}, "110522", ("MIP",)),
        ({"LossyImageCompression": "01"}, {}, "110531", ("with loss",)),
        ({"RescaleType": "Z_EFF"}, {}, "110522", ("Z_EFF", "HU, US")),
        ({"ConvolutionKernel": "LUNG"}, {}, "110522", ("LUNG", "too sharp")),
        ({"ConvolutionKernel": "B70f"}, {}, "110522", ("B70F", "too sharp")),
        ({"ConvolutionKernel": "Bl57d"}, {}, "110522", ("BL57D", "too sharp")),
        ({"ConvolutionKernel": "YC"}, {}, "110522", ("YC", "too sharp")),
        ({"ConvolutionKernel": "FC52"}, {}, "110522", ("FC52", "too sharp")),
        ({"ConvolutionKernel": "H31s"}, {}, "110522", ("H31S", "not known")),
        ({"ConvolutionKernel": None}, {}, "110521", ("does not state", "kernel")),
        ({"ContrastBolusAgent": "Iomeprol"}, {}, "110522", ("contrast agent",)),
        ({"BodyPartExamined": "HEAD"}, {}, "110522", ('"HEAD"',)),
        ({}, {"orientation": "coronal"}, "110522", ("coronal", "axial")),
        ({}, {"tilt": 12.0}, "110522", ("12.0 degrees", "0.5 at most")),
        ({}, {"irregularity": 1.0, "largest_gap": 2.0}, "110523", ("largest gap is 2.00 mm", "1.00 mm")),
        ({}, {"thickness": 5.0}, "110531", ("Slice thickness is 5 mm", "0.4 to 2.5 mm")),
        ({}, {"thickness": None}, "110521", ("does not state the slice thickness",)),
        ({}, {"spacing": 4.0}, "110531", ("step between slices is 4 mm",)),
        ({}, {"pixel_spacing": (1.4, 1.4)}, "110531", ("Pixel spacing is 1.4 mm",)),
        ({}, {"coverage": 120.0}, "130576", ("120 mm", "200 to 1200 mm")),
    ],
)
def test_the_lung_package_says_what_is_wrong(
    changes: dict[str, Any], geometry: dict[str, Any], code: str, words: tuple[str, ...]
) -> None:
    reason = lung(changes, geometry)
    assert reason is not None
    assert reason.code.value == code
    assert [word for word in words if word not in reason.text] == []


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"SeriesDescription": "anat-T1w"},
        {"SeriesDescription": "Ax 3D BRAVO"},
        {"SeriesDescription": "SAG", "ProtocolName": "MP-RAGE"},
        {"SeriesDescription": "SAG", "AcquisitionContrast": "T1"},
        {"SeriesDescription": "", "ScanningSequence": ["GR", "IR"], "EchoTime": 2.9, "InversionTime": 900},
        {"BodyPartExamined": "BRAIN"},
        {"BodyPartExamined": "CSPINE", "StudyDescription": "MRI head and cervical spine"},
    ],
)
def test_a_t1_weighted_head_is_accepted_by_the_brain_package(changes: dict[str, Any]) -> None:
    assert brain(changes) is None


@pytest.mark.parametrize(
    ("changes", "geometry", "code", "words"),
    [
        ({"Modality": "CT"}, {}, "110522", ("Modality is CT",)),
        ({"SeriesDescription": "t2_tse_tra"}, {}, "110522", ('"T2"', "T1-weighted")),
        ({"SeriesDescription": "T2w_SPACE"}, {}, "110522", ('"T2"',)),
        ({"SeriesDescription": "t2_spc_da-fl FLAIR"}, {}, "110522", ("T1-weighted",)),
        ({"SeriesDescription": "Sag CUBE T1 FLAIR"}, {}, "110522", ("T1-weighted",)),
        ({"SeriesDescription": "ep2d_diff_3scan_trace"}, {}, "110522", ("T1-weighted",)),
        ({"SeriesDescription": "DWI b1000"}, {}, "110522", ('"DWI"',)),
        ({"SeriesDescription": "T1 MPRAGE post GD"}, {}, "110522", ('"POST"',)),
        ({"SeriesDescription": "SAG", "AcquisitionContrast": "FLUID_ATTENUATED"}, {}, "110522", ('"FLUID"',)),
        ({"EchoTime": 95.0}, {}, "110522", ("95 ms", "20 ms")),
        ({"SeriesDescription": "SAG 3D"}, {}, "110521", ("does not state", "T1-weighted")),
        (
            {"SeriesDescription": "", "ScanningSequence": ["GR"], "EchoTime": 2.9, "InversionTime": 900},
            {},
            "110521",
            ("does not state",),
        ),
        ({"ContrastBolusAgent": "Gadobutrol"}, {}, "110522", ("contrast agent",)),
        ({"BodyPartExamined": "KNEE"}, {}, "110522", ('"KNEE"',)),
        ({"StudyDescription": "MR Knie rechts", "BodyPartExamined": "EXTREMITY"}, {}, "110522", ('"EXTREMITY"',)),
        ({}, {"thickness": 5.0, "spacing": 6.0}, "110531", ("5 mm", "6 mm")),
        ({}, {"coverage": 60.0}, "130576", ("60 mm",)),
    ],
)
def test_the_brain_package_says_what_is_wrong(
    changes: dict[str, Any], geometry: dict[str, Any], code: str, words: tuple[str, ...]
) -> None:
    reason = brain(changes, geometry)
    assert reason is not None
    assert reason.code.value == code
    assert [word for word in words if word not in reason.text] == []


def test_the_header_alone_tells_a_wrong_kind_of_object() -> None:
    reason = refuse(LUNG, header(Modality="CR"), None)
    assert reason is not None
    assert "Modality is CR" in reason.text


def test_an_enhanced_object_is_judged_by_its_functional_groups() -> None:
    kernel = header(ConvolutionKernel="B70f")
    shared = header(CTReconstructionSequence=[kernel])
    enhanced = header(
        Modality="CT", SharedFunctionalGroupsSequence=[shared], PerFrameFunctionalGroupsSequence=[header()]
    )
    reason = refuse(LUNG, enhanced, CHEST)
    assert reason is not None
    assert "B70F" in reason.text
    echo = header(EffectiveEchoTime=95.0)
    slow = mr(PerFrameFunctionalGroupsSequence=[header(MREchoSequence=[echo])])
    reason = refuse(BRAIN, slow, HEAD)
    assert reason is not None
    assert "95 ms" in reason.text


def test_no_reason_quotes_a_description() -> None:
    reason = brain({"SeriesDescription": "t2 Mustermann^Max, Gadebusch"})
    assert reason is not None
    assert not {"MUSTERMANN", "MAX", "GADEBUSCH"} & set(re.split(r"\W+", reason.text.upper()))
    reason = brain({"SeriesDescription": "t1 Gadebusch"})
    assert reason is not None
    assert "GADEBUSCH" not in reason.text.upper()
