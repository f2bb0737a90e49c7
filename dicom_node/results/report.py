"""Composes all objects of one prediction, and lets none leave that our own checker faults."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from pydicom.dataset import Dataset

from dicom_node.results import drawing, fitting, profiles, region, source
from dicom_node.results.capture import Picture, as_png, capture
from dicom_node.results.check import faults
from dicom_node.results.derived import derived_images
from dicom_node.results.document import Circumstance, Reference
from dicom_node.results.drawing import Read
from dicom_node.results.frames import Frames, parts
from dicom_node.results.grid import NoSegmentation
from dicom_node.results.identity import Naming, NodeIdentity
from dicom_node.results.key_objects import of_interest, rejection
from dicom_node.results.language import Language, language
from dicom_node.results.looking import Look, NoPixels
from dicom_node.results.page import summary
from dicom_node.results.parametric import parametric_maps
from dicom_node.results.planes import has_square_pixels
from dicom_node.results.presentation import NoPresentation, presentation_state
from dicom_node.results.region import Labels
from dicom_node.results.seg import segmentation
from dicom_node.results.sr import measurement_report
from dicom_node.results.statement import key_frame, was_analysed
from dicom_node.results.text_report import text_report
from dicom_node.results.volumetric import volumetric_report
from storage.facts.errors import Rejected
from storage.facts.prediction import Finding, Frame, Prediction, Presence

log = logging.getLogger(__name__)

#: What a report names as made of the same analysis.
_NAMED = frozenset({profiles.SEG, profiles.LABELMAP, profiles.PARAMETRIC_MAP, profiles.IMAGES})


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    """An object ready to be kept and sent; each kind is in a series of its own."""

    kind: str  #: see profiles
    dataset: Dataset  #: the whole object, or all but its frames
    frames: Frames | None = None

    def parts(self) -> Iterator[bytes]:
        """The Part 10 file, piece by piece."""
        return parts(self.dataset, self.frames)

    def png(self) -> bytes:
        """A picture as a PNG. Raises Rejected for another kind of object."""
        if self.kind not in (profiles.SC, profiles.SC_MAP):
            raise Rejected(f"a {self.kind} is no picture")
        return as_png(self.dataset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to make of a prediction."""

    kinds: Collection[str] = profiles.DEFAULT.kinds
    predecessors: Sequence[Reference] = ()  #: reports that this one replaces
    retired: Sequence[Reference] = ()  #: all objects that it replaces
    look: Look | None = None  #: how to get at pixels; None: pictures are captions alone
    square_only: bool = False  #: no outlines on pixels that are not square: a viewer would draw them at the wrong place
    whole_maps: bool = False  #: parametric maps have a plane for every image
    read: Read | None = None  #: how to get at maps and images; None: none are made
    language: Language = field(default_factory=language)  #: of captions, sentences and meanings


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
    order = order or Order()
    origin = source.read(sources)
    fitting.require_same_series(prediction, origin)
    labels = fitting.usable(prediction, mask, origin)
    fitting.require_places(prediction, origin)
    spoken = order.language.translated(prediction)
    naming = Naming(prediction=spoken, node=node, made_at=made_at, language=order.language)
    return _faultless(prediction, _Composition(naming, origin, labels, order).made())


