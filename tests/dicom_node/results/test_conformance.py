"""Every object is judged by programs that know nothing of ours, for clean sources and for degraded ones."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from tests import builders
from tests.dicom_node.results import degrading
from tests.dicom_node.results.making import FLAT, SOURCES, complaints, dcmtk, made, tool, whole


def sources_of(name: str, degradation: str) -> list[Dataset]:
    return degrading.ANY[degradation](SOURCES[name]())


@pytest.mark.parametrize(
    ("name", "degradation"),
    [
        *((name, "clean") for name in SOURCES),
        *((name, how) for name in ("CT", "MR coronal", "enhanced CT", "CR") for how in ("bare", "malformed")),
    ],
)
def test_dciodvfy_finds_nothing_in_segmentation_and_measurement_report(
    name: str, degradation: str, tmp_path: Path
) -> None:
    objects = whole(sources_of(name, degradation))
    assert list(objects) == (["sr"] if name in FLAT else ["seg", "sr"])
    for one in objects.values():
        assert complaints(one, tmp_path) == []


@pytest.mark.parametrize("degradation", ["clean", "bare", "malformed"])
@pytest.mark.parametrize("name", ["CT", "enhanced MR, nothing shared", "CR"])
def test_dciodvfy_finds_nothing_in_failures_and_negatives(name: str, degradation: str, tmp_path: Path) -> None:
    sources = sources_of(name, degradation)
    for prediction in (builders.failure(sources), builders.prediction(sources)):
        assert complaints(made(prediction, None, sources)["sr"], tmp_path) == []


def test_dciodvfy_would_have_found_something(tmp_path: Path) -> None:
    seg = whole(builders.slices())["seg"]
    del seg.SegmentationType
    assert any("SegmentationType" in line for line in complaints(seg, tmp_path))


def test_dcentvfy_finds_results_and_sources_to_be_of_one_study(tmp_path: Path) -> None:
    sources = builders.slices()
    files = []
    for index, ds in enumerate([*sources, *whole(sources).values()]):
        files.append(tmp_path / f"{index}.dcm")
        ds.save_as(files[-1], enforce_file_format=True)
    ran = subprocess.run([tool("dcentvfy"), *files], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "Error" not in ran.stderr + ran.stdout


@pytest.mark.parametrize("name", ["CT", "enhanced CT", "CR"])
def test_dcmtk_reads_every_report(name: str, tmp_path: Path) -> None:
    dsrdump = dcmtk("dsrdump")
    if dsrdump is None:
        pytest.skip("DCMTK is not installed")
    sources = SOURCES[name]()
    reports = [whole(sources)["sr"], *(made(p, None, sources)["sr"] for p in (builders.failure(sources),))]
    for index, report in enumerate(reports):
        report.save_as(tmp_path / f"{index}.dcm", enforce_file_format=True)
        ran = subprocess.run([dsrdump, "+Pl", tmp_path / f"{index}.dcm"], capture_output=True, text=True, check=False)
        assert ran.returncode == 0
        assert "E: " not in ran.stderr
        assert "Lung test model" in ran.stdout


@pytest.mark.parametrize("name", ["CT", "MR coronal"])
def test_dcmqi_reads_the_measurement_report(name: str, tmp_path: Path) -> None:
    whole(SOURCES[name]())["sr"].save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    ran = subprocess.run(
        [tool("tid1500reader"), "--inputDICOM", tmp_path / "sr.dcm", "--outputMetadata", tmp_path / "sr.json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "2210.4" in (tmp_path / "sr.json").read_text()
