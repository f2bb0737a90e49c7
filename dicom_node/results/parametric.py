"""Says a map of real values as a Parametric Map (PS3.3 A.75) of 32-bit floats on the planes of its source.

A widespread viewer shows no map of integers rightly. Planes before the first and after the last that show anything are
left out, so that what remains is a volume, unless the viewer needs a plane for every image: OHIF 3.13.2 takes those
of a map for those of its source, one by one, and fails where some are missing. highdicom writes an exemplar of two
frames; the frames are written by columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import numpy.typing as npt
from highdicom import VOILUTTransformation
from highdicom.pm import ParametricMap, RealWorldValueMapping
from pydicom.dataset import Dataset

from dicom_node.config import MODEL_NAME
from dicom_node.results import coding
from dicom_node.results.border import highdicom
from dicom_node.results.capture import say_laterality
from dicom_node.results.coding import concept
from dicom_node.results.drawing import Read
from dicom_node.results.frames import Frames, Items
from dicom_node.results.grid import Grid, NoSegmentation, grid
from dicom_node.results.identity import Naming, sign, stamp
from dicom_node.results.normal import as_text
from dicom_node.results.seg import CREATOR, SHOWN, Written, identify, organize, samples, spread
from dicom_node.results.source import Source
from storage.facts.errors import Rejected
from storage.facts.prediction import Code, Heatmap, Shown

Values = npt.NDArray[np.float32]

KIND = "pmap"
LARGEST = 256 * 1024 * 1024  #: bytes of a map with all its planes
_LABELS = {Shown.SALIENCY: "SALIENCY", Shown.UNCERTAINTY: "UNCERTAINTY", Shown.PROBABILITY: "PROBABILITY"}
_ELEMENT = (0x0008, b"OF")  #: Float Pixel Data


def parametric_maps(naming: Naming, source: Source, read: Read, *, whole: bool = False) -> Iterator[Written]:
    """A Parametric Map of each heatmap that is not empty, each for a series of its own; ``whole``: with all its planes.

    Raises grid.NoSegmentation where the source has no grid in the patient, Rejected for values that are no numbers.
    """
    for number, heatmap in enumerate(naming.prediction.heatmaps):
        values = np.asarray(read(heatmap.array), "<f4")
        if not np.isfinite(values).all():
            raise Rejected(f"map {number + 1} of prediction {naming.prediction.key} has values that are no numbers")
        found = grid(source, naming.prediction.frames, values)
        planes = _shown(found)
        if planes and whole:
            if values.nbytes > LARGEST:
                raise NoSegmentation(f"it would have {values.nbytes >> 20} MB, for a viewer needs all of its planes")
            planes = [int(plane) for plane in found.order[::-1]]  # along the normal, as that viewer stacks its source
        if planes:
            yield _map(naming, source, found, planes, number)


def quantity(heatmap: Heatmap) -> Code:
    """What the values are (CID 7180), from the meaning of the map and the name of its method."""
    if heatmap.shown is not Shown.SALIENCY:
        return coding.PROBABILITY if heatmap.shown is Shown.PROBABILITY else coding.UNCERTAIN
    named = heatmap.method.casefold().replace("-", "").replace(" ", "")
    if "gradcam" in named or "gradientweightedclass" in named:
        return coding.GRADIENT_WEIGHTED_CLASS_ACTIVATION
    return coding.CLASS_ACTIVATION if named.startswith(("cam", "classactivation")) else coding.SALIENCY


def _shown(found: Grid) -> list[int]:
    """The planes between the first and the last that show anything, along the normal."""
    order = [int(plane) for plane in found.order]
    some = [rank for rank, plane in enumerate(order) if found.labels[plane].any()]
    return order[some[0] : some[-1] + 1] if some else []


def _map(naming: Naming, source: Source, found: Grid, planes: list[int], number: int) -> Written:
    made = _build(naming, source, found, naming.prediction.heatmaps[number])
    identify(made, source)
    made.setdefault("BodyPartExamined", "")
    say_laterality(made, source)
    item = made.PerFrameFunctionalGroupsSequence[0]
    spread(made, found, planes, stacked=True)
    sign(made, naming, KIND, number)
    made.SeriesDescription = _description(naming, naming.prediction.heatmaps[number])
    organize(made, naming.uid(f"{KIND} dimensions", number))
    stamp(made)
    items = Items(item, found.planes)
    return Written(
        header=made,
        frames=Frames(
            items=[items.item(plane, (rank,), 0) for rank, plane in enumerate(planes, 1)],
            pixels=partial(_pixels, found.labels, planes),
            length=4 * len(planes) * int(found.labels[0].size),
            bits=32,
            element=_ELEMENT,
        ),
    )


def _description(naming: Naming, heatmap: Heatmap) -> str:
    tail = f" {heatmap.shown.value}" + (" (research)" if naming.prediction.algorithm.research else "")
    return naming.description.partition(" (")[0][: 64 - len(tail)] + tail


def _pixels(values: Values, planes: list[int]) -> Iterator[bytes]:
    for plane in planes:
        yield np.ascontiguousarray(values[plane]).tobytes()


def _build(naming: Naming, source: Source, found: Grid, heatmap: Heatmap) -> Dataset:
    prediction, node = naming.prediction, naming.node
    images = samples(source, found)
    with highdicom(f"a map of prediction {prediction.key} cannot be said as a Parametric Map"):
        made: Dataset = ParametricMap(
            source_images=images,
            pixel_array=np.zeros((len(found.first[:SHOWN]), *found.labels.shape[1:]), np.float32),
            series_instance_uid=naming.uid(f"{KIND} series"),
            series_number=1,
            sop_instance_uid=naming.uid(KIND),
            instance_number=1,
            manufacturer=as_text(64)(node.manufacturer),
            manufacturer_model_name=MODEL_NAME,
            software_versions=as_text(64)(node.software_version),
            device_serial_number=as_text(64)(node.serial_number),
            contains_recognizable_visual_features=False,
            real_world_value_mappings=[_mapping(naming, heatmap)],
            voi_lut_transformations=[VOILUTTransformation(window_center=0.5, window_width=1.0)],
            content_label=_LABELS[heatmap.shown],
            content_description=as_text(64)(heatmap.label),
            content_creator_name=CREATOR,
            content_qualification="RESEARCH" if prediction.algorithm.research else "PRODUCT",
        )
    return made


def _mapping(naming: Naming, heatmap: Heatmap) -> RealWorldValueMapping:
    """Values are what they are: from 0 to 1, without a unit."""
    return RealWorldValueMapping(
        lut_label=_LABELS[heatmap.shown],
        lut_explanation=as_text(64)(naming.language.say(f"about_{heatmap.shown.value}")),
        unit=concept(coding.NO_UNITS),
        value_range=(0.0, 1.0),
        slope=1.0,
        intercept=0.0,
        quantity_definition=concept(naming.language.code(quantity(heatmap))),
    )
