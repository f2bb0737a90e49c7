"""Enhanced CT and denoised images through the whole node: what comes out lies where the source lies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from dicom_node.demo import phantom
from dicom_node.demo.session import Session
from dicom_node.demo.studies import of_folder
from storage.facts.prediction import Status
from storage.facts.routing import Rule
from tests import builders
from tests.acceptance.conftest import wait_for
from tests.acceptance.making import COARSE, PACKAGE, write_package
from tests.acceptance.test_choice import predictions
from tests.inference.algorithms.making import DENOISER, Blur, blurred, exported
from tests.inference.imaging.making import One, Place, enhanced, frames
from tests.inference.networks.making import package

SCAN = dataclasses.replace(COARSE, matrix=96, step=5.0, slices=60)
SCOUTS = 3  #: frames before the chest
NOISY = dataclasses.replace(COARSE, matrix=64, step=5.0, slices=12, description="TO BE DENOISED")
RULES = (
    Rule(name="lungs", expression='SeriesDescription != "TO BE DENOISED"', package=PACKAGE, destinations=("pacs",)),
    Rule(
        name="denoise",
        expression='SeriesDescription == "TO BE DENOISED"',
        package="small-network",
        destinations=("pacs",),
    ),
)
_OF_OBJECT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate",
              "StudyTime", "AccessionNumber", "StudyID", "ReferringPhysicianName", "StudyDescription",
              "FrameOfReferenceUID", "ConvolutionKernel", "BodyPartExamined", "SeriesDescription", "KVP")  # fmt: skip


def with_localizers(slices: Sequence[Dataset]) -> Dataset:
    """An Enhanced CT that begins with three sagittal localizer frames; the chest follows from the head down."""
    first = slices[0]
    spacing = float(first.PixelSpacing[0])
    place = Place(
        orientation=builders.AXIAL, origin=tuple(map(float, first.ImagePositionPatient)), step=-SCAN.step,
        spacing=(spacing, spacing),
    )  # fmt: skip
    chest = [
        One(pixels=ds.pixel_array, place=place, index=n, groups=_rescaled(ds)) for n, ds in enumerate(slices)
    ]  # fmt: skip
    scout = np.zeros((SCOUTS, *slices[0].pixel_array.shape), np.int16)
    kind = {"CTImageFrameTypeSequence": {"FrameType": ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]}}
    made = enhanced([*frames(scout, Place(orientation=builders.SAGITTAL), lambda _: kind), *chest])
    for keyword in _OF_OBJECT:
        if keyword in first:
            setattr(made, keyword, first[keyword].value)
    made.ImageType = ["ORIGINAL", "PRIMARY", "MIXED", "NONE"]
    made.SeriesInstanceUID = generate_uid(entropy_srcs=[str(first.SeriesInstanceUID), "enhanced"])
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid(
        entropy_srcs=[made.SeriesInstanceUID, "1"]
    )
    return made


def in_two_objects(slices: Sequence[Dataset]) -> list[Dataset]:
    """An Enhanced CT whose frames come in two objects, as scanners send long stacks."""
    series = generate_uid(entropy_srcs=[str(slices[0].SeriesInstanceUID), "two"])
    made = []
    for number, some in enumerate((slices[:20], slices[20:]), start=1):
        one = with_localizers(some)
        one.PerFrameFunctionalGroupsSequence = one.PerFrameFunctionalGroupsSequence[SCOUTS:]
        one.NumberOfFrames, one.SeriesInstanceUID, one.InstanceNumber = len(some), series, number
        one.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
        one.PixelData = b"".join(ds.PixelData for ds in some)
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[series, str(number)])
        made.append(one)
    return made


def _rescaled(ds: Dataset) -> dict[str, dict[str, object]]:
    return {
        "PixelValueTransformationSequence": {
            "RescaleSlope": ds.RescaleSlope, "RescaleIntercept": ds.RescaleIntercept, "RescaleType": "HU",
        }
    }  # fmt: skip


def converted(slices: Sequence[Dataset]) -> Dataset:
    """What highdicom makes of the classic series: Legacy Converted Enhanced CT."""
    made: Dataset = LegacyConvertedEnhancedCTImage(
        legacy_datasets=slices,
        series_instance_uid=generate_uid(entropy_srcs=[str(slices[0].SeriesInstanceUID), "converted"]),
        series_number=4,
        sop_instance_uid=generate_uid(entropy_srcs=[str(slices[0].SOPInstanceUID), "converted"]),
        instance_number=1,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    return made


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A node with a package that measures lungs and one that denoises."""
    folder = tmp_path_factory.mktemp("volumes")
    write_package(folder / "models")
    toml = DENOISER.format(steps="", residual="true")
    package(folder / "models" / "denoise", toml, {"net": exported(Blur(residual=True))})
    with Session(folder / "node", folder / "models") as opened:
        with opened.ledger.begin("test") as tx:
            for rule in tx.catalogue.rules():
                tx.catalogue.remove_rule(rule.name)
            for rule in RULES:
                tx.catalogue.put_rule(rule)
        yield opened


