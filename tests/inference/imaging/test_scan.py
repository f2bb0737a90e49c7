"""What the quick reading of plain files finds is what pydicom finds; all else it leaves alone."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from inference.imaging.pixels import stored_frames
from inference.imaging.planes import READ
from inference.imaging.scan import numbers_of, scan, tags_of
from tests import builders

WANTED = tags_of(READ)
NUMBERS = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "Rows", "SliceThickness")


def slice_with_everything() -> Dataset:
    """A CT slice with private elements and sequences of stated and unstated length within each other."""
    ds = builders.slices(3, 6, 5)[1]
    inner, outer = Dataset(), Dataset()
    inner.CodeValue, inner.Rows = "1", 9
    outer.ReferencedSOPInstanceUID, outer.PurposeOfReferenceCodeSequence = "1.2.3", [inner, inner]
    outer["PurposeOfReferenceCodeSequence"].is_undefined_length = True
    outer.is_undefined_length_sequence_item = True
    ds.ReferencedImageSequence = [outer, Dataset()]
    ds["ReferencedImageSequence"].is_undefined_length = True
    ds.SourceImageSequence = [outer]
    ds.add_new(0x00091001, "OB", b"\0\1" * 40)
    ds.add_new(0x00090010, "LO", "MAKER")
    ds.AcquisitionNumber, ds.EchoTime, ds.ConvolutionKernel = 3, "2.460", ["B30f", "x"]
    ds.PixelPaddingValue = -2000
    return ds


def saved(folder: Path, ds: Dataset, syntax: str) -> Path:
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    path = folder / "a.dcm"
    pydicom.dcmwrite(
        path, ds, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True, enforce_file_format=True
    )
    return path


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_plain_files_are_read_as_pydicom_reads_them(tmp_path: Path, syntax: str) -> None:
    path = saved(tmp_path, slice_with_everything(), syntax)

    found = scan(path, WANTED)

    expected = pydicom.dcmread(path, specific_tags=list(READ))
    assert found is not None
    assert [e.tag for e in found.dataset()] == [e.tag for e in expected if e.tag != 0x7FE00010]
    for element in found.dataset():
        assert element.value == expected[element.tag].value, element.keyword
    for keyword in NUMBERS:
        value = expected[keyword].value
        assert numbers_of(found, keyword) == tuple(map(float, value if hasattr(value, "__iter__") else [value]))
    [(index, pixels, padding)] = stored_frames(path, [0])
    np.testing.assert_array_equal(pixels, pydicom.dcmread(path).pixel_array)
    assert index == 0
    assert padding is not None
    assert not padding.any()


def test_a_number_that_is_none_is_no_silence(tmp_path: Path) -> None:
    ds = slice_with_everything()
    ds.RescaleSlope = "1.234567"
    path = saved(tmp_path, ds, ExplicitVRLittleEndian)
    path.write_bytes(path.read_bytes().replace(b"1.234567", b"ten     "))

    found = scan(path, WANTED)

    assert found is not None
    with pytest.raises(ValueError, match="ten"):
        numbers_of(found, "RescaleSlope")
    assert numbers_of(found, "PatientOrientation") is None


def test_what_is_not_plain_is_left_to_pydicom(tmp_path: Path) -> None:
    enhanced = builders.enhanced()
    assert scan(saved(tmp_path, enhanced, ExplicitVRLittleEndian), WANTED) is None  # its groups are wanted
    deflated = saved(tmp_path, builders.slices(3)[0], DeflatedExplicitVRLittleEndian)
    assert scan(deflated, WANTED) is None
    plain = saved(tmp_path, builders.slices(3)[0], ExplicitVRLittleEndian)
    content = plain.read_bytes()
    for size in (0, 100, 131, 140, 300, 700):
        plain.write_bytes(content[:size])
        assert scan(plain, WANTED) is None


def test_a_compressed_object_has_a_plain_header(tmp_path: Path) -> None:
    ds = builders.slices(3)[0]
    ds.compress(RLELossless, generate_instance_uid=False)
    path = tmp_path / "a.dcm"
    ds.save_as(path, enforce_file_format=True)

    found = scan(path, WANTED)

    assert found is not None
    assert found.dataset().ImagePositionPatient == ds.ImagePositionPatient
    [(_, pixels, _)] = stored_frames(path, [0])
    np.testing.assert_array_equal(pixels, pydicom.dcmread(path).pixel_array)


@pytest.mark.shared_data
def test_of_hostile_files_nothing_is_said_that_pydicom_does_not_say(shared_data: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(shared_data / "nasty.zip") as archive:
        archive.extractall(tmp_path)
    compared = 0
    for path in sorted(p for p in tmp_path.rglob("*") if p.is_file()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                expected = pydicom.dcmread(path, stop_before_pixels=True)
            except (InvalidDicomError, EOFError, ValueError, RecursionError, OSError, LookupError):
                continue
            found = scan(path, WANTED)
            for element in found.dataset() if found is not None else ():
                compared += 1
                assert str(element.value) == str(expected[element.tag].value), (path.name, element.keyword)
    assert compared > 200
