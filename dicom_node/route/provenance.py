"""What a series is not: a localizer, a reformat, a label map, a capture, a phantom, or this node's own result.

ImageType (PS3.3 C.7.6.1.1.2) is believed when it names a process, never when it only says DERIVED: compression and
format conversion say so too. And it is not believed when it says ORIGINAL against the geometry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydicom.config import IGNORE
from pydicom.uid import UID

from dicom_node.route.evidence import DESCRIPTIONS, Derived, said, words
from dicom_node.route.geometry import Stack
from dicom_node.route.reading import Reading
from storage.facts.study import Series


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeIdentity:
    """How this node knows its own results when they come back."""

    model_names: frozenset[str] = frozenset()  #: Manufacturer's Model Name written into results
    ae_titles: frozenset[str] = frozenset()  #: AE titles under which this node sends
    uid_roots: tuple[str, ...] = ()  #: roots of the UIDs that only this node makes, without the last dot


_CLINICAL = frozenset({"CT", "MR", "PT", "NM"})  #: modalities whose pixels are measurements at a place in the patient
_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  #: Secondary Capture, single and (with a suffix) multi-frame
_IMAGES_BY_ANOTHER_NAME = frozenset({"1.2.840.10008.5.1.4.1.1.6.2"})  #: Enhanced US Volume


def sop_class(reading: Reading) -> Derived:
    """The name of the SOP class, or its UID when the standard has none."""
    uid = _sop_class_uid(reading)
    if not uid:
        return Derived(value=None, evidence="SOPClassUID is missing")
    return Derived(value=uid.name, evidence=f"SOPClassUID is {uid}")


def _sop_class_uid(reading: Reading) -> UID:
    return UID(reading.text("SOPClassUID"), validation_mode=IGNORE)


def is_image(reading: Reading) -> Derived:
    """Whether the SOP class holds images; missing for a class that is not in the standard."""
    uid = _sop_class_uid(reading)
    if uid.name == uid:
        return Derived(value=None, evidence="the SOP class is not in the standard" if uid else "SOPClassUID is missing")
    image = "Image Storage" in uid.name or uid in _IMAGES_BY_ANOTHER_NAME
    return Derived(value=image, evidence=f"the SOP class is {uid.name}")


def is_from_this_node(series: Series, reading: Reading, node: NodeIdentity) -> Derived:
    """Whether this node wrote it, directly or by way of the archive."""
    models = {name.casefold() for name in node.model_names}
    if reading.text("ManufacturerModelName").casefold() in models:
        return Derived(value=True, evidence="ManufacturerModelName is this node's")
    if series.calling_ae.strip() in node.ae_titles:
        return Derived(value=True, evidence="it came from this node's own AE title")
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "InstanceCreatorUID"):
        if reading.text(keyword).startswith(tuple(f"{root}." for root in node.uid_roots)):
            return Derived(value=True, evidence=f"{keyword} is of this node's root")
    return Derived(value=False, evidence="nothing in it is this node's")


_LOCALIZER_CODES = frozenset({"LOCALIZER", "LOCALISER", "SCOUT", "TOPOGRAM", "SURVEY", "SURVIEW"})
_LOCALIZER_WORDS = words(
    r"localizers?", r"localisers?", r"\w*scout", "topogra[mt]m?e?", "surview", "survey", "scanogram", "scano",
    r"3[- ]?plane(?: loc)?", "3[- ]?pl[- ]?loc", "tri[- ]?pilot", "loc", "fastview", "plan scan",
)  # fmt: skip
_FEW = 30  #: images; more in different planes is no localizer


def is_localizer(reading: Reading, stack: Stack, frames: int) -> Derived:
    """A planning image: named so in codes or words, or a few images in different planes."""
    codes = {*reading.codes("ImageType"), *reading.codes("ScanOptions")} & _LOCALIZER_CODES
    if codes:
        return Derived(value=True, evidence=f"ImageType or ScanOptions says {min(codes)}")
    told = said(reading, _LOCALIZER_WORDS, ("SeriesDescription", "ProtocolName"))
    if told and frames <= _FEW:
        return Derived(value=True, evidence=told)
    if frames <= _FEW and stack.directions > 1 and stack.places < 10:
        return Derived(value=True, evidence=f"{frames} images in {stack.directions} different planes")
    return Derived(value=False, evidence="neither codes, words nor planes are those of a localizer")


def is_mosaic(reading: Reading) -> Derived:
    """Slices tiled into one image, as Siemens does: its pixels have no single place in the patient."""
    mosaic = "MOSAIC" in reading.codes("ImageType")
    return Derived(value=mosaic, evidence=f"ImageType {'says' if mosaic else 'does not say'} MOSAIC")


_CAPTURE_CODES = frozenset({"SCREEN SAVE", "SCREENSAVE", "SCREEN_SAVE", "SCREEN CAPTURE", "SCREENSHOT", "VXTL STATE"})
_CAPTURE_WORDS = words(
    "screen ?saves?", "screen ?shots?", "screen ?captures?", "dose report", "dose info", "rapport (?:de )?dose",
    "dosisbericht", "patient protocol", "exam protocol", "summary series",
)  # fmt: skip


def is_screen_capture(reading: Reading) -> Derived:
    """A picture of a screen or a page: its grey values measure nothing."""
    codes = set(reading.codes("ImageType")) & _CAPTURE_CODES
    if codes:
        return Derived(value=True, evidence=f"ImageType says {min(codes)}")
    told = said(reading, _CAPTURE_WORDS, ("SeriesDescription",))
    placed = bool(reading.numbers("ImageOrientationPatient"))
    if told and not placed:
        return Derived(value=True, evidence=told)
    uid = reading.text("SOPClassUID")
    modality = reading.text("Modality").upper()
    if (uid == _CAPTURE or uid.startswith(_CAPTURE + ".")) and modality in _CLINICAL and not placed:
        return Derived(value=True, evidence=f"{modality} as Secondary Capture, without ImageOrientationPatient")
    return Derived(value=False, evidence="neither codes, words nor SOP class are those of a capture")


_LABEL_CODES = frozenset({"SEG", "SEGMENTATION", "LABEL", "LABELMAP", "LABEL_MAP", "MASK"})
_LABEL_WORDS = words(r"segmentations?", r"label ?maps?", "ground ?truth", "annotations?", "contours?", "rtstruct")
_LABEL_HINTS = words("seg", "segmented", "labels?", r"\w*mask", "rois?")
_NOT_IMAGE_MODALITIES = frozenset({"SEG", "RTSTRUCT", "SR", "PR", "KO", "REG", "FID", "RWV", "DOC"})
_HOUNSFIELD_BITS = 12  #: fewer cannot hold CT numbers; the CT Image module wants 12 to 16 (PS3.3 C.8.2.1)


def is_label_map(reading: Reading) -> Derived:
    """Labels in the pixels of an image object. Headers can only hint at it: the weaker hints need a second one."""
    modality = reading.text("Modality").upper()
    if modality in _NOT_IMAGE_MODALITIES and is_image(reading).value:
        return Derived(value=True, evidence=f"Modality is {modality} in an image object")
    codes = {*reading.codes("ImageType")[2:], *reading.codes("BodyPartExamined")} & _LABEL_CODES
    if codes:
        return Derived(value=True, evidence=f"ImageType or BodyPartExamined says {min(codes)}")
    bits = reading.number("BitsStored")
    if reading.text("SOPClassUID").startswith("1.2.840.10008.5.1.4.1.1.2") and bits and bits < _HOUNSFIELD_BITS - 2:
        return Derived(value=True, evidence=f"{bits:g} bits cannot hold CT numbers")
    if modality in _CLINICAL:
        told = said(reading, _LABEL_WORDS, ("SeriesDescription",))
        hint = said(reading, _LABEL_HINTS, ("SeriesDescription",))
        doubt = _unacquired(reading, modality)
        if told or (hint and doubt):
            return Derived(value=True, evidence=told or f"{hint} and {doubt}")
    return Derived(value=False, evidence="nothing in the header speaks of labels")


def _unacquired(reading: Reading, modality: str) -> str:
    """Why it may not come from a scanner; empty when it may."""
    kinds = reading.codes("ImageType")
    if not kinds or kinds[0] == "DERIVED":
        return "ImageType is " + ("DERIVED" if kinds else "missing")
    lacking = {"CT": "KVP", "MR": "EchoTime"}.get(modality)
    return f"{lacking} is missing" if lacking and reading.number(lacking) is None else ""


_PROCESSED = frozenset(
    {
        "REFORMATTED", "MPR", "CSA MPR", "MPR_THICK", "MPR_THIN", "CURVED", "MIP", "MINIP", "MIN IP", "CSA MIP",
        "PROJECTION IMAGE", "VOLREN", "VRT", "VOLUME RENDERING", "SSD", "SUBTRACTION", "PARAMETRIC", "ADC", "EADC",
        "FA", "COLFA", "CBF", "CBV", "RCBF", "RCBV", "MTT", "TTP", "TMAX", "RRBF", "T1 MAP", "T2 MAP", "FUSED",
    }
)  # fmt: skip
_PROCESSED_WORDS = words(
    "mips?", "minips?", "mprs?", "vrt", r"reformat\w*", "mpr collection", "colfa", "fused", "3d ssd"
)
_PROCESSES = {  # CID 7203, Image Derivation
    "113041": "ADC", "113044": "diffusion anisotropy", "113052": "mean transit time",
    "113062": "subtraction", "113072": "multiplanar reformatting", "113073": "curved reformatting",
    "113074": "volume rendering", "113075": "surface rendering", "113076": "segmentation",
    "113078": "maximum intensity projection", "113079": "minimum intensity projection",
}  # fmt: skip


def is_derived(reading: Reading, stack: Stack, earlier: Mapping[str, Derived]) -> Derived:
    """Whether processing made of it something else than what the scanner acquired; compression alone does not."""
    for name in ("is_label_map", "is_screen_capture"):
        if earlier[name].value:
            return earlier[name]
    codes = set(reading.codes("ImageType")) & _PROCESSED
    if codes:
        return Derived(value=True, evidence=f"ImageType says {min(codes)}")
    for item in reading.items("DerivationCodeSequence"):
        process = _PROCESSES.get(item.text("CodeValue"))
        if process:
            return Derived(value=True, evidence=f"DerivationCodeSequence says {process}")
    told = said(reading, _PROCESSED_WORDS, ("SeriesDescription",))
    if told:
        return Derived(value=True, evidence=told)
    flat = not earlier["is_localizer"].value and stack.orientation not in (None, "AXIAL")
    if flat and "CT" in reading.codes("Modality"):
        return Derived(value=True, evidence=f"{stack.orientation} CT slices are a reformat: CT is acquired axially")
    if "DERIVED" in reading.codes("ImageType")[:1]:
        return Derived(value=False, evidence="ImageType says DERIVED but names no process other than storing it anew")
    return Derived(value=False, evidence="nothing in the header speaks of processing")


_PHANTOM_WORDS = words(r"phantoms?", "qa", "qc", "quality (?:control|assurance)", "acr phantom", "catphan", "daily qc")


def is_phantom(reading: Reading) -> Derived:
    """A phantom or a quality control image. The patient's name is looked at, never quoted."""
    if "YES" in reading.codes("QualityControlImage"):
        return Derived(value=True, evidence="QualityControlImage is YES")
    if "PHANTOM" in reading.codes("BodyPartExamined"):
        return Derived(value=True, evidence="BodyPartExamined is PHANTOM")
    told = said(reading, _PHANTOM_WORDS, DESCRIPTIONS)
    if told:
        return Derived(value=True, evidence=told)
    if said(reading, words(r"\w*phantom\w*", "catphan"), ("PatientName", "PatientID")):
        return Derived(value=True, evidence="the patient's name or ID says phantom")
    return Derived(value=False, evidence="nothing in the header speaks of a phantom")
