"""What OHIF shows of our results. Run before a release by ``make viewers``; skipped where no viewer is given.

That a picture appears proves little: a crashed report leaves the image before it on the screen. Colours are therefore
judged at known points of the patient, texts are read from the annotations, and errors from the browser's console.
"""

from __future__ import annotations

import dataclasses
import hashlib
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.misc import is_dicom

from dicom_node.demo import phantom
from dicom_node.results import profiles
from inference.packages.package import Package, open_package
from inference.packages.store import SHIPPED
from inference.pipeline import Outcome, Request, predict
from inference.training.series import write_series
from storage.facts.prediction import Array, Presence, Status
from tests import builders
from tests.dicom_node.results.finding import everything
from tests.viewers.conftest import Desk
from tests.viewers.staging import inside, many_segments, place, results, study, with_mask

pytestmark = pytest.mark.timeout(400)

SHAPE = (12, 128, 160)
ORIENTATIONS: dict[str, Callable[[], list[Dataset]]] = {
    "CT": lambda: builders.slices(*SHAPE),
    "CT oblique, from the head down": lambda: builders.slices(*SHAPE, orientation=builders.OBLIQUE)[::-1],
    "MR sagittal": lambda: builders.slices(*SHAPE, sop_class=builders.MR, orientation=builders.SAGITTAL),
    "MR coronal": lambda: builders.slices(*SHAPE, sop_class=builders.MR, orientation=builders.CORONAL),
}


@pytest.mark.parametrize(("number", "orientation"), list(enumerate(ORIENTATIONS, 1)))
def test_segments_lie_where_they_were_marked_in_their_colours(desk: Desk, number: int, orientation: str) -> None:
    sources = study(number, ORIENTATIONS[orientation]())
    labels = builders.two_blobs(SHAPE)
    desk.store(sources, results(builders.prediction(sources, labels), labels, sources))
    with desk.browser.study(str(sources[0].StudyInstanceUID), f"seg-{number}") as viewer:
        assert sorted(viewer.listed()) == sorted([str(sources[0].Modality), "SEG", "SR"])
        viewer.show("SEG")
        for segment in builders.segments():
            point = inside(labels, segment.number, sources)
            assert viewer.until(lambda p=point, c=segment.colour: viewer.shows(p, c)), segment.label
        assert viewer.is_grey(place(sources[6], 6, 80))
        assert viewer.faults == []


def test_outlines_and_their_numbers_lie_on_the_segment(desk: Desk) -> None:
    sources = study(11, builders.slices(*SHAPE))
    labels = builders.two_blobs(SHAPE)
    desk.store(sources, results(builders.prediction(sources, labels), labels, sources))
    with desk.browser.study(str(sources[0].StudyInstanceUID), "sr") as viewer:
        viewer.show("SR")
        assert viewer.until(lambda: "Volume: 1980.2" in viewer.annotations()), viewer.annotations()
        assert "Probability (Pulmonary emphysema): 0.83" in viewer.annotations()
        # The report leads to the slice in which the second segment is largest.
        frame = int((labels == 2).sum(axis=(1, 2)).argmax())
        rows, columns = (labels[frame] == 2).any(axis=1).nonzero()[0], (labels[frame] == 2).any(axis=0).nonzero()[0]
        left, top = viewer.place(place(sources[frame], rows[0] - 0.5, columns[0] - 0.5))
        right, bottom = viewer.place(place(sources[frame], rows[-1] + 0.5, columns[-1] + 0.5))
        expected, pixel = (left, top, right, bottom), (right - left) / (columns[-1] - columns[0] + 1)
        viewer.shoot()
        assert any(
            all(abs(seen - wanted) <= pixel for seen, wanted in zip(box, expected, strict=True))
            for box in viewer.drawn()
        ), (expected, viewer.drawn())
        assert viewer.faults == []


def test_a_negative_is_read_as_text(desk: Desk) -> None:
    sources = study(12, builders.slices(*SHAPE))
    absent = builders.prediction(sources, findings=(builders.finding(Presence.ABSENT, probability=0.07),))
    desk.store(sources, results(absent, None, sources))
    with desk.browser.study(str(sources[0].StudyInstanceUID), "negative") as viewer:
        viewer.show("SR")
        assert viewer.until(lambda: "areas take up 12.3 % of the lungs." in viewer.words())
        assert "not found" in viewer.words()
        assert viewer.faults == []


