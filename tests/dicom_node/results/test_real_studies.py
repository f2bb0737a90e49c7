"""Real headers, as scanners and archives wrote them."""

from __future__ import annotations

import io
import zipfile
from copy import deepcopy
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.results.check import faults
from tests import builders
from tests.dicom_node.results.making import labels_on, made, sentences

pytestmark = [pytest.mark.shared_data, pytest.mark.filterwarnings("ignore")]  # pydicom warns of what archives hold


def headers(archive: Path) -> list[Dataset]:
    with zipfile.ZipFile(archive) as content:
        files = [name for name in sorted(content.namelist()) if not name.endswith("/")]
        data = [content.read(name) for name in files]
    return [dcmread(io.BytesIO(one), stop_before_pixels=True) for one in data if one[128:132] == b"DICM"]


@pytest.mark.parametrize("study", ["mr_t1_enhanced_xa30", "ct_head_tilt_varspacing_ge"])
def test_a_real_series_gets_its_segmentation_on_its_own_planes(shared_data: Path, study: str, tmp_path: Path) -> None:
    sources = headers(shared_data / "studies" / f"{study}.zip")
    labels = labels_on(sources)
    objects = made(builders.prediction(sources, labels), labels, sources)
    assert [fault for ds in objects.values() for fault in faults(ds)] == []
    objects["seg"].save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    how = {"combine_segments": True, "assert_missing_frames_are_empty": True}
    if len(sources) == 1:
        frames = list(range(1, sources[0].NumberOfFrames + 1))
        found = seg.get_pixels_by_source_frame(sources[0].SOPInstanceUID, frames, **how)
    else:
        found = seg.get_pixels_by_source_instance([ds.SOPInstanceUID for ds in sources], **how)
    assert np.array_equal(found, labels)


def test_a_real_radiograph_gets_a_report_that_says_why_it_has_no_segmentation(shared_data: Path) -> None:
    source = headers(shared_data / "studies" / "cr_chest_6_rsna_nih.zip")[0]
    labels = builders.two_blobs((5, source.Rows, source.Columns))[2:3]
    objects = made(builders.prediction([source], labels), labels, [source])
    assert list(objects) == ["sr"]
    assert any("no frame of reference" in sentence for sentence in sentences(objects["sr"]))


def test_a_real_enhanced_mr_in_two_objects_gets_one_segmentation(shared_data: Path, tmp_path: Path) -> None:
    [whole] = headers(shared_data / "studies" / "mr_t1_enhanced_xa30.zip")
    sources = [deepcopy(whole) for _ in range(2)]
    frames, cut = whole.PerFrameFunctionalGroupsSequence, 30
    for number, (source, groups) in enumerate(zip(sources, (frames[:cut], frames[cut:]), strict=True), 1):
        source.SOPInstanceUID = f"{whole.SOPInstanceUID}.{number}"
        source.PerFrameFunctionalGroupsSequence, source.NumberOfFrames = groups, len(groups)
    labels = labels_on(sources)

    objects = made(builders.prediction(sources, labels), labels, sources)

    assert [fault for ds in objects.values() for fault in faults(ds)] == []
    objects["seg"].save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    for source, wanted in zip(sources, (labels[:cut], labels[cut:]), strict=True):
        found = seg.get_pixels_by_source_frame(
            source.SOPInstanceUID,
            list(range(1, source.NumberOfFrames + 1)),
            combine_segments=True,
            assert_missing_frames_are_empty=True,
        )
        assert np.array_equal(found, wanted)