class _Composition:
    """The objects of one prediction while they are made, one after the other."""

    def __init__(self, naming: Naming, origin: source.Source, labels: Labels | None, order: Order) -> None:
        self._naming, self._origin, self._labels, self._order = naming, origin, labels, order
        self._made: list[Composed] = []
        self._remarks = list(origin.remarks)
        self._picture: Picture | None = None
        self._analysed = was_analysed(naming.prediction)
        self._counts = None if labels is None else region.areas(labels, len(naming.prediction.segments))

    def made(self) -> list[Composed]:
        """Make them."""
        steps = {
            profiles.SEG: self._segment,
            profiles.LABELMAP: self._segment,
            profiles.IMAGES: self._derive,
            profiles.PARAMETRIC_MAP: self._map,
            profiles.SC: self._capture,
            profiles.SC_MAP: self._capture_map,
            profiles.PRESENTATION: self._present,
            profiles.SR: self._report,
            profiles.SR_COMPREHENSIVE: self._report,
            profiles.SR_TEXT: self._tell,
            profiles.SR_VOLUMETRIC: self._report_volumes,
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

    def _derive(self, kind: str) -> None:
        if self._analysed and self._order.read is not None:
            for written in derived_images(self._naming, self._origin, self._order.read):
                self._keep(kind, written.header, written.frames)

    def _map(self, kind: str) -> None:
        prediction = self._naming.prediction
        if not (self._analysed and prediction.heatmaps and self._order.read is not None):
            return
        try:
            for written in parametric_maps(self._naming, self._origin, self._order.read, whole=self._order.whole_maps):
                self._keep(kind, written.header, written.frames)
        except NoSegmentation as why:
            self._remark(f"No parametric map is sent: {why}.")

    def _capture(self, kind: str) -> None:
        self._keep(kind, capture(self._naming, self._origin, self._drawn()))

    def _capture_map(self, kind: str) -> None:
        if not (self._analysed and self._naming.prediction.heatmaps and self._order.read is not None):
            return
        try:
            made = drawing.map_picture(self._circumstance(kind), self._order.look, self._order.read)
        except NoPixels as why:
            self._remark(f"No picture of the map is sent: {why}.")
            return
        self._keep(kind, capture(self._naming, self._origin, made, kind))

    def _present(self, kind: str) -> None:
        if not (self._analysed and self._naming.prediction.detections):
            return
        try:
            self._keep(kind, presentation_state(self._naming, self._origin))
        except NoPresentation as why:
            log.info("prediction %s goes without graphics: %s", self._naming.prediction.key, why)

    def _report(self, kind: str) -> None:
        located = self._labels is not None or (self._analysed and bool(self._naming.prediction.detections))
        if located and self._order.square_only and not has_square_pixels(self._origin.images):
            self._remark(self._order.language.say("not_square"))
            located = False
        if located:
            self._keep(kind, measurement_report(self._circumstance(kind), self._labels, self._counts))
        else:
            self._tell(kind)

    def _tell(self, kind: str) -> None:
        self._keep(kind, text_report(self._circumstance(kind), marked=self._labels is not None))

    def _report_volumes(self, kind: str) -> None:
        if self._analysed:
            made = volumetric_report(self._circumstance(kind), self._labels, self._counts)
            if made is not None:
                self._keep(kind, made)

    def _page(self, kind: str) -> None:
        self._keep(kind, summary(self._circumstance(kind), self._drawn().bare))

    def _select(self, kind: str) -> None:
        prediction = self._naming.prediction
        present = [f for f in prediction.findings if f.presence is Presence.PRESENT]
        said = [*(f.condition.meaning for f in present), *(one.label for one in prediction.detections)]
        chosen = self._key_frames(present) if self._analysed else []
        if chosen:
            sentence = f"{self._naming.description}: {', '.join(dict.fromkeys(said))}"
            self._keep(kind, of_interest(self._naming, self._origin, chosen, sentence))

    def _key_frames(self, present: Sequence[Finding]) -> list[Frame]:
        """The images of what was found: key slices of segments, middles of detections, each once."""
        prediction = self._naming.prediction
        chosen = [prediction.frames[key_frame(one)] for one in prediction.detections]
        if prediction.mask is not None and self._counts is not None and present:
            numbers = {f.segment for f in present if f.detection is None}
            counts = self._counts
            shown = [s.number for s in prediction.segments if s.number in numbers or None in numbers]
            places = {int(np.argmax(counts[:, number])) for number in shown if counts[:, number].any()}
            chosen += [prediction.mask.frames[index] for index in sorted(places)]
        return list(dict.fromkeys(chosen))

    def _reject(self, kind: str) -> None:
        if self._order.retired:
            self._keep(kind, rejection(self._naming, self._origin, self._order.retired))

    def _drawn(self) -> Picture:
        """The picture, drawn once."""
        if self._picture is None:
            circumstance = self._circumstance(profiles.SC)
            shown = drawing.scene(circumstance, self._labels, self._counts)
            try:
                self._picture = drawing.picture(circumstance, shown, self._order.look)
            except NoPixels as why:
                self._remark(f"The picture has a caption but no image: {why}.")
                self._picture = drawing.words_alone(circumstance, shown)
        return self._picture

    def _remark(self, sentence: str) -> None:
        if sentence not in self._remarks:
            self._remarks.append(sentence)

    def _circumstance(self, kind: str) -> Circumstance:
        """What a report is made from. The older classes go where segmentations do not: they name none."""
        named = () if kind in (profiles.SR_COMPREHENSIVE, profiles.SR_TEXT) else _NAMED
        return Circumstance(
            naming=self._naming,
            source=self._origin,
            made=tuple(one.dataset for one in self._made if one.kind in named),
            predecessors=tuple(self._order.predecessors),
            remarks=tuple(self._remarks),
            kind=kind,
        )


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