@pytest.mark.parametrize("status", [Status.NOT_ATTEMPTED, Status.FAILED])
def test_what_was_not_analysed_says_why(desk: Desk, status: Status) -> None:
    sources = study(13 + (status is Status.FAILED), builders.slices(*SHAPE))
    desk.store(sources, results(builders.failure(sources, status), None, sources))
    with desk.browser.study(str(sources[0].StudyInstanceUID), f"not-analysed-{status.name.lower()}") as viewer:
        viewer.show("SR")
        assert viewer.until(lambda: "Slices are missing: most lie 2.5 mm apart" in viewer.words())
        assert viewer.faults == []


def test_all_of_117_classes_have_their_own_colour(desk: Desk) -> None:
    sources = study(15, builders.slices(*SHAPE))
    labels, segments = many_segments(SHAPE, 117)
    prediction = builders.prediction(sources, labels, segments=segments)
    desk.store(sources, results(prediction, labels, sources))
    with desk.browser.study(str(sources[0].StudyInstanceUID), "117") as viewer:
        viewer.show("SEG")
        for number in (1, 2, 60, 116, 117):
            point, colour = inside(labels, number, sources), segments[number - 1].colour
            assert viewer.until(lambda p=point, c=colour: viewer.shows(p, c)), number
        assert viewer.faults == []


def test_the_colours_of_a_label_map_are_not_shifted(desk: Desk) -> None:
    sources = study(16, builders.slices(*SHAPE))
    labels = builders.two_blobs(SHAPE)
    desk.store(sources, results(builders.prediction(sources, labels), labels, sources, profiles.LABELMAP))
    with desk.browser.study(str(sources[0].StudyInstanceUID), "label-map") as viewer:
        viewer.show("SEG")
        for segment in builders.segments():
            point = inside(labels, segment.number, sources)
            assert viewer.until(lambda p=point, c=segment.colour: viewer.shows(p, c)), segment.label
        assert viewer.faults == []


def test_pictures_and_pages_open(desk: Desk) -> None:
    sources = study(17, builders.slices(*SHAPE))
    labels = builders.two_blobs(SHAPE)
    desk.store(sources, results(builders.prediction(sources, labels), labels, sources, profiles.SC, profiles.PDF))
    with desk.browser.study(str(sources[0].StudyInstanceUID), "picture") as viewer:
        [picture] = [one for one in viewer.listed() if one not in ("CT", "DOC")]
        viewer.show(picture)
        assert viewer.until(lambda: viewer.image_size() != (SHAPE[2], SHAPE[1]))
        assert viewer.image_size()[0] >= 512
        assert viewer.faults == []
        viewer.show("DOC")
        assert viewer.until(lambda: viewer.has("object[type='application/pdf']"))


