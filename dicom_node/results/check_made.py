"""What a map, graphics and images that a model made must be (PS3.3 A.75, A.33.1, C.7.6.1.1.3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_node.results.reading import code_of, first, first_of, text_of

_UNITS = {"PIXEL"}
_QUANTITIES = {
    ("130402", "DCM"), ("130403", "DCM"), ("130404", "DCM"), ("122157", "DCM"), ("64957009", "SCT"),
}  # fmt: skip
IMAGES = {"1.2.840.10008.5.1.4.1.1.2": "CT", "1.2.840.10008.5.1.4.1.1.4": "MR"}
_PLACE = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}


def _map(dataset: Dataset) -> Iterator[str]:
    if dataset.get("BitsAllocated") != 32 or "FloatPixelData" not in dataset:
        yield "the values are not floats of 32 bits: viewers show others wrongly"
    for keyword in ("FrameOfReferenceUID", "ContentCreatorName", "ContentLabel"):
        if not text_of(dataset, keyword):
            yield f"{keyword} is missing or empty"
    if dataset.get("ContentQualification") not in ("PRODUCT", "RESEARCH", "SERVICE"):
        yield "ContentQualification does not say what the map may be used for"
    series = dataset.get("ReferencedSeriesSequence", [])
    if len(series) != 1 or not series[0].get("ReferencedInstanceSequence"):
        yield "ReferencedSeriesSequence does not name exactly one series with its images"
    shared = first(dataset, "SharedFunctionalGroupsSequence")
    if len(first(shared, "PlaneOrientationSequence").get("ImageOrientationPatient") or []) != 6:
        yield "shared Plane Orientation is missing"
    if len(first(shared, "PixelMeasuresSequence").get("PixelSpacing") or []) != 2:
        yield "shared Pixel Measures lack PixelSpacing"
    yield from _mapping(first(shared, "RealWorldValueMappingSequence"))
    frames = dataset.get("PerFrameFunctionalGroupsSequence", [])
    if not frames or dataset.get("NumberOfFrames") != len(frames):
        yield f"NumberOfFrames is {dataset.get('NumberOfFrames')}, but {len(frames)} frames are described"
    places = {tuple(first(f, "PlanePositionSequence").get("ImagePositionPatient") or ()) for f in frames}
    if len(places) < len(frames) or any(len(place) != 3 for place in places):
        yield "frames lack a plane position of their own"
    wanted = 4 * len(frames) * int(dataset.get("Rows") or 0) * int(dataset.get("Columns") or 0)
    if not wanted or len(dataset.get("FloatPixelData") or b"") != wanted:
        yield f"FloatPixelData is not {wanted} bytes, as its frames need"


def _mapping(mapping: Dataset) -> Iterator[str]:
    """What a value means (PS3.3 C.7.6.16.2.11)."""
    if (mapping.get("RealWorldValueSlope"), mapping.get("RealWorldValueIntercept")) != (1.0, 0.0):
        yield "the real-world value mapping is not the identity"
    if code_of(first(mapping, "MeasurementUnitsCodeSequence")) != ("1", "UCUM"):
        yield "the real-world values have no unit"
    quantity = first(first(mapping, "QuantityDefinitionSequence"), "ConceptCodeSequence")
    if code_of(quantity) not in _QUANTITIES:
        yield "the real-world values do not say what they are (CID 7180)"


def _graphics(dataset: Dataset) -> Iterator[str]:
    if dataset.get("Modality") != "PR":
        yield "Modality is not PR"
    known = {
        text_of(image, "ReferencedSOPInstanceUID")
        for series in dataset.get("ReferencedSeriesSequence", [])
        for image in series.get("ReferencedImageSequence", [])
    }
    layers = {text_of(layer, "GraphicLayer") for layer in dataset.get("GraphicLayerSequence", [])}
    annotations = dataset.get("GraphicAnnotationSequence", [])
    if not annotations:
        yield "nothing is drawn"
    for annotation in annotations:
        if text_of(annotation, "GraphicLayer") not in layers:
            yield "graphics lie in no layer"
        images = annotation.get("ReferencedImageSequence", [])
        if not images or {text_of(image, "ReferencedSOPInstanceUID") for image in images} - known:
            yield "graphics lie on an image that the presentation state does not refer to"
        for graphic in annotation.get("GraphicObjectSequence", []):
            yield from _graphic(graphic)
    if not dataset.get("DisplayedAreaSelectionSequence"):
        yield "DisplayedAreaSelectionSequence is missing"
    if dataset.get("PresentationLUTShape") not in ("IDENTITY", "INVERSE"):
        yield "PresentationLUTShape is missing"
    texts = [t for a in annotations for t in a.get("TextObjectSequence", [])]
    if not texts or not all(text_of(t, "UnformattedTextValue").startswith("AI") for t in texts):
        yield "no text says that the graphics are of AI"


def _graphic(graphic: Dataset) -> Iterator[str]:
    points = [float(v) for v in graphic.get("GraphicData") or []]
    if graphic.get("GraphicAnnotationUnits") not in _UNITS:
        yield "graphics are not in pixels of the image"
    if not all(math.isfinite(v) and v >= 0 for v in points) or len(points) != 2 * int(
        graphic.get("NumberOfGraphicPoints") or 0
    ):
        yield "graphics leave the image, or have another number of points than they say"
    if graphic.get("GraphicType") == "POLYLINE" and points[:2] != points[-2:]:
        yield "a box is not closed"
    if not UID(text_of(graphic, "TrackingUID")).is_valid:
        yield "graphics have no tracking UID"


def image(dataset: Dataset) -> Iterator[str]:
    """What is wrong with an image that a model made of another."""
    if first_of(dataset, "ImageType") != "DERIVED":
        yield "ImageType does not say that the image is derived"
    source = first(dataset, "SourceImageSequence")
    if not text_of(source, "ReferencedSOPInstanceUID"):
        yield "SourceImageSequence does not name the image that it was made of"
    if text_of(source, "ReferencedSOPInstanceUID") == text_of(dataset, "SOPInstanceUID"):
        yield "the image has the UID of its source"
    if not all(code_of(first(dataset, "DerivationCodeSequence"))):
        yield "DerivationCodeSequence does not say how it was made"
    if not text_of(dataset, "DerivationDescription"):
        yield "DerivationDescription is missing or empty"
    if dataset.get("BitsAllocated") != 16 or dataset.get("SamplesPerPixel") != 1:
        yield "the pixels are not grey values of 16 bits"
    modality = IMAGES.get(str(dataset.get("SOPClassUID")))
    if modality is not None:
        if dataset.get("Modality") != modality:
            yield f"Modality is not {modality}"
        for keyword, count in _PLACE.items():
            if len(dataset.get(keyword) or []) != count:
                yield f"{keyword} is missing"
        if not text_of(dataset, "FrameOfReferenceUID"):
            yield "FrameOfReferenceUID is missing or empty"
    if modality == "CT" and not (text_of(dataset, "RescaleSlope") and text_of(dataset, "RescaleIntercept")):
        yield "RescaleSlope or RescaleIntercept is missing"
    wanted = 2 * int(dataset.get("Rows") or 0) * int(dataset.get("Columns") or 0)
    if not wanted or len(dataset.get("PixelData") or b"") != wanted:
        yield f"PixelData is not {wanted} bytes, as its pixels need"


CHECKS: dict[str, Callable[[Dataset], Iterator[str]]] = {
    "1.2.840.10008.5.1.4.1.1.30": _map,
    "1.2.840.10008.5.1.4.1.1.11.1": _graphics,
    **dict.fromkeys(IMAGES, image),
}
