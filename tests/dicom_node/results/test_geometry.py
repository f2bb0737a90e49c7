"""A mask drawn at known places in the patient comes back at these places, through every reader, whatever the order."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import random
import subprocess
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.results.planes import in_patient
from dicom_node.results.report import Order, compose
from storage.facts.errors import Rejected
from storage.facts.prediction import Segment
from tests import builders
from tests.dicom_node.results import finding
from tests.dicom_node.results.making import NODE, items, looking, made, ordered, through_bytes, tool

#: Every pair of patient axes, in both senses: the 24 turns of a cube and their mirror images along the stack.
AXES = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)]
ORIENTATIONS = [
    (*(s * v for v in AXES[first]), *(t * v for v in AXES[second]))
    for first, second in itertools.permutations(range(3), 2)
    for s, t in itertools.product((1.0, -1.0), repeat=2)
]
ORDERS = ("along", "against", "shuffled")
SPOT_MM = 4.0  #: radius of what is drawn


def series(orientation: tuple[float, ...], order: str) -> list[Dataset]:
    made_of = builders.slices(6, 16, 20, orientation=orientation)
    if order == "against":
        return made_of[::-1]
    if order == "shuffled":
        random.Random(4).shuffle(made_of)
    return made_of


def places(ds: Dataset) -> npt.NDArray[np.float64]:
    """Where the centre of every pixel lies, rows x columns x 3, mm, from the header alone (PS3.3 C.7.6.2.1.1)."""
    rows, columns = np.indices((ds.Rows, ds.Columns))
    along, down = np.array(ds.ImageOrientationPatient[:3], float), np.array(ds.ImageOrientationPatient[3:], float)
    apart = [float(v) for v in ds.PixelSpacing]
    return (
        np.array(ds.ImagePositionPatient, float)
        + columns[..., None] * apart[1] * along
        + rows[..., None] * apart[0] * down
    )


def drawn(sources: list[Dataset]) -> tuple[builders.Labels, npt.NDArray[np.float64]]:
    """A ball off the centre in patient coordinates, and where its middle is."""
    middle = places(sources[0])[5, 13]
    middle = (
        middle + np.array(sources[2].ImagePositionPatient, float) - np.array(sources[0].ImagePositionPatient, float)
    )
    ball = [np.linalg.norm(places(ds) - middle, axis=-1) <= SPOT_MM for ds in sources]
    return np.array(ball).astype(np.uint8), middle


def segmented(sources: list[Dataset], kind: str = "seg") -> tuple[Dataset, builders.Labels]:
    labels, _ = drawn(sources)
    one = builders.prediction(sources, labels, segments=builders.segments()[:1])
    return ordered(one, labels, sources, kinds=[kind])[kind], labels


def cloud(labels: npt.NDArray[np.generic], sources: list[Dataset]) -> set[tuple[float, ...]]:
    """The places of all pixels that are set."""
    found = [places(ds)[plane > 0] for plane, ds in zip(labels, sources, strict=True)]
    return {tuple(np.round(place, 2) + 0.0) for place in np.concatenate(found)}


def read_by_ourselves(seg: Dataset) -> set[tuple[float, ...]]:
    """From the frames' own positions, with nothing of the source."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    found: set[tuple[float, ...]] = set()
    for frame, plane in zip(seg.PerFrameFunctionalGroupsSequence, np.atleast_3d(seg.pixel_array), strict=True):
        geometry = Dataset()
        for item in (
            shared.PixelMeasuresSequence[0], shared.PlaneOrientationSequence[0], frame.PlanePositionSequence[0],
        ):  # fmt: skip
            geometry.update(item)
        rows, columns = np.nonzero(plane)
        where = in_patient(geometry, np.stack([columns, rows], axis=1).astype(np.float64))
        assert where is not None
        found |= {tuple(np.round(place, 2) + 0.0) for place in where}
    return found