def test_detections_are_outlined_with_what_is_said_of_each(desk: Desk) -> None:
    sources = study(18, builders.slices(*SHAPE))
    prediction, read = everything(sources, heatmaps=(), images=())
    desk.store(sources, results(prediction, None, sources, read=read))
    with desk.browser.study(str(sources[0].StudyInstanceUID), "detections") as viewer:
        viewer.show("SR")
        assert viewer.until(lambda: "Probability: 0.85" in viewer.annotations()), viewer.annotations()
        assert "Diameter: 6.20 mm" in viewer.annotations()
        for likely in ("(Step A): 0.10", "(Step B): 0.70", "(Step C): 0.15", "(Step D): 0.05"):
            assert f"Probability {likely}" in viewer.annotations()
        box = prediction.detections[0].location
        frame = sources[(SHAPE[0] - 1) // 2]
        left, top = viewer.place(place(frame, box.low[1], box.low[2]))
        right, bottom = viewer.place(place(frame, box.high[1], box.high[2]))
        viewer.shoot()
        pixel = (right - left) / (box.high[2] - box.low[2])
        assert any(
            all(
                abs(seen - wanted) <= 1.5 * pixel
                for seen, wanted in zip(drawn, (left, top, right, bottom), strict=True)
            )
            for drawn in viewer.drawn()
        ), ((left, top, right, bottom), viewer.drawn())
        assert viewer.faults == []


@pytest.mark.parametrize(
    ("number", "orientation"), list(enumerate(["CT", "CT oblique, from the head down", "MR sagittal"], 30))
)
def test_a_map_colours_its_bright_place_and_nothing_else(desk: Desk, number: int, orientation: str) -> None:
    sources = study(number, ORIENTATIONS[orientation]())
    prediction, _ = everything(sources)
    prediction = dataclasses.replace(prediction, heatmaps=prediction.heatmaps[:1], images=())
    values = np.zeros(SHAPE, np.float32)
    values[2:4, 30:60, 40:80] = 0.9  # not in the middle: a map that is upside down would be seen

    def read(_array: Array) -> npt.NDArray[np.float32]:
        return values

    made = results(prediction, None, sources, profiles.PARAMETRIC_MAP, read=read)
    assert [one.kind for one in made] == [profiles.PARAMETRIC_MAP]
    desk.store(sources, made)
    with desk.browser.study(str(sources[0].StudyInstanceUID), f"map-{number}") as viewer:
        viewer.show("PMAP")
        bright = place(sources[3], 45, 60)
        assert viewer.until(lambda: viewer.saturation(bright) > 0.1)
        for dark in (place(sources[3], 90, 60), place(sources[8], 45, 60), place(sources[3], 45, 120)):
            assert viewer.saturation(bright) > 3 * viewer.saturation(dark)
        assert viewer.faults == []


def test_images_that_are_not_square_lose_their_outlines_not_their_numbers(desk: Desk) -> None:
    sources = study(20, builders.slices(*SHAPE))
    for ds in sources:
        ds.PixelSpacing = [0.75, 0.5]
    labels = builders.two_blobs(SHAPE)
    desk.store(sources, results(builders.prediction(sources, labels), labels, sources))
    with desk.browser.study(str(sources[0].StudyInstanceUID), "not-square") as viewer:
        viewer.show("SR")
        assert viewer.until(lambda: "the pixels are not square" in viewer.words())
        assert "2210.4" in viewer.words()
        viewer.show("SEG")
        for segment in builders.segments():
            point = inside(labels, segment.number, sources)
            assert viewer.until(lambda p=point, c=segment.colour: viewer.shows(p, c)), segment.label
        assert viewer.faults == []


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A phantom that the shipped package for lungs takes."""
    folder = tmp_path_factory.mktemp("chest")
    phantom.write(folder, scan=phantom.Scan(matrix=320, step=2.4, slices=125))
    return sorted(folder.rglob("*.dcm"))


def test_the_lungs_of_the_shipped_package_are_shown(desk: Desk, chest: list[Path]) -> None:
    sources = [dcmread(path) for path in chest]
    outcome, planes = masked(open_package(SHIPPED / "ct-lung-densitometry"), sources, chest)
    assert outcome.mask is not None
    prediction = with_mask(outcome)
    desk.store(sources, results(prediction, outcome.mask, sources))
    with desk.browser.study(prediction.study_uid, "lungs") as viewer:
        viewer.show("SEG")
        for segment in prediction.segments:
            point = inside(outcome.mask, segment.number, planes)
            assert viewer.until(lambda p=point, c=segment.colour: viewer.shows(p, c)), segment.label
        viewer.show("SR")
        volume = f"Volume: {prediction.measurements[0].value:.0f}.00 ml"
        assert viewer.until(lambda: volume in viewer.annotations()), (volume, viewer.annotations())
        assert viewer.faults == []


def test_the_nodules_of_the_shipped_package_are_shown(desk: Desk, tmp_path: Path) -> None:
    written = write_series(tmp_path, seed=9_000_002, nodules=2)
    sources = [dcmread(path) for path in written.paths]
    outcome = analysed(open_package(SHIPPED / "phantom-nodule"), sources, written.paths)
    assert len(outcome.prediction.detections) == 2
    kept: dict[str, bytes] = {}

    def put(content: bytes) -> str:
        kept[hashlib.sha256(content).hexdigest()] = content
        return hashlib.sha256(content).hexdigest()

    def read(array: Array) -> npt.NDArray[np.float32]:
        return np.frombuffer(zlib.decompress(kept[array.blob]), array.dtype).reshape(array.shape)

    prediction = outcome.kept(put)
    desk.store(sources, results(prediction, outcome.mask, sources, read=read))
    with desk.browser.study(prediction.study_uid, "nodules") as viewer:
        viewer.show("SR")
        score = f": {prediction.detections[0].score:.2f} 1"
        assert viewer.until(lambda: score in viewer.annotations()), (score, viewer.annotations())
        assert "Probability" in viewer.annotations()
        assert viewer.faults == []


@pytest.fixture(scope="module")
def head(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A real head, T1-weighted."""
    folder = tmp_path_factory.mktemp("head")
    with zipfile.ZipFile(shared_data / "studies" / "mr_t1_studyforrest.zip") as archive:
        archive.extractall(folder)
    return [path for path in sorted(folder.rglob("*")) if is_dicom_file(path)]


@pytest.mark.shared_data
@pytest.mark.filterwarnings("ignore")  # pydicom warns of what archives hold
def test_the_brain_of_a_real_head_is_shown(desk: Desk, head: list[Path], shared_data: Path) -> None:
    places = (Path(__file__).parents[2] / "demo" / "models", shared_data / "models")
    models = next((one for one in places if (one / "brain-t1").is_dir()), None)
    if models is None:
        pytest.skip("the weights of deepbet are not here")
    sources = [dcmread(path) for path in head]
    outcome, planes = masked(open_package(SHIPPED / "brain-t1", models), sources, head)
    assert outcome.mask is not None
    prediction = with_mask(outcome)
    desk.store(sources, results(prediction, outcome.mask, sources))
    with desk.browser.study(prediction.study_uid, "brain") as viewer:
        point = inside(outcome.mask, 1, planes)
        assert viewer.until(lambda: viewer.is_grey(point))
        assert viewer.until(viewer.loaded)  # replaced while it still loads, a stack fails, or has masks of other slices
        viewer.show("SEG")
        assert viewer.until(lambda: viewer.shows(point, prediction.segments[0].colour))
        corner = place(planes[len(planes) // 2], 4, 4)
        assert viewer.until(lambda: viewer.is_grey(corner))  # its slice may still be on the way
        assert viewer.faults == []
    # A session of its own: OHIF fails if it still loads the mask of 384 images.
    with desk.browser.study(prediction.study_uid, "brain-report") as viewer:
        viewer.show("SR")
        volume = f"Volume {prediction.segments[0].measurements[0].value:.0f} mL"
        assert viewer.until(lambda: volume in viewer.words()), (volume, viewer.words()[-500:])
        assert "the pixels are not square" in viewer.words()  # 0.667 by 0.700 mm: a report without outlines
        assert viewer.faults == []


def is_dicom_file(path: Path) -> bool:
    """Whether it is one."""
    return path.is_file() and is_dicom(path)


def analysed(package: Package, sources: Sequence[Dataset], paths: Sequence[Path]) -> Outcome:
    """What a package says of a series, which it must take."""
    first = sources[0]
    study_uid, series_uid = str(first.StudyInstanceUID), str(first.SeriesInstanceUID)
    request = Request(key="k", study_uid=study_uid, series_uid=series_uid, revision=1, paths=tuple(paths))
    outcome = predict(request, package)
    assert outcome.prediction.status is Status.SUCCEEDED, outcome.prediction.reason
    return outcome


def masked(package: Package, sources: Sequence[Dataset], paths: Sequence[Path]) -> tuple[Outcome, list[Dataset]]:
    """The same, and the source of each plane of its mask."""
    outcome = analysed(package, sources, paths)
    ordered = {str(ds.SOPInstanceUID): ds for ds in sources}
    return outcome, [ordered[frame.sop_instance_uid] for frame in outcome.mask_frames]
