"""Pictures show the right side on the right side, in the right proportions, with what was marked where it is."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from dicom_node.results import overlay
from tests import builders


def geometry(orientation: Sequence[float] = builders.AXIAL, spacing: Sequence[float] = (1.0, 1.0)) -> Dataset:
    ds = Dataset()
    ds.Modality, ds.PhotometricInterpretation = "CT", "MONOCHROME2"
    ds.ImageOrientationPatient, ds.PixelSpacing = list(orientation), list(spacing)
    return ds


def shown(ds: Dataset, marked: np.ndarray | None, pixels: np.ndarray, size: int = 128) -> np.ndarray:
    sources = builders.slices(3)
    prediction = builders.prediction(sources, builders.two_blobs((3, 40, 48)))
    png = overlay.picture(prediction, marked, pixels.astype(np.float32), ds, size=size)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


@pytest.mark.parametrize(
    ("orientation", "sides", "flips"),
    [
        (builders.AXIAL, "RLAP", (False, False)),
        ((-1, 0, 0, 0, 1, 0), "RLAP", (True, False)),
        ((1, 0, 0, 0, -1, 0), "RLAP", (False, True)),
        (builders.CORONAL, "RLHF", (False, False)),
        ((1, 0, 0, 0, 0, 1), "RLHF", (False, True)),
        (builders.SAGITTAL, "APHF", (False, False)),
        ((0, -1, 0, 0, 0, -1), "APHF", (True, False)),
        (builders.OBLIQUE, "RLAP", (False, False)),
    ],
)
def test_sides_follow_from_the_orientation(orientation: Sequence[float], sides: str, flips: tuple[bool, bool]) -> None:
    found = overlay.sides_of(geometry(orientation))
    assert found.left + found.right + found.top + found.bottom == sides
    assert (found.flip_columns, found.flip_rows) == flips


def test_projections_are_marked_by_patient_orientation_or_not_at_all() -> None:
    ds = builders.radiograph()
    assert overlay.sides_of(ds).right == "L"
    ds.PatientOrientation = ["R", "F"]
    assert overlay.sides_of(ds) == overlay.Sides(flip_columns=True, right="L", bottom="F")
    del ds.PatientOrientation
    assert overlay.sides_of(ds) == overlay.Sides()


@pytest.mark.parametrize("orientation", [builders.AXIAL, (-1, 0, 0, 0, 1, 0)])
def test_patient_left_is_on_the_right_of_the_picture(orientation: Sequence[float]) -> None:
    pixels = np.full((64, 64), -1000.0)
    patient_left = slice(44, 56) if orientation[0] > 0 else slice(8, 20)
    pixels[26:38, patient_left] = 1000.0
    image = shown(geometry(orientation), None, pixels)
    assert image[64, 100].min() > 200
    assert image[64, 28].max() < 60


def test_the_tint_lies_on_what_was_marked() -> None:
    pixels, marked = np.zeros((64, 64)), np.zeros((64, 64), np.uint8)
    marked[16:48, 8:24] = 1
    image = shown(geometry(), marked, pixels)
    red, _, blue = image[64, 32]
    assert blue > red + 20
    assert len(set(image[64, 70].tolist())) == 1
    assert tuple(image[64, 16]) != tuple(image[64, 32])


@pytest.mark.parametrize("spacing", [(2.0, 1.0), (1.0, 2.0)])
def test_a_millimetre_is_as_long_across_as_down(spacing: tuple[float, float]) -> None:
    pixels = np.full((50, 50), 1000.0)
    image = shown(geometry(spacing=spacing), None, pixels, size=200)
    lit = (image.min(axis=2) == 255)[: 200 if spacing[0] > 1 else 100]  # side markers are outlined in black
    tall, wide = lit[:, 80].sum(), lit[20].sum()
    assert tall / wide == pytest.approx(spacing[0] / spacing[1], rel=0.15)


def test_lungs_get_the_lung_window_and_monochrome1_is_inverted() -> None:
    pixels, marked = np.full((64, 64), -850.0), np.zeros((64, 64), np.uint8)
    assert shown(geometry(), marked, pixels)[30, 30].max() == 0
    marked[20:40, 20:40] = 1
    assert shown(geometry(), marked, pixels)[20, 20].min() > 50
    ds = builders.radiograph()
    ds.PhotometricInterpretation = "MONOCHROME1"
    ramp = np.tile(np.linspace(0, 4000, 50), (60, 1))
    image = shown(ds, None, ramp)
    assert image[30, 20].mean() > image[30, 100].mean()


def test_the_caption_is_below_and_grows_with_what_there_is_to_say() -> None:
    image = shown(geometry(), None, np.zeros((64, 64)), size=512)
    assert image.shape[1] == 512
    assert image.shape[0] >= 512 + 5 * 20
    assert (image[512:] > 180).any(axis=2).sum() > 500


def test_the_key_frame_is_the_one_that_shows_most() -> None:
    labels = builders.two_blobs()
    assert overlay.key_frame(labels, 2) == int(np.argmax((labels > 0).sum(axis=(1, 2))))
    assert overlay.key_frame(labels * 0, 2) is None


def frames_in(image: np.ndarray) -> np.ndarray:
    """Where the picture is white."""
    return (image[:256] == 255).all(axis=2)


@pytest.mark.parametrize(("row", "column", "corner"), [(12, 12, (1, 1)), (50, 50, (0, 0)), (12, 50, (0, 1))])
def test_what_is_small_is_magnified_in_the_farthest_corner(row: int, column: int, corner: tuple[int, int]) -> None:
    pixels, marked = np.zeros((64, 64)), np.zeros((64, 64), np.uint8)
    marked[row : row + 3, column : column + 3] = 1
    image = shown(geometry(), marked, pixels, size=256)
    white = frames_in(image)
    side = round(0.36 * 256) + 4
    left, top = (256 - side - 4 if corner[0] else 4), (256 - side - 4 if corner[1] else 4)
    assert white[top, left : left + side].all()
    assert white[top : top + side, left].all()
    blue = np.array(builders.segments()[0].colour)
    inset = image[top : top + side, left : left + side]
    assert (np.abs(inset - blue).max(axis=2) < 8).sum() > 40


def test_what_is_large_is_not_magnified() -> None:
    pixels, marked = np.zeros((64, 64)), np.zeros((64, 64), np.uint8)
    marked[16:48, 8:24] = 1
    white = frames_in(shown(geometry(), marked, pixels, size=256))
    assert not white.all(axis=1).any()
    assert white.sum() < 300  # the side markers


def lesion(ground: float, contrast: float, **header: str) -> tuple[Dataset, np.ndarray, np.ndarray]:
    """A CT of one value with a small square that differs from it."""
    ds = geometry()
    ds.Modality = "CT"
    for keyword, value in header.items():
        setattr(ds, keyword, value)
    marked = np.zeros((64, 64), np.uint8)
    marked[30:33, 30:33] = 1
    return ds, marked, np.where(marked > 0, ground + contrast, ground)


def test_a_head_is_shown_in_the_window_of_the_brain() -> None:
    ds, _, pixels = lesion(20, 40, BodyPartExamined="HEAD")
    head = shown(ds, None, pixels).astype(int)
    del ds.BodyPartExamined
    body = shown(ds, None, pixels).astype(int)
    assert np.ptp(head[40:80, 40:80, 0]) > 2 * np.ptp(body[40:80, 40:80, 0]) > 0


@pytest.mark.parametrize("ground", [-2000, 3000])
def test_what_no_window_of_a_tissue_would_show_is_shown_all_the_same(ground: float) -> None:
    ds, marked, pixels = lesion(ground, 200)
    pixels[:8] += 100  # else all percentiles are one
    for given in (marked, None) if ground < 0 else (marked,):
        picture = shown(ds, given, pixels)[:120, :120]
        assert np.ptp(picture[20:60, 2:30].astype(int)) > 40


def test_a_faint_lesion_is_magnified_with_a_contrast_of_its_own() -> None:
    ds, marked, pixels = lesion(40, 15)
    picture = shown(ds, marked, pixels, size=512)
    inset = picture[330:500, 330:500].astype(int)
    assert np.ptp(inset[..., 0]) > 150