@pytest.mark.parametrize(
    ("orientation", "order"),
    [(one, ORDERS[number % 3]) for number, one in enumerate(ORIENTATIONS)],
    ids=lambda given: given if isinstance(given, str) else str(given),
)
def test_a_ball_stays_where_it_is_for_highdicom_and_for_us(
    orientation: tuple[float, ...], order: str, tmp_path: Path
) -> None:
    sources = series(orientation, order)
    seg, labels = segmented(sources)
    assert read_by_ourselves(seg) == cloud(labels, sources)
    seg.save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    volume = highdicom.seg.segread(tmp_path / "seg.dcm").get_volume(combine_segments=True)
    indices = np.argwhere(volume.array > 0)
    found = {tuple(np.round(place, 2) + 0.0) for place in volume.map_indices_to_reference(indices)}
    assert found == cloud(labels, sources)


@pytest.mark.parametrize("kind", ["seg", "seg-labelmap"])
@pytest.mark.parametrize("orientation", [builders.AXIAL, builders.CORONAL, builders.SAGITTAL, builders.OBLIQUE])
def test_a_ball_stays_where_it_is_for_dcmqi(kind: str, orientation: tuple[float, ...], tmp_path: Path) -> None:
    sources = series(orientation, "shuffled")
    seg, labels = segmented(sources, kind)
    seg.save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    ran = subprocess.run(
        [tool("segimage2itkimage"), "--inputDICOM", tmp_path / "seg.dcm", "--outputDirectory", tmp_path, "-t", "nrrd"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    expected = np.array(sorted(cloud(labels, sources)))
    found = np.array(sorted(read_nrrd(next(tmp_path.glob("*.nrrd")))))
    assert len(found) == len(expected)
    apart = np.linalg.norm(found[:, None] - expected[None], axis=-1).min(axis=1)
    assert apart.max() < 0.02


def read_nrrd(path: Path) -> set[tuple[float, ...]]:
    """Places of what is set in an NRRD file (left, posterior, superior), mm."""
    head, _, body = path.read_bytes().partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
    assert fields["space"] == "left-posterior-superior"
    sizes = [int(v) for v in fields["sizes"].split()]
    raw = gzip.decompress(body) if fields["encoding"] == "gzip" else body
    kind = {"unsigned char": np.uint8, "uint8": np.uint8, "short": np.int16, "unsigned short": np.uint16}[
        fields["type"]
    ]
    array = np.frombuffer(raw, kind).reshape(sizes[::-1])
    axes = np.array([json.loads(f"[{v.strip('()')}]") for v in fields["space directions"].split()])
    origin = np.array(json.loads(f"[{fields['space origin'].strip('()')}]"))
    return {tuple(origin + index[::-1] @ axes) for index in np.argwhere(array > 0)}


@pytest.mark.parametrize("orientation", ORIENTATIONS[::3], ids=str)
def test_values_of_a_map_stay_where_they_are(orientation: tuple[float, ...]) -> None:
    for order in ORDERS[1:]:
        sources = series(orientation, order)
        _, middle = drawn(sources)
        values = np.array([np.exp(-(np.linalg.norm(places(ds) - middle, axis=-1) ** 2) / 18) for ds in sources])
        store = finding.Store()
        array = store.keep(np.where(values < 0.02, 0, values).astype(np.float32))
        prediction, _ = finding.everything(sources)
        [heatmap, *_] = prediction.heatmaps
        one = finding.found(sources, heatmaps=(replace(heatmap, array=array),))
        pmap = ordered(one, None, sources, kinds=["pmap"], read=store.read)["pmap"]
        shared = pmap.SharedFunctionalGroupsSequence[0]
        pixels = np.frombuffer(pmap.FloatPixelData, "<f4").reshape(-1, pmap.Rows, pmap.Columns)
        frame, row, column = np.unravel_index(int(pixels.argmax()), pixels.shape)
        geometry = Dataset()
        position = pmap.PerFrameFunctionalGroupsSequence[int(frame)].PlanePositionSequence[0]
        for item in (shared.PixelMeasuresSequence[0], shared.PlaneOrientationSequence[0], position):
            geometry.update(item)
        where = in_patient(geometry, np.array([[float(column), float(row)]]))
        assert where is not None
        assert np.linalg.norm(where[0] - middle) < 0.01


@pytest.mark.parametrize("orientation", ORIENTATIONS[::5], ids=str)
def test_derived_images_lie_on_the_planes_of_their_source(orientation: tuple[float, ...]) -> None:
    sources = series(orientation, "shuffled")
    prediction, read = finding.everything(sources)
    order = Order(kinds=("image",), read=read)
    images = [through_bytes(one) for one in compose(prediction, None, sources, NODE, builders.MADE_AT, order)]
    values = read(prediction.images[0].array)
    assert len({ds.SOPInstanceUID for ds in images}) == len(sources)
    assert {ds.SeriesInstanceUID for ds in images}.isdisjoint({ds.SeriesInstanceUID for ds in sources})
    for image, source, expected in zip(images, sources, values, strict=True):
        assert image.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert np.allclose(places(image), places(source), atol=1e-6)
        assert image.FrameOfReferenceUID == source.FrameOfReferenceUID
        assert np.array_equal(image.pixel_array, expected)
        assert (image.RescaleSlope, image.RescaleIntercept) == (1, -1024)


def test_graphics_and_boxes_of_the_report_are_at_the_same_pixels() -> None:
    sources = builders.slices()
    prediction = finding.found(sources)
    objects = ordered(prediction, None, sources, kinds=["sr", "gsps"])
    outlines = {tuple(item.GraphicData) for item in items(objects["sr"]) if item.get("GraphicType") == "POLYLINE"}
    drawn_on = [
        tuple(graphic.GraphicData)
        for annotation in objects["gsps"].GraphicAnnotationSequence
        for graphic in annotation.GraphicObjectSequence
        if graphic.GraphicType == "POLYLINE"
    ]
    assert len(drawn_on) == 3
    assert set(drawn_on) <= outlines


def test_more_segments_than_a_mask_has_numbers_for_are_refused_with_a_reason() -> None:
    sources = builders.slices(2)
    labels = np.zeros((2, 40, 48), np.uint16)
    labels[0, 3:9, 3:9] = 300
    one = builders.prediction(sources, labels)  # type: ignore[arg-type]
    with pytest.raises(Rejected, match="uint16"):
        made(one, labels, sources)  # type: ignore[arg-type]


def test_255_segments_come_back_as_they_were(tmp_path: Path) -> None:
    sources = builders.slices(2)
    labels = np.zeros((2, 40, 48), np.uint8)
    labels.ravel()[:255] = np.arange(1, 256)
    kinds = [
        Segment(number=n, label=f"Part {n}", category=builders.STRUCTURE, type=builders.LUNG, colour=(n, 0, 255 - n))
        for n in range(1, 256)
    ]
    one = builders.prediction(sources, labels, segments=tuple(kinds))
    made_of = ordered(one, labels, sources, kinds=["seg-labelmap"])["seg-labelmap"]
    made_of.save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    found = dcmread(tmp_path / "seg.dcm")
    assert np.array_equal(found.pixel_array, labels[0])
    assert [segment.SegmentNumber for segment in found.SegmentSequence] == list(range(1, 256))


def test_the_picture_has_left_on_its_right_whatever_the_order_of_pixels() -> None:
    for orientation in ((1.0, 0, 0, 0, 1.0, 0), (-1.0, 0, 0, 0, -1.0, 0), (-1.0, 0, 0, 0, 0, 1.0)):
        sources = builders.slices(3, 40, 40, orientation=orientation)
        for ds in sources:
            ds.PixelSpacing = [1.0, 1.0]
            left = places(ds)[..., 0]
            values = np.where(left > np.median(left), 1200, 800).astype(np.int16)  # brighter on the patient's left
            builders.pixels(ds, values)
        order = Order(kinds=("sc",), look=looking(sources))
        [picture] = compose(finding.found(sources), None, sources, NODE, builders.MADE_AT, order)
        shown = np.asarray(Image.open(io.BytesIO(picture.png())).convert("L"), float)[100:400]
        assert shown[:, 300:490].mean() > shown[:, 20:210].mean() + 50
