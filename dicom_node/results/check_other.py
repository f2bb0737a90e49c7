"""What a picture, a page and a selection of key objects must be (PS3.3 A.8.1, A.45.1, A.35.4; TID 2010)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pydicom.dataset import Dataset

from dicom_node.results import check_made
from dicom_node.results.reading import code_of, first, text_of

#: CID 7010, as far as used: title, and whether a note with it retires what it lists.
_TITLES = {("113000", "DCM"), ("113001", "DCM"), ("113039", "DCM")}
_LISTED = ("IMAGE", "COMPOSITE")


def _capture(dataset: Dataset) -> Iterator[str]:
    if dataset.get("PhotometricInterpretation") != "RGB" and "DerivationCodeSequence" in dataset:
        yield from check_made.image(dataset)
        return
    if dataset.get("ConversionType") != "WSD":
        yield "ConversionType is not WSD"
    if list(dataset.get("ImageType") or [])[:2] != ["DERIVED", "SECONDARY"]:
        yield "ImageType does not say that the picture is derived"
    if dataset.get("BurnedInAnnotation") != "NO":
        yield "BurnedInAnnotation is not NO, but no patient data may be burnt in"
    source = first(dataset, "SourceImageSequence")
    if not text_of(source, "ReferencedSOPInstanceUID"):
        yield "SourceImageSequence does not name the image that was drawn upon"
    if text_of(source, "ReferencedSOPInstanceUID") == text_of(dataset, "SOPInstanceUID"):
        yield "the picture has the UID of its source"
    if (dataset.get("PhotometricInterpretation"), dataset.get("SamplesPerPixel"), dataset.get("BitsAllocated")) != (
        "RGB", 3, 8,
    ):  # fmt: skip
        yield "the pixels are not RGB of 8 bits"
    wanted = 3 * int(dataset.get("Rows") or 0) * int(dataset.get("Columns") or 0)
    found = len(dataset.get("PixelData") or b"")
    if not wanted or found != wanted + wanted % 2:
        yield f"PixelData has {found} bytes, {wanted + wanted % 2} are needed"


def _page(dataset: Dataset) -> Iterator[str]:
    if dataset.get("Modality") != "DOC":
        yield "Modality is not DOC"
    if dataset.get("MIMETypeOfEncapsulatedDocument") != "application/pdf":
        yield "MIMETypeOfEncapsulatedDocument is not application/pdf"
    if dataset.get("BurnedInAnnotation") != "YES":
        yield "BurnedInAnnotation is not YES, but the page names the patient"
    if not text_of(first(dataset, "SourceInstanceSequence"), "ReferencedSOPInstanceUID"):
        yield "SourceInstanceSequence names no source"
    content, length = dataset.get("EncapsulatedDocument") or b"", dataset.get("EncapsulatedDocumentLength")
    if not content.startswith(b"%PDF-"):
        yield "EncapsulatedDocument is no PDF"
    if length is None or length + length % 2 != len(content):
        yield "EncapsulatedDocumentLength is not the length of the document"


def _selection(dataset: Dataset) -> Iterator[str]:
    if dataset.get("Modality") != "KO":
        yield "Modality is not KO"
    if dataset.get("ValueType") != "CONTAINER" or code_of(first(dataset, "ConceptNameCodeSequence")) not in _TITLES:
        yield "the title is none that this node uses"
    if text_of(first(dataset, "ContentTemplateSequence"), "TemplateIdentifier") != "2010":
        yield "the template is not 2010"
    listed = [item for item in dataset.get("ContentSequence", []) if item.get("ValueType") in _LISTED]
    if not listed:
        yield "nothing is selected"
    known = {
        text_of(instance, "ReferencedSOPInstanceUID")
        for study in dataset.get("CurrentRequestedProcedureEvidenceSequence", [])
        for series in study.get("ReferencedSeriesSequence", [])
        for instance in series.get("ReferencedSOPSequence", [])
    }
    for item in listed:
        if text_of(first(item, "ReferencedSOPSequence"), "ReferencedSOPInstanceUID") not in known:
            yield "a selected object is not in the evidence"
        if "ConceptNameCodeSequence" in item or item.get("RelationshipType") != "CONTAINS":
            yield "a selected object has a concept name, or is not contained (TID 2010)"


CHECKS: dict[str, Callable[[Dataset], Iterator[str]]] = {
    "1.2.840.10008.5.1.4.1.1.7": _capture,
    "1.2.840.10008.5.1.4.1.1.104.1": _page,
    "1.2.840.10008.5.1.4.1.1.88.59": _selection,
}
