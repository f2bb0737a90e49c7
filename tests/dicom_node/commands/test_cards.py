"""Reports and model cards show what was measured as pictures, in HTML and in PDF, and claims beside it."""

from __future__ import annotations

import copy
import datetime
import re
import zlib
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from dicom_node.commands.card import card_of
from dicom_node.commands.card_html import html_of
from dicom_node.commands.card_parts import Card, Section, Table
from dicom_node.commands.card_pdf import pdf_of
from dicom_node.commands.card_trials import benchmark_card, validation_card
from dicom_node.commands.card_writing import lines_of
from inference.algorithms.registry import ALGORITHMS
from inference.bringing.validation.report import validate
from inference.packages.package import open_package
from inference.runtime import Runtime
from storage.facts.release import KeptTrial, PackageVersion, Trial
from tests.inference.bringing.judged import ALGORITHM, MANIFEST, NAME, series, voxels_of
from tests.inference.bringing.test_validation import lesion
from tests.inference.manifests import packed

CLAIMED = """source = "Somebody 2020"
metrics = { data = "200 chests of two sites", cases = 200, sensitivity = { value = 0.99, low = 0.97, high = 1.0 } }"""
NOW = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
Found = tuple[PackageVersion, dict[str, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """A version, and its validation on series of which everything is known."""
    folder = tmp_path_factory.mktemp("validated")
    head, finding, rest = MANIFEST.partition("[[findings]]")
    text = head + finding + rest.replace('source = "Somebody 2020"', CLAIMED, 1)
    made = open_package(packed(folder / "package", text))
    lines = ["series,target,value"]
    chance = np.random.default_rng(7)
    for number in range(14):
        ill, rows = number % 2, int(chance.integers(3, 9))
        np.savez(folder / f"{number}.npz", mask=_mask(rows + number % 3 - 1))
        voxels = voxels_of(
            chance=round(float(np.clip(chance.normal(0.3 + 0.4 * ill, 0.2), 0, 1)), 3),
            rows=rows,
            nodules={(6, 3, 5): 0.5 + 0.03 * number, (1, 12, 12): 0.04 * number},
        )
        uid = series(folder / "cases", str(number), voxels)
        lines += [f"{uid},effusion,{ill}", f"{uid},Pulmonary emphysema,{ill}", f"{uid},size,{0.1 * rows}"]
        lines += [f"{uid},Part,{number}.npz", f"{uid},nodule,{lesion(folder, str(number), (6, 3, 5), 6.0)}"]
    (folder / "truth.csv").write_text("\n".join(lines), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ALGORITHMS, NAME, ALGORITHM)
        document = validate(made, folder / "cases", folder / "truth.csv", Runtime(device="cpu"), lambda _text: None)
    version = PackageVersion(
        package="marks", version="1.0.0", digest=made.digest, title=made.manifest.title,
        manifest=made.manifest.model_dump(mode="json"), registered_at=0.0,
    )  # fmt: skip
    return version, document


def _mask(rows: int) -> Any:
    mask = np.zeros((8, 16, 16), np.uint8)
    mask[3:5, 2 : 2 + rows, 4:12] = 1
    return mask


def titles(text: str) -> list[str]:
    """Of the pictures in a page, in their order."""
    pictures = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    return [next(one.text or "" for one in ElementTree.fromstring(picture).iter("text")) for picture in pictures]


def content(pdf: bytes) -> str:
    """What is drawn on the pages of a PDF, as its operators."""
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    # Their last byte may be a line's end, too, and is then cut off: of a checksum, which nothing here needs.
    return b"\n".join(zlib.decompressobj().decompress(one) for one in streams if one[:1] == b"x").decode("latin-1")


def test_a_report_shows_every_kind_of_measurement_as_a_picture(found: Found) -> None:
    version, document = found
    text = html_of(validation_card(version, document))

    assert titles(text) == [
        "Dice coefficients by structure",
        "ROC: effusion",
        "Calibration: effusion",
        "ROC: Pulmonary emphysema",
        "FROC: nodule",
        "Calibration: nodule",
        "Bland-Altman: size",
        "Bland-Altman: volume of Part",
    ]
    assert "present from 0.5: sensitivity" in text
    assert "limit " in text
    assert not re.search(r"<script|src=|href=|url\(|@import", text)
    assert "var(--first)" in text
    assert "prefers-color-scheme: dark" in text


def test_the_pdf_shows_the_same_pictures(found: Found) -> None:
    version, document = found
    drawn = content(pdf_of(validation_card(version, document), NOW))

    for title in ("ROC: effusion", "FROC: nodule", "Bland-Altman: size", "Dice coefficients by structure"):
        assert f"({title})" in drawn
    assert drawn.count("(1 - specificity)") == 2
    assert "Part \\(n = 14\\)" in drawn


def test_the_operating_point_is_named_in_the_picture_as_in_the_table(found: Found) -> None:
    version, document = found
    (result,) = [one for one in document["results"] if one["target"] == "nodule"]
    numbers = result["numbers"]
    assert 0 < numbers["false_positives"]["value"] < 1
    assert numbers["sensitivity"]["value"] == 1.0
    said = "reported from 0.5: sensitivity 1.00"
    assert any(said in mark["name"] for mark in result["charts"][0]["marks"])
    assert said in html_of(validation_card(version, document))


def test_a_model_card_shows_the_pictures_of_the_newest_validation_alone(found: Found) -> None:
    version, document = found
    older = copy.deepcopy(document) | {"digest": "0" * 64}
    trials = [
        KeptTrial(trial=Trial.VALIDATED, package="marks", version="1.0.0", document=one, author="physicist", at=at)
        for one, at in ((document, 2.0), (older, 1.0))
    ]
    assert len(titles(html_of(card_of(version, (), trials)))) == 8
    assert titles(html_of(card_of(version))) == []


def test_a_validation_that_was_kept_without_pictures_is_shown_without(found: Found) -> None:
    version, document = found
    bare = {key: value for key, value in document.items() if key != "charts"}
    bare["results"] = [{k: v for k, v in one.items() if k != "charts"} for one in document["results"]]

    text = html_of(validation_card(version, bare))

    assert titles(text) == []
    assert "area under the ROC curve" in text


def test_metrics_of_a_finding_are_on_the_card_and_beside_what_was_measured(found: Found) -> None:
    version, document = found
    assert "sensitivity 0.99 (0.97 to 1.00); 200 cases: 200 chests of two sites" in "\n".join(
        lines_of(card_of(version))
    )
    (result,) = [one for one in document["results"] if one["target"] == "Pulmonary emphysema"]
    (table,) = [one for one in result["tables"] if one["title"].startswith("Stated on 200 cases")]
    rows = {row[0]: row[1:] for row in table["rows"]}
    assert rows["sensitivity"][1] == "0.99 (0.97 to 1.00)"
    assert rows["sensitivity"][2] in ("lower", "not shown to differ")
    assert rows["specificity"][1:] == ["-", "-"]


def test_reports_and_benchmarks_say_of_what_and_when_in_the_same_words(found: Found) -> None:
    version, document = found
    measured = {
        "made": "2026-01-02T03:04:05+00:00", "device": "cpu", "shape": [4, 5, 6], "rounds": 2, "source": "a series",
        "variant": [], "seconds": 1.0, "runs": [1.0, 1.0], "first": 2.0, "peak": 2**20, "forward": None, "ratio": None,
        "steps": [{"step": "forward", "seconds": 0.5, "share": 0.5}],
    }  # fmt: skip
    benchmark = benchmark_card(version, measured)
    validation = validation_card(version, document | {"made": measured["made"]})

    assert (benchmark.title, benchmark.standing) == (validation.title, validation.standing)
    assert benchmark.subtitle == "marks@1.0.0 · benchmark"
    assert validation.subtitle == f"marks@1.0.0 · validation · report {document['digest'][:12]}"


def test_a_card_of_dashes_and_foreign_words_becomes_a_pdf() -> None:
    section = Section(
        title="Use – and “abuse” …",
        paragraphs=("5 ± 2 µm, x ≥ 3 → 日本",),
        tables=(Table(heads=("a", "b"), rows=(("–", "…"),)),),
    )
    card = Card(title="A – B", subtitle="x · y", is_research=False, standing="in use", sections=(section,))
    drawn = content(pdf_of(card, NOW))
    assert "x >= 3 -> ??" in drawn
    assert "\x96" in drawn  # an en dash in the encoding of the page


@pytest.mark.parametrize(
    ("value", "low", "high", "said"),
    [
        (0.996, 0.951, 0.999, "0.996 (0.95 to 0.999)"),  # 1.00 would be certain
        (0.004, 0.0004, 0.02, "0.004 (0.0004 to 0.02)"),
        (1.0, 0.92, 1.0, "1.00 (0.92 to 1.00)"),
        (0.0, 0.0, 0.08, "0.00 (0.00 to 0.08)"),
        (0.9, 0.8, 0.954, "0.90 (0.80 to 0.95)"),
    ],
)
def test_a_rate_is_never_said_to_be_all_or_nothing_where_it_is_not(
    found: Found, value: float, low: float, high: float, said: str
) -> None:
    version = copy.deepcopy(found[0])
    rate = {"value": value, "low": low, "high": high}
    version.manifest["conditions"][0]["metrics"] = {
        "data": "here", "cases": 3, "sensitivity": rate, "calibration_error": 0.0002,
    }  # fmt: skip

    text = "\n".join(lines_of(card_of(version)))

    assert f"sensitivity {said}, calibration error 0.0002; 3 cases: here" in text


def test_limits_are_said_with_all_their_digits(found: Found) -> None:
    version = copy.deepcopy(found[0])
    version.manifest["conditions"][0] |= {"present_from": 0.00004, "absent_below": 0.0000125}
    version.manifest["measurements"][0]["plausible"] = [0.0, 1234567.5]
    version.manifest["urgency"] = [
        {"condition": "effusion", "at_least": 0.9999995, "level": "high", "reason": "fluid"},
        {"grade": "density", "classes": ["A", "B"], "level": "stat", "reason": "dense"},
    ]

    text = "\n".join(lines_of(card_of(version)))

    assert "present from 0.00004, absent below 0.0000125" in text
    assert "0 to 1234567.5" in text
    assert "effusion from 0.9999995" in text
    assert "density is A, B" in text


def test_what_takes_hardly_any_time_is_not_said_to_take_none(found: Found) -> None:
    benchmark = {
        "digest": "ab", "made": "2026-01-01T00:00:00+00:00", "device": "cpu", "kind": "cpu", "rounds": 3, "source": "x",
        "shape": [1, 2, 3], "variant": [], "seconds": 0.0004, "runs": [0.0003, 0.0004], "first": 0.00021, "peak": 1,
        "forward": 0.00004, "ratio": 0.003, "steps": [{"step": "load", "seconds": 0.0001, "share": 0.0004},
        {"step": "compute", "seconds": 0.4, "share": 0.9996}],
    }  # fmt: skip

    text = "\n".join(lines_of(benchmark_card(found[0], benchmark)))

    for said in ("0.0004 s (0.0003 to 0.0004)", "0.0002 s", "0.00004 s", "0.003 times", "<0.1%", ">99.9%"):
        assert said in text
