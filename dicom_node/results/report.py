"""Composes all objects of one prediction, and lets none leave that our own checker faults."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_node.results import caption, overlay, profiles, region, source
from dicom_node.results.capture import Picture, as_png, capture
from dicom_node.results.check import faults
from dicom_node.results.document import Circumstance, Reference
from dicom_node.results.frames import Frames, parts
from dicom_node.results.grid import NoSegmentation
from dicom_node.results.identity import Naming, NodeIdentity
from dicom_node.results.key_objects import of_interest, rejection
from dicom_node.results.looking import Look, NoPixels
from dicom_node.results.page import summary
from dicom_node.results.seg import segmentation
from dicom_node.results.sr import measurement_report
from dicom_node.results.statement import was_analysed
from dicom_node.results.text_report import text_report
from storage.facts.errors import Rejected
from storage.facts.prediction import Frame, Prediction, Presence

log = logging.getLogger(__name__)

Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    """An object ready to be kept and sent, in a series of its own."""

    kind: str  #: see profiles
    dataset: Dataset  #: the whole object, or all but its frames
    frames: Frames | None = None

    def parts(self) -> Iterator[bytes]:
        """The Part 10 file, piece by piece."""
        return parts(self.dataset, self.frames)

    def png(self) -> bytes:
        """A picture as a PNG. Raises Rejected for another kind of object."""
        if self.kind != profiles.SC:
            raise Rejected(f"a {self.kind} is no picture")
        return as_png(self.dataset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to make of a prediction."""

    kinds: Collection[str] = profiles.DEFAULT.kinds
    predecessors: Sequence[Reference] = ()  #: reports that this one replaces
    retired: Sequence[Reference] = ()  #: all objects that it replaces
    look: Look | None = None  #: how to get at pixels; None: pictures are captions alone


def compose(
    prediction: Prediction,
    mask: Labels | None,
    sources: Sequence[Dataset],
    node: NodeIdentity,
    made_at: datetime,
    order: Order | None = None,
) -> list[Composed]:
    """The objects of the kinds ordered, as far as there is something to say in them; always a report if one is ordered.

    ``mask`` is the prediction's label map (frames, rows, columns). ``sources`` are the headers of the series, pixels
    not needed. ``made_at`` is kept with the prediction, so that composing again gives the same bytes. Raises Rejected
    for mixed patients, for a mask that does not fit, and for any fault that the checker finds.
    """
    origin = source.read(sources)
    _require_same_series(prediction, origin)
    naming = Naming(prediction=prediction, node=node, made_at=made_at)
    composition = _Composition(naming, origin, _usable(prediction, mask, origin), order or Order())
    return _faultless(prediction, composition.made())


class _Composition:
    """The objects of one prediction while they are made, one after the other."""

    def __init__(self, naming: Naming, origin: source.Source, labels: Labels | None, order: Order) -> None:
        self._naming, self._origin, self._labels, self._order = naming, origin, labels, order
        self._made: list[Composed] = []
        self._remarks = list(origin.remarks)
        self._picture: Picture | None = None
        self._counts = None if labels is None else region.areas(labels, len(naming.prediction.segments))

    def made(self) -> list[Composed]:
        """Make them."""
        steps = {
            profiles.SEG: self._segment,
            profiles.LABELMAP: self._segment,
            profiles.SC: self._capture,
            profiles.SR: self._report,
            profiles.SR_COMPREHENSIVE: self._report,
            profiles.PDF: self._page,
            profiles.KEY_OBJECTS: self._select,
            profiles.REJECTION: self._reject,
        }
        for kind in profiles.KINDS:
            if kind in self._order.kinds:
                steps[kind](kind)
        return self._made

    def _keep(self, kind: str, dataset: Dataset, frames: Frames | None = None) -> None:
        self._made.append(Composed(kind=kind, dataset=dataset, frames=frames))

    def _segment(self, kind: str) -> None:
        if self._labels is None or self._counts is None:
            return
        try:
            written = segmentation(self._naming, self._origin, self._labels, self._counts, kind)
        except NoSegmentation as why:
            self._remark(f"No segmentation object is sent: {why}.")
            return
        self._keep(kind, written.header, written.frames)

    def _capture(self, kind: str) -> None:
        self._keep(kind, capture(self._naming, self._origin, self._drawn()))

    def _report(self, kind: str) -> None:
        circumstance = self._circumstance(kind)
        if self._labels is None or self._counts is None:
            self._keep(kind, text_report(circumstance))
        else:
            self._keep(kind, measurement_report(circumstance, self._labels, self._counts))

    def _page(self, kind: str) -> None:
        self._keep(kind, summary(self._circumstance(kind), self._drawn().bare))

    def _select(self, kind: str) -> None:
        prediction = self._naming.prediction
        found = [f.condition.meaning for f in prediction.findings if f.presence is Presence.PRESENT]
        if prediction.mask is None or self._labels is None or self._counts is None or not found:
            return
        numbers = {f.segment for f in prediction.findings if f.presence is Presence.PRESENT}
        shown = [s.number for s in prediction.segments if s.number in numbers or None in numbers]
        frames = sorted({int(np.argmax(self._counts[:, number])) for number in shown if self._counts[:, number].any()})
        if frames:
            sentence = f"{self._naming.description}: {', '.join(found)}"
            chosen = [prediction.mask.frames[index] for index in frames]
            self._keep(kind, of_interest(self._naming, self._origin, chosen, sentence))

    def _reject(self, kind: str) -> None:
        if self._order.retired:
            self._keep(kind, rejection(self._naming, self._origin, self._order.retired))

    def _drawn(self) -> Picture:
        """The picture, drawn once."""
        if self._picture is None:
            self._picture = self._draw()
        return self._picture

    def _draw(self) -> Picture:
        prediction, mask = self._naming.prediction, self._naming.prediction.mask
        frame, marked, place = _middle(self._origin), None, ""
        index = None if self._counts is None else region.key_frame(self._counts)
        if mask is not None and self._labels is not None and index is not None:
            frame, marked = mask.frames[index], self._labels[index]
            place = f"Image {index + 1} of {len(mask.frames)} that were analysed." if len(mask.frames) > 1 else ""
        try:
            if self._order.look is None:
                raise NoPixels("pixels were not at hand")
            pixels, geometry = self._order.look(frame)
            if marked is not None and marked.shape != pixels.shape:
                raise NoPixels("the source has another size than its header says")
        except NoPixels as why:
            self._remark(f"The picture has a caption but no image: {why}.")
            return Picture(image=overlay.blank(prediction), bare=None, frame=frame, sides=overlay.Sides())
        bare = overlay.outlined(prediction, marked, pixels, geometry)
        image = caption.under(bare, prediction, place)
        return Picture(image=image, bare=bare, frame=frame, sides=overlay.sides_of(geometry))

    def _remark(self, sentence: str) -> None:
        if sentence not in self._remarks:
            self._remarks.append(sentence)

    def _circumstance(self, kind: str) -> Circumstance:
        """What a report is made from. The older class goes where segmentations do not: it names none."""
        named = () if kind == profiles.SR_COMPREHENSIVE else (profiles.SEG, profiles.LABELMAP)
        return Circumstance(
            naming=self._naming,
            source=self._origin,
            made=tuple(one.dataset for one in self._made if one.kind in named),
            predecessors=tuple(self._order.predecessors),
            remarks=tuple(self._remarks),
            kind=kind,
        )


