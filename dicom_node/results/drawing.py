"""Chooses the image that shows most of a result, and draws the pictures that go out with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.dataset import Dataset

from dicom_node.results import caption, maps, overlay, region, statement
from dicom_node.results.capture import Picture
from dicom_node.results.document import Circumstance
from dicom_node.results.identity import series_description
from dicom_node.results.looking import Look, NoPixels, Pixels
from dicom_node.results.region import Labels
from dicom_node.results.source import Source
from storage.facts.prediction import Array, Detection, Frame, Prediction

#: The values of a map or an image (frames, rows, columns).
Read = Callable[[Array], npt.NDArray[np.generic]]

_MOST_MAPS = 3  #: in one picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What is drawn, on which image."""

    frame: Frame
    marked: Labels | None  #: labels on that image
    found: tuple[overlay.Found, ...]  #: detections on that image, the one that it was chosen for first
    where: str  #: which image it is, for the reader


def scene(circumstance: Circumstance, labels: Labels | None, counts: npt.NDArray[np.int64] | None) -> Scene:
    """The middle of the most suspicious detection, else the image with most of the mask, else one for the series."""
    prediction, origin = circumstance.naming.prediction, circumstance.source
    mask = prediction.mask
    if prediction.detections and statement.was_analysed(prediction):
        chosen = statement.key_frame(prediction.detections[0])
        frame = prediction.frames[chosen]
        index = mask.frames.index(frame) if mask is not None and frame in mask.frames else None
        return Scene(
            frame=frame,
            marked=None if labels is None or index is None else labels[index],
            found=_found_on(prediction, chosen, origin),
            where=_where(circumstance, chosen, len(prediction.frames)),
        )
    key = None if counts is None else region.key_frame(counts)
    if mask is None or labels is None or key is None:
        return Scene(frame=middle(origin), marked=None, found=(), where="")
    where = _where(circumstance, key, len(mask.frames))
    return Scene(frame=mask.frames[key], marked=labels[key], found=(), where=where)


def _where(circumstance: Circumstance, index: int, images: int) -> str:
    return circumstance.naming.language.say("image_of", image=index + 1, images=images) if images > 1 else ""


def _found_on(prediction: Prediction, index: int, origin: Source) -> tuple[overlay.Found, ...]:
    """The detections whose extent takes in an image, by suspicion."""
    image = origin.image(prediction.frames[index].sop_instance_uid)
    on_it = [one for one in prediction.detections if _spans(one, index)]
    return tuple(
        overlay.Found(
            points=region.of_location(one.location, index, (image.Rows, image.Columns)).points,
            colour=one.colour,
            name=str(one.number) if len(prediction.detections) > 1 else "",
        )
        for one in on_it
    )


def _spans(one: Detection, index: int) -> bool:
    first, last = statement.reach(one)
    return first <= index <= last


def picture(circumstance: Circumstance, drawn: Scene, look: Look | None) -> Picture:
    """The picture of a scene. Raises NoPixels where there is nothing to draw upon."""
    naming = circumstance.naming
    pixels, geometry = _pixels(look, drawn.frame)
    if drawn.marked is not None and drawn.marked.shape[-2:] != pixels.shape:
        raise NoPixels("the source has another size than its header says")
    bare = overlay.outlined(naming.prediction, drawn.marked, pixels, geometry, found=drawn.found)
    image = caption.under(bare, naming.prediction, drawn.where, naming.language)
    return Picture(image=image, bare=bare, frame=drawn.frame, sides=overlay.sides_of(geometry))


def words_alone(circumstance: Circumstance, drawn: Scene) -> Picture:
    """The caption, where no image can be drawn upon."""
    image = overlay.blank(circumstance.naming.prediction, spoken=circumstance.naming.language)
    return Picture(image=image, bare=None, frame=drawn.frame, sides=overlay.Sides())


def map_picture(circumstance: Circumstance, look: Look | None, read: Read) -> Picture:
    """Each map on the image where it is strongest, below each other. Raises NoPixels."""
    prediction, spoken = circumstance.naming.prediction, circumstance.naming.language
    panels, frames, turned = [], [], []
    for heatmap in prediction.heatmaps[:_MOST_MAPS]:
        values = np.asarray(read(heatmap.array), np.float32)
        index = _strongest(values, prediction)
        pixels, geometry = _pixels(look, prediction.frames[index])
        if pixels.shape != values.shape[1:]:
            raise NoPixels("the source has another size than its header says")
        where = _where(circumstance, index, len(prediction.frames))
        texts = [series_description(prediction.algorithm), statement.heatmap(heatmap, spoken), where]
        panels.append(caption.sentences(maps.panel(values[index], pixels, geometry), texts))
        frames.append(prediction.frames[index])
        turned.append(overlay.sides_of(geometry))
    return Picture(image=_stacked(panels), bare=None, frame=frames[0], sides=turned[0])


def _strongest(values: npt.NDArray[np.float32], prediction: Prediction) -> int:
    """The image that the map is shown on: that of the first detection if the map says anything there."""
    most = values.reshape(len(values), -1).max(axis=1)
    if prediction.detections:
        index = statement.key_frame(prediction.detections[0])
        if most[index] > 0.5 * most.max():
            return index
    return int(np.argmax(most))


def _stacked(panels: Sequence[Image.Image]) -> Image.Image:
    whole = Image.new("RGB", (max(p.width for p in panels), sum(p.height for p in panels)))
    top = 0
    for each in panels:
        whole.paste(each, (0, top))
        top += each.height
    return whole


def _pixels(look: Look | None, frame: Frame) -> tuple[Pixels, Dataset]:
    if look is None:
        raise NoPixels("pixels were not at hand")
    return look(frame)


def middle(origin: Source) -> Frame:
    """An image that speaks for the series."""
    image = origin.images[len(origin.images) // 2]
    frames = int(image.get("NumberOfFrames", 1))
    many = frames > 1 or "PerFrameFunctionalGroupsSequence" in image
    return Frame(
        sop_instance_uid=str(image.SOPInstanceUID),
        sop_class_uid=str(image.SOPClassUID),
        number=frames // 2 + 1 if many else None,
    )
