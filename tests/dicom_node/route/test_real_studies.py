"""Real studies and hostile files: routed as a radiographer would, and nothing raises."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from pathlib import Path

import pydicom
import pytest
from click.testing import CliRunner
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from dicom_node.cli import cli
from dicom_node.demo.rules import BRAIN_T1
from dicom_node.route.facts import SeriesFacts, facts_of
from dicom_node.route.header import header_of, slice_header
from dicom_node.route.kept import facts_from as kept
from dicom_node.route.kept import plain
from dicom_node.route.replay import Replay
from dicom_node.route.router import routing_rule
from dicom_node.route.rules import RoutingRule, evaluate
from storage.facts.routing import RecordedSeries, Rule, RuleSet
from tests.dicom_node.route.making import NODE, example_rules, series

pytestmark = pytest.mark.shared_data

_RULES = example_rules()
_UNREADABLE = (InvalidDicomError, ValueError, OSError, EOFError, RecursionError, AttributeError, KeyError)


def files_of(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist() if not name.endswith("/")}


def read(content: bytes, force: bool) -> Dataset | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True, force=force)
        except _UNREADABLE:
            return None


def facts_from(datasets: list[Dataset]) -> SeriesFacts:
    headers = [header_of(dataset) for dataset in datasets]
    return facts_of(series(headers[0], len(headers)), [slice_header(each) for each in headers], NODE)


def routed(facts: SeriesFacts) -> list[str]:
    return [decision.rule.package for decision in evaluate(_RULES, facts) if decision.matched]


STUDIES = {
    "mr_t1_studyforrest": (["brain-t1"], {"mr_sequence": "T1", "slice_spacing_mm": 0.667, "number_of_frames": 384}),
    "mr_t1_enhanced_xa30": (["brain-t1"], {"mr_sequence": "T1", "number_of_frames": 96, "orientation": "SAGITTAL"}),
    "ct_chest_full_ricord1a": (
        ["ct-lung-densitometry"],
        {"kernel_class": "standard", "contrast": "no", "coverage_mm": 310.0},
    ),
    "ct_chest_lower_b10f_acrin013": (
        ["ct-lung-densitometry"],
        {"kernel_class": "soft", "is_derived": False, "slice_spacing_mm": 4.0},
    ),
    "ct_abdomen_no_lungs_acrin001": (["ct-lung-densitometry"], {"kernel_class": "soft", "slice_spacing_mm": 4.25}),
    "ct_head_tilt_varspacing_ge": (["ct-lung-densitometry"], {"tilt_degrees": 18.5, "spacing_irregular": 2.997}),
    "ct_body_20slice_totalseg": (["ct-lung-densitometry"], {"contrast": "yes", "slice_spacing_mm": 2.0}),
    "cr_chest_6_rsna_nih": ([], {"is_image": True, "is_screen_capture": False, "is_derived": False}),
}


@pytest.mark.parametrize("name", STUDIES)
def test_a_real_study_is_routed_as_a_radiographer_would(shared_data: Path, name: str) -> None:
    found: dict[str, list[Dataset]] = {}
    for content in files_of(shared_data / "studies" / f"{name}.zip").values():
        dataset = read(content, force=False)
        if dataset is not None and "SeriesInstanceUID" in dataset:
            found.setdefault(dataset.SeriesInstanceUID, []).append(dataset)
    packages, expected = STUDIES[name]

    assert found
    for datasets in found.values():
        facts = facts_from(datasets)
        assert routed(facts) == packages
        assert {key: facts.derived[key].value for key in expected} == expected


ODD = {
    "entregable1/1-041.dcm": "is_label_map",
    "Project1/IMG0026.dcm": "is_derived",
    "Project1/IMG0073.dcm": "is_derived",
    "covid_chestCT_image_analysis/1-002.dcm": "is_derived",
    "fo-dicom/GH1376.dcm": "is_derived",
    "fo-dicom/GH178.dcm": "is_screen_capture",
    "fo-dicom/GH342.dcm": "is_localizer",
    "dcm_qa_ct/I10": "is_localizer",
    "dcm_qa_agfa/011-0001.img": "is_phantom",
    "pydicom/examples_overlay.dcm": "is_derived",
}


def test_no_hostile_file_raises_or_is_routed(shared_data: Path) -> None:
    every = RoutingRule(name="every", when="true", package="p")
    recognised: dict[str, bool] = {}
    read_files = 0
    for name, content in files_of(shared_data / "nasty.zip").items():
        dataset = read(content, force=True)
        if dataset is None:
            continue
        read_files += 1
        facts = facts_from([dataset])
        json.dumps(header_of(dataset), allow_nan=False).encode()
        json.dumps([decision.explanation() for decision in evaluate([every, *_RULES], facts)])
        assert routed(facts) == [], name
        recognised |= {odd: bool(facts.derived[fact].value) for odd, fact in ODD.items() if name.endswith(odd)}

    assert read_files >= 130
    assert recognised == dict.fromkeys(ODD, True)


def test_a_rehearsal_says_of_hostile_files_what_the_router_says(shared_data: Path) -> None:
    conditions = ['true', 'Modality == "CT"', "is_derived || is_localizer", "SliceThickness <= 5 && !is_phantom",
                  "has(ImageType) && !is_derived", "number_of_frames >= 1 || is_mosaic || is_image"]  # fmt: skip
    rules = RuleSet().of(
        [Rule(name=f"r{n}", expression=when, package="p", destinations=()) for n, when in enumerate(conditions)]
    )
    replay = Replay([rules])
    matched = 0
    for name, content in files_of(shared_data / "nasty.zip").items():
        dataset = read(content, force=True)
        if dataset is None:
            continue
        facts = facts_from([dataset])
        recorded = RecordedSeries(
            series_uid="1", study_uid="1", calling_ae="CT1", called_ae="NODE", revision=1, at=0.0, derivation="",
            header=json.loads(json.dumps(facts.header)), facts=json.loads(json.dumps(plain(facts))),
        )  # fmt: skip
        explained = [d.rule.name for d in evaluate([routing_rule(r) for r in rules.rules], facts) if d.matched]
        assert [[rule.name for rule in found] for found in replay.matches(kept(recorded))] == [explained], name
        matched += bool(explained)

    assert matched > 10


def test_a_real_study_is_explained_on_the_command_line(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text('[node]\ndata = "data"\n', encoding="utf-8")
    with zipfile.ZipFile(shared_data / "studies" / "mr_t1_enhanced_xa30.zip") as archive:
        archive.extractall(tmp_path / "study")

    result = CliRunner().invoke(
        cli,
        ["rules", "test", str(tmp_path / "study"), "--when", BRAIN_T1, "-c", str(tmp_path / "node.toml")],
    )

    assert result.exit_code == 0, result.exception
    assert 'TRUE     mr_sequence == "T1"    [mr_sequence is "T1" (' in result.output
    assert "TRUE     number_of_frames >= 20    [number_of_frames is 96 (counted)]" in result.output