def _middle(origin: source.Source) -> Frame:
    """An image that speaks for the series."""
    image = origin.images[len(origin.images) // 2]
    frames = int(image.get("NumberOfFrames", 1))
    many = frames > 1 or "PerFrameFunctionalGroupsSequence" in image
    return Frame(
        sop_instance_uid=str(image.SOPInstanceUID),
        sop_class_uid=str(image.SOPClassUID),
        number=frames // 2 + 1 if many else None,
    )


def _require_same_series(prediction: Prediction, origin: source.Source) -> None:
    if (prediction.study_uid, prediction.series_uid) != (origin.study_uid, origin.series_uid):
        raise Rejected(
            f"prediction {prediction.key} is of series {prediction.series_uid}, "
            f"but the source objects are of {origin.series_uid}: no result can be filed"
        )


def _usable(prediction: Prediction, mask: Labels | None, origin: source.Source) -> Labels | None:
    """The mask if it has geometry to show; None where the result is words only. Raises Rejected where it misfits."""
    if mask is None or prediction.mask is None:
        if prediction.mask is not None:
            raise Rejected(f"the mask of prediction {prediction.key} was not given: its blob is missing")
        return None
    stated, frames = prediction.mask.shape, prediction.mask.frames
    if mask.dtype != np.uint8 or mask.shape != stated or len(frames) != len(mask):
        raise Rejected(
            f"the mask of prediction {prediction.key} is {mask.dtype} {mask.shape}, "
            f"stated are {stated} and {len(frames)} frames"
        )
    for uid in {frame.sop_instance_uid for frame in frames}:
        image = origin.image(uid)
        if (image.get("Rows"), image.get("Columns")) != mask.shape[1:]:
            raise Rejected(f"image {uid} is {image.get('Rows')} x {image.get('Columns')}, its mask {mask.shape[1:]}")
    numbers = [segment.number for segment in prediction.segments]
    if numbers != list(range(1, len(numbers) + 1)) or int(mask.max(initial=0)) > len(numbers):
        raise Rejected(
            f"segments of prediction {prediction.key} are not numbered from 1 as its mask has them: {numbers}"
        )
    return mask if was_analysed(prediction) and mask.any() else None


def _faultless(prediction: Prediction, made: Sequence[Composed]) -> list[Composed]:
    """The objects that may leave. Raises Rejected where a report or a segmentation may not.

    A faulty picture or page is held back alone: the result itself is in the others.
    """
    kept, grave = [], []
    for one in made:
        found = [f"{one.kind}: {fault}" for fault in faults(one.dataset, one.frames)]
        if not found:
            kept.append(one)
        elif one.kind in profiles.BESIDE:
            log.error("prediction %s goes without its %s: %s", prediction.key, one.kind, "; ".join(found[:5]))
        else:
            grave += found
    if grave:
        shown = "; ".join(grave[:5]) + (f"; and {len(grave) - 5} more" if len(grave) > 5 else "")
        raise Rejected(f"the result of prediction {prediction.key} is faulty and was held back: {shown}")
    return kept
