"""Results are said in the language of the clinic; codes mean the same in each."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.results.check import faults
from dicom_node.results.language import language
from dicom_node.results.reading_out import lines
from storage.facts.errors import Misconfigured
from storage.facts.prediction import Presence
from tests import builders
from tests.dicom_node.results import finding
from tests.dicom_node.results.making import complaints, items, labels_on, ordered, sentences

GERMAN = Path(__file__).parents[3] / "dicom_node" / "results" / "language_de.toml"


def coded(report: object) -> list[tuple[str, str]]:
    return [
        (item.ConceptNameCodeSequence[0].CodeValue, item.ConceptCodeSequence[0].CodeValue)
        for item in items(report)  # type: ignore[arg-type]
        if item.ValueType == "CODE" and item.ConceptNameCodeSequence[0].CodeValue != "121049"
    ]


def test_a_report_in_german_says_the_same_in_the_same_codes(tmp_path: Path) -> None:
    sources = builders.slices()
    labels = labels_on(sources)
    prediction = builders.prediction(sources, labels)
    english = ordered(prediction, labels, sources)
    german = ordered(prediction, labels, sources, language=language("de"))
    assert set(german) == set(english)
    assert coded(german["sr"]) == coded(english["sr"])
    said = "\n".join(lines(german["sr"]))
    for expected in ("Linke Lunge:", "Lungenemphysem: Vorhanden", "Volumen: 2210.4 mL", "Forschungssoftware"):
        assert expected in said
    assert "Wahrscheinlichkeit 0,83" in " ".join(sentences(german["sr"]))
    spoken = german["sr"].ContentSequence[0]
    assert spoken.ConceptNameCodeSequence[0].CodeValue == "121049"
    assert spoken.ConceptCodeSequence[0].CodeValue == "de-DE"
    for kind, one in german.items():
        assert (kind, faults(one)) == (kind, [])
    assert complaints(german["sr"], tmp_path) == []
    assert german["sr"].SpecificCharacterSet == "ISO_IR 192"
    assert german["seg"].SegmentSequence[0].SegmentLabel == "Rechte Lunge"


def test_a_negative_in_german_names_what_was_looked_for_and_the_operating_point() -> None:
    sources = builders.slices()
    absent = finding.found(sources, detections=(), findings=(finding.nodules(Presence.ABSENT),))
    report = ordered(absent, None, sources, kinds=["sr"], language=language("de"))["sr"]
    said = " ".join(sentences(report))
    assert "Gesucht wurde Rundherd: nicht gefunden. Arbeitspunkt 0,4 (" in said
    assert "Was in diesem Bericht nicht genannt ist, wurde nicht gesucht." in said


def test_detections_are_said_in_german_in_every_object() -> None:
    sources = builders.slices()
    prediction, read = finding.everything(sources)
    objects = ordered(prediction, None, sources, language=language("de"), read=read)
    assert any("Wahrscheinlichkeit 0,85, Bilder 3 bis 5 von 8" in s for s in sentences(objects["sr"]))
    texts = [t for a in objects["gsps"].GraphicAnnotationSequence for t in a.get("TextObjectSequence", [])]
    assert any("nicht zur Diagnose" in text.UnformattedTextValue for text in texts)
    assert [fault for one in objects.values() for fault in faults(one)] == []


def test_any_other_language_is_a_table(tmp_path: Path) -> None:
    made = tmp_path / "table.toml"
    text = GERMAN.read_text(encoding="utf-8").replace("Forschungssoftware: nicht zur Diagnose.", "Исследование.")
    made.write_text(text.replace('tag = "de-DE"', 'tag = "ru-RU"'), encoding="utf-8")
    spoken = language(str(made))
    assert spoken.say("research") == "Исследование."
    sources = builders.slices()
    report = ordered(builders.prediction(sources), None, sources, kinds=["sr"], language=spoken)["sr"]
    assert "Исследование." in sentences(report)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('research = "Forschungssoftware: nicht zur Diagnose."\n', "", "research"),
        ("{condition}: vorhanden.", "vorhanden.", "present"),
        ("[sentences]", '[sentences]\nunheard = "of"', "unheard"),
        ('decimal = ","', "", "decimal"),
        ("[meanings]", "[meanings", "TOMLDecodeError"),
    ],
)
def test_a_table_that_would_leave_something_unsaid_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "table.toml"
    path.write_text(GERMAN.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(Misconfigured, match=said):
        language(str(path))


def test_a_language_that_is_not_there_is_refused() -> None:
    with pytest.raises(Misconfigured, match="shipped: en, de"):
        language("fr")