@pytest.mark.parametrize(
    ("make", "before", "seed"),
    [
        (lambda slices: [with_localizers(slices)], SCOUTS, 302),
        (lambda slices: [converted(slices)], 0, 300),
        (in_two_objects, 0, 307),
    ],
    ids=["with localizers", "legacy converted", "two objects"],
)
def test_an_enhanced_ct_ends_in_a_segmentation_that_is_read_in_place(
    session: Session, tmp_path: Path, make: Callable[[Sequence[Dataset]], list[Dataset]], before: int, seed: int
) -> None:
    truth = phantom.write(tmp_path / "classic", seed=seed, scan=SCAN)
    slices = sorted(
        (pydicom.dcmread(path) for path in (tmp_path / "classic").iterdir()),
        key=lambda ds: -float(ds.ImagePositionPatient[2]),
    )
    sources = {str(source.SOPInstanceUID): source for source in make(slices)}
    (tmp_path / "enhanced").mkdir()
    for number, source in enumerate(sources.values()):
        source.save_as(tmp_path / "enhanced" / f"{number}.dcm", enforce_file_format=True)
    [study] = of_folder(tmp_path / "enhanced")

    session.send(study.files)
    assert wait_for(session, truth.study_uid).failed == ()
    [prediction] = predictions(session, truth.study_uid)
    assert prediction.status is Status.SUCCEEDED, prediction.reason
    [stored] = [s for s in session.pacs.objects() if s.study_uid == truth.study_uid and s.modality == "SEG"]
    seg = highdicom.seg.segread(stored.path)

    seen = set()
    for group in seg.PerFrameFunctionalGroupsSequence:
        [image] = group.DerivationImageSequence[0].SourceImageSequence
        source, number = sources[image.ReferencedSOPInstanceUID], int(image.ReferencedFrameNumber)
        seen.add(source.SOPInstanceUID)
        assert number > before
        placed = group.PlanePositionSequence[0].ImagePositionPatient
        meant = source.PerFrameFunctionalGroupsSequence[number - 1].PlanePositionSequence[0].ImagePositionPatient
        assert [float(v) for v in placed] == pytest.approx([float(v) for v in meant], abs=1e-3)
    assert seen == set(sources)
    read = np.concatenate(
        [
            seg.get_pixels_by_source_frame(
                uid, list(range(before + 1, int(source.NumberOfFrames) + 1)), combine_segments=True,
                assert_missing_frames_are_empty=True,
            )
            for uid, source in sources.items()
        ]
    )  # fmt: skip
    assert len(read) == SCAN.slices
    lungs = np.count_nonzero(read) * SCAN.pixel**2 * SCAN.step / 1000
    assert lungs == pytest.approx(truth.volume_ml, rel=0.05)
    said = sum(m.value for s in prediction.segments for m in s.measurements if m.unit.value == "ml")
    assert lungs == pytest.approx(said, rel=0.001)
    assert (read[SCAN.slices // 2] > 0).any()
    assert bool(prediction.warnings) == bool(before)


def test_a_denoised_series_is_delivered_beside_its_source(session: Session, tmp_path: Path) -> None:
    truth = phantom.write(tmp_path / "scan", seed=400, scan=NOISY)
    [study] = of_folder(tmp_path / "scan")

    session.send(study.files)
    assert wait_for(session, truth.study_uid).failed == ()
    [prediction] = predictions(session, truth.study_uid)
    assert prediction.status is Status.SUCCEEDED, prediction.reason
    stored = [s for s in session.pacs.objects() if s.study_uid == truth.study_uid and s.modality == "CT"]
    made = [pydicom.dcmread(one.path) for one in stored]

    by_source = {str(ds.SourceImageSequence[0].ReferencedSOPInstanceUID): ds for ds in made}
    sources = sorted(
        (pydicom.dcmread(path) for path in (tmp_path / "scan").iterdir()),
        key=lambda ds: float(ds.ImagePositionPatient[2]),
    )
    assert len(by_source) == len(sources) == NOISY.slices
    hu = np.stack([ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for ds in sources])
    expected = blurred(np.maximum(hu, -1024).astype(np.int16))
    for source, plane in zip(sources, expected, strict=True):
        ds = by_source[str(source.SOPInstanceUID)]
        assert ds.ImageType[0] == "DERIVED"
        assert ds.SeriesInstanceUID != source.SeriesInstanceUID
        assert [float(v) for v in ds.ImagePositionPatient] == [float(v) for v in source.ImagePositionPatient]
        shown = ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
        np.testing.assert_allclose(shown, plane, atol=0.51)
