"""Says a picture as a Secondary Capture (PS3.3 A.8.1): the one form that every viewer shows."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image
from pydicom.dataset import Dataset

from dicom_node.results.coding import item
from dicom_node.results.filing import Filing, begin
from dicom_node.results.identity import Naming, stamp
from dicom_node.results.overlay import Sides
from dicom_node.results.source import Source
from storage.facts.prediction import Code, Frame

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
SOURCE_IMAGE = Code(value="121322", scheme="DCM", meaning="Source image for image processing operation")
_UNPAIRED = """
    ABDOMEN AORTA BLADDER BRAIN CERVIX CHEST COCCYX COLON CSPINE CTSPINE DUODENUM ESOPHAGUS GALLBLADDER HEAD HEART JAW
    LIVER LSPINE LSSPINE MEDIASTINUM MOUTH NECK NOSE PANCREAS PELVIS PENIS PROSTATE RECTUM SACRUM SELLA SKULL SPINE
    SPLEEN SSPINE STERNUM STOMACH THYMUS THYROID TLSPINE TONGUE TRACHEA TSPINE UTERUS VAGINA WHOLEBODY
"""  #: body parts that have no side (PS3.16 Annex L)
_DRAWN = {
    "sc": "Outlines and caption of a model's result, drawn on one image",
    "sc-map": "A map of a model's result in colours, drawn on one image",
}
_LOSSY = ("LossyImageCompressionRatio", "LossyImageCompressionMethod")


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture for eyes, and what it shows."""

    image: Image.Image
    bare: Image.Image | None  #: without caption; None where no image could be drawn upon
    frame: Frame  #: the image that was drawn upon
    sides: Sides


def capture(naming: Naming, source: Source, picture: Picture, kind: str = "sc") -> Dataset:
    """The picture in true colours. It has no patient data burnt in, and it is not for measuring."""
    dataset = begin(naming, source, Filing(sop_class_uid=SECONDARY_CAPTURE, modality="OT", kind=kind))
    dataset.BodyPartExamined = source.header.get("BodyPartExamined", "")
    say_laterality(dataset, source)
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.PatientOrientation = [picture.sides.right, picture.sides.bottom] if picture.sides.right else []
    dataset.BurnedInAnnotation = "NO"
    dataset.DerivationDescription = _DRAWN[kind]
    image = source.image(picture.frame.sop_instance_uid)
    dataset.SourceImageSequence = [_reference(picture.frame)]
    dataset.LossyImageCompression = str(image.get("LossyImageCompression", "00")) or "00"
    for keyword in _LOSSY:
        if dataset.LossyImageCompression == "01" and keyword in image:
            setattr(dataset, keyword, image[keyword].value)
    pixels = picture.image.convert("RGB")
    dataset.Columns, dataset.Rows = pixels.size
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    content = pixels.tobytes()
    dataset.add_new("PixelData", "OB", content + b"\0" * (len(content) % 2))
    stamp(dataset)
    return dataset


def as_png(dataset: Dataset) -> bytes:
    """The pixels of a capture for eyes outside of DICOM."""
    buffer = io.BytesIO()
    shape = (int(dataset.Columns), int(dataset.Rows))
    Image.frombytes("RGB", shape, dataset.PixelData[: 3 * shape[0] * shape[1]]).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def say_laterality(dataset: Dataset, source: Source) -> None:
    """Laterality (PS3.3 C.7.3.1) of paired parts, and of unknown ones; empty where the source does not say it."""
    if source.laterality:
        dataset.Laterality = source.laterality
    elif dataset.BodyPartExamined not in _UNPAIRED.split():
        dataset.Laterality = ""


def _reference(frame: Frame) -> Dataset:
    made = Dataset()
    made.ReferencedSOPClassUID, made.ReferencedSOPInstanceUID = frame.sop_class_uid, frame.sop_instance_uid
    if frame.number is not None:
        made.ReferencedFrameNumber = frame.number
    made.PurposeOfReferenceCodeSequence = [item(SOURCE_IMAGE)]
    return made
