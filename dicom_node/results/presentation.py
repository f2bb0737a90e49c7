"""Says detections as graphics on the source's own images: a Grayscale Softcopy Presentation State (PS3.3 A.33.1)."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from highdicom.pr import GraphicAnnotation, GraphicLayer, GraphicObject, GrayscaleSoftcopyPresentationState, TextObject
from pydicom.dataset import Dataset

from dicom_node.config import MODEL_NAME
from dicom_node.results import region, statement
from dicom_node.results.border import highdicom
from dicom_node.results.capture import say_laterality
from dicom_node.results.identity import Naming, sign, stamp
from dicom_node.results.normal import as_text, line
from dicom_node.results.seg import CREATOR, identify
from dicom_node.results.source import Source
from storage.facts.prediction import Detection, Frame

KIND = "gsps"
LAYER = "AI_FINDINGS"
#: Macros (PS3.3 C.7.6.16.2.9b, C.7.6.16.2.10b) of what an image without functional groups says of all its frames.
_OF_ALL_FRAMES = {
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth"),
}
_RING = 6.0  #: radius of the circle around a point, pixels


class NoPresentation(Exception):
    """Why no graphics can be laid over the images; a sentence for the log."""


def presentation_state(naming: Naming, source: Source) -> Dataset:
    """Each detection on every image that it takes in, with its score on the middle one.

    Raises NoPresentation where the images are in colour, or say nothing of how they are shown.
    """
    drawn: dict[Frame, list[Detection]] = {}
    for one in naming.prediction.detections:
        first, last = statement.reach(one)
        for index in range(first, last + 1):
            drawn.setdefault(naming.prediction.frames[index], []).append(one)
    images = {frame.sop_instance_uid: _image(source, frame.sop_instance_uid) for frame in drawn}
    layer = GraphicLayer(LAYER, order=1, description=as_text(64)(naming.description))
    with highdicom("the images do not take graphics", NoPresentation):
        made: Dataset = GrayscaleSoftcopyPresentationState(
            referenced_images=list(images.values()),
            series_instance_uid=naming.uid(f"{KIND} series"),
            series_number=1,
            sop_instance_uid=naming.uid(KIND),
            instance_number=1,
            manufacturer=as_text(64)(naming.node.manufacturer),
            manufacturer_model_name=MODEL_NAME,
            software_versions=as_text(64)(naming.node.software_version),
            device_serial_number=as_text(64)(naming.node.serial_number),
            content_label=LAYER,
            content_description=as_text(64)(naming.prediction.algorithm.name),
            content_creator_name=CREATOR,
            graphic_layers=[layer],
            graphic_annotations=[
                _annotation(naming, images[frame.sop_instance_uid], frame, found, layer)
                for frame, found in drawn.items()
            ],
        )
    identify(made, source)
    made.setdefault("BodyPartExamined", "")
    say_laterality(made, source)
    made.PresentationCreationDate, made.PresentationCreationTime = naming.date, naming.time
    sign(made, naming, KIND)
    del made.ContentDate, made.ContentTime  # its creation has attributes of its own
    stamp(made)
    return made


def _image(source: Source, uid: str) -> Dataset:
    """An image as highdicom takes it: with patient and study, but without the name, which it may log."""
    placed = source.image(uid)
    if not str(placed.get("PhotometricInterpretation", "")).startswith("MONOCHROME"):
        raise NoPresentation("the images are in colour, or do not say that they are grey")
    made = Dataset()
    made.update(placed)
    made.update(deepcopy(source.header))  # elements are changed in place
    made.PatientName, made.SamplesPerPixel = "", 1
    if "NumberOfFrames" in made and "SharedFunctionalGroupsSequence" not in made:
        _group(made)
    return made


def _group(image: Dataset) -> None:
    """Say in functional groups what a cine says of all its frames (XA, NM): highdicom looks nowhere else."""
    shared = Dataset()
    for name, keywords in _OF_ALL_FRAMES.items():
        given = {keyword: image[keyword].value for keyword in keywords if image.get(keyword) is not None}
        if len(given) == len(keywords):
            item = Dataset()
            for keyword, value in given.items():
                setattr(item, keyword, value)
            setattr(shared, name, [item])
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = [Dataset() for _ in range(int(image.NumberOfFrames))]


def _annotation(
    naming: Naming, image: Dataset, frame: Frame, found: Sequence[Detection], layer: GraphicLayer
) -> GraphicAnnotation:
    graphics, texts = [], []
    for one in found:
        points = region.of_location(one.location, 0, (image.Rows, image.Columns)).points
        tracked: Any = {
            "tracking_id": naming.detection_id(one.number),
            "tracking_uid": naming.detection_uid(one.number),
        }
        if len(points) == 1:
            ring = np.array([points[0], points[0] + (_RING, 0)])
            graphics.append(GraphicObject("CIRCLE", ring, units="PIXEL", **tracked))
        else:
            graphics.append(GraphicObject("POLYLINE", points, units="PIXEL", **tracked))
        if naming.prediction.frames[statement.key_frame(one)] == frame:
            anchor = (float(points[:, 0].max()), float(points[:, 1].min()))
            texts.append(TextObject(_said(naming, one), units="PIXEL", anchor_point=anchor, **tracked))
    return GraphicAnnotation(
        referenced_images=[image],
        graphic_layer=layer,
        referenced_frame_number=frame.number,
        graphic_objects=graphics,
        text_objects=texts or None,
    )


def _said(naming: Naming, one: Detection) -> str:
    """What stands beside a box: that it is AI, what, how likely, and whether it may be relied on."""
    language, algorithm = naming.language, naming.prediction.algorithm
    score = f"AI: {line(one.label)} {language.chance(one.score)}"
    return f"{score}\r\n{language.say('research')}" if algorithm.research else score
