"""Finds what is wrong with a result object before it leaves, in milliseconds and in-process.

Validators of information object definitions do not look into SR templates, nor at what viewers break on; this does.
It is written against the standard, not against the builders, so that it can disagree with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_node.results import check_frames, check_made, check_other, check_seg, check_sr
from dicom_node.results.frames import Frames
from dicom_node.results.reading import FORMAT_ERRORS, code_of, first, first_of, text_of

#: Type 1 attributes that every result has; the last six say who answers for it.
_REQUIRED = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "SeriesNumber",
    "InstanceNumber", "ContentDate", "ContentTime", "SeriesDescription", "Manufacturer", "ManufacturerModelName",
    "DeviceSerialNumber", "SoftwareVersions",
)  # fmt: skip
#: What stands for them in a presentation state (PS3.3 C.11.10).
_OF_PRESENTATIONS = {"ContentDate": "PresentationCreationDate", "ContentTime": "PresentationCreationTime"}
#: Type 2: there, even if empty (Patient and General Study modules).
_PRESENT = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
_DOCUMENTS = tuple(f"1.2.840.10008.5.1.4.1.1.88.{number}" for number in (11, 33, 34))
_EXPLICIT, _RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"
_PROCESSING_EQUIPMENT = ("109102", "DCM")


def faults(dataset: Dataset, frames: Frames | None = None) -> list[str]:
    """What is wrong with a result, one sentence each; empty when nothing is. Never quotes patient data.

    With ``frames``, ``dataset`` is the object without them; their bytes are read back and judged like any others.
    """
    try:
        if frames is not None:
            return [*check_frames.faults(dataset, frames), *faults(check_frames.sample(dataset, frames))]
        return [*_common(dataset), *_of_class(dataset)(dataset)]
    except FORMAT_ERRORS as error:
        return [f"the object is malformed: {type(error).__name__} while it was checked"]


def _of_class(dataset: Dataset) -> Callable[[Dataset], Iterator[str]]:
    if dataset.get("SOPClassUID") in (check_seg.SEGMENTATION, check_seg.LABEL_MAP):
        return check_seg.faults
    if dataset.get("SOPClassUID") in _DOCUMENTS:
        return check_sr.faults
    if dataset.get("SOPClassUID") in check_other.CHECKS:
        return check_other.CHECKS[str(dataset.SOPClassUID)]
    if dataset.get("SOPClassUID") in check_made.IMAGES and first_of(dataset, "ImageType") != "DERIVED":
        return lambda _: iter(["the image is not derived: it is none that this node sends"])
    if dataset.get("SOPClassUID") in check_made.CHECKS:
        return check_made.CHECKS[str(dataset.SOPClassUID)]
    return lambda found: iter([f"SOP class {found.get('SOPClassUID')} is none that this node sends"])


def _common(dataset: Dataset) -> Iterator[str]:
    for keyword in _REQUIRED:
        wanted = _OF_PRESENTATIONS.get(keyword, keyword) if dataset.get("Modality") == "PR" else keyword
        if not text_of(dataset, wanted):
            yield f"{wanted} is missing or empty"
    for keyword in _PRESENT:
        if keyword not in dataset:
            yield f"{keyword} is missing (type 2)"
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        if not UID(text_of(dataset, keyword)).is_valid:
            yield f"{keyword} is no valid UID"
    if dataset.get("SpecificCharacterSet") != "ISO_IR 192":
        yield "SpecificCharacterSet is not ISO_IR 192"
    if not text_of(dataset, "SeriesDescription").startswith("AI "):
        yield "SeriesDescription does not say that it is AI"
    if len(text_of(dataset, "SeriesDescription")) > 64:
        yield "SeriesDescription is longer than 64 characters"
    equipment = dataset.get("ContributingEquipmentSequence", [])
    if _PROCESSING_EQUIPMENT not in {code_of(first(e, "PurposeOfReferenceCodeSequence")) for e in equipment}:
        yield "ContributingEquipmentSequence does not name the model as processing equipment (109102, DCM)"
    yield from _meta(dataset)
    yield from _codes(dataset)


def _meta(dataset: Dataset) -> Iterator[str]:
    meta = getattr(dataset, "file_meta", None)
    wanted = _RLE if dataset.get("SOPClassUID") == check_seg.LABEL_MAP else _EXPLICIT
    if meta is None or meta.get("TransferSyntaxUID") != wanted:
        yield f"the transfer syntax is not {'RLE Lossless' if wanted == _RLE else 'Explicit VR Little Endian'}"
        return
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        if meta.get(f"MediaStorage{keyword}") != dataset.get(keyword):
            yield f"MediaStorage{keyword} and {keyword} differ"


def _codes(dataset: Dataset) -> Iterator[str]:
    """Every item of every code sequence has a value, a scheme and a meaning (PS3.3 Table 8.8-1)."""
    for element in dataset:
        if element.VR != "SQ":
            continue
        for item in element.value:
            if element.keyword.endswith("CodeSequence"):
                yield from _code(item, element.keyword)
            yield from _codes(item)


def _code(item: Dataset, where: str) -> Iterator[str]:
    value, scheme, meaning = (text_of(item, k) for k in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning"))
    long_value = text_of(item, "LongCodeValue") or text_of(item, "URNCodeValue")
    if not ((value and scheme) or long_value) or not meaning:
        yield f"a code in {where} lacks its value, scheme or meaning"
    if len(value) > 16 or len(meaning) > 64:
        yield f"a code in {where} has a value longer than 16 or a meaning longer than 64 characters"
