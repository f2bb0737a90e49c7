"""A truth table says what it says, or why it cannot be used, line by line."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from inference.bringing.validation.targets import Target, targets_of
from inference.bringing.validation.truth import Labels, Lesion, Truth, read_truth
from storage.facts.errors import Rejected, Transient
from tests.inference.bringing.judged import package

HEAD = "series,target,value\n"


@pytest.fixture
def targets(tmp_path: Path) -> tuple[Target, ...]:
    return targets_of(package(tmp_path / "package").manifest)


def read(folder: Path, targets: tuple[Target, ...], text: str) -> Truth:
    path = folder / "truth.csv"
    path.write_text(text, encoding="utf-8-sig")
    return read_truth(path, targets)


def test_every_kind_of_truth_is_read(tmp_path: Path, targets: tuple[Target, ...]) -> None:
    (tmp_path / "part.dcm").write_bytes(b"")
    text = (
        "study;Series;Target;Value\n"
        ";1.2.3;effusion;yes\n;1.2.3;Pulmonary Emphysema;0\n;1.2.3;density;middle\n;1.2.3;size;12.5\n"
        ";1.2.3;part;part.dcm#2\n\n;1.2.3;nodule;-1 2 3.5 8\n;1.2.3;nodule;4 5 6 7\n1.2;;nodule;none\n"
    )
    truth = read(tmp_path, targets, text)

    assert {known.target.name: known.value for known in truth.series["1.2.3"]} == {
        "effusion": True,
        "Pulmonary emphysema": False,
        "density": 1,
        "size": 12.5,
        "Part": Labels(path=tmp_path / "part.dcm", number=2),
        "nodule": (Lesion(place=(-1, 2, 3.5), diameter=8), Lesion(place=(4, 5, 6), diameter=7)),
    }
    assert [known.value for known in truth.studies["1.2"]] == [()]
    assert truth.digest == hashlib.sha256((tmp_path / "truth.csv").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: the head must name series or study, target, and value"),
        (HEAD, "it has no line below its head"),
        ("series,target,value,name\n", "line 1: there is no column 'name'"),
        ("series,value\n", "line 1: the head must name"),
        ("series,series,target,value\n", "line 1: a column stands twice"),
        (HEAD + "1.2.3,effusion\n", "line 2: it has 2 cells, the head has 3"),
        (HEAD + "Doe^Jane,effusion,1\n", "line 2: what stands for the series or study is no UID"),
        (HEAD + "1.2.3,haemorrhage,1\n", "line 2: the package says nothing of that name; it says: effusion"),
        (HEAD + "1.2.3,effusion,maybe\n", "line 2: effusion is present or absent (1 or 0)"),
        (HEAD + "1.2.3,effusion,\n", "line 2: its value is empty"),
        (HEAD + "1.2.3,density,D\n", "line 2: density has the classes A, B, C"),
        (HEAD + "1.2.3,size,12,5\n", "line 2: it has 4 cells"),
        (HEAD + "1.2.3,size,large\n", "line 2: size is a number"),
        (HEAD + "1.2.3,size,nan\n", "line 2: size is a finite number"),
        (HEAD + "1.2.3,Part,there.dcm\n", "line 2: there is no file of that name"),
        (HEAD + "1.2.3,Part,there.dcm#one\n", "line 2: after the # stands the number"),
        (HEAD + "1.2.3,nodule,1 2 3\n", "line 2: a lesion is four numbers"),
        (HEAD + "1.2.3,nodule,1 2 3 0\n", "line 2: a lesion has a place, and a diameter"),
        (HEAD + "1.2.3,nodule,1 2 3 4\n1.2.3,nodule,none\n", "line 3: it says that there is none, line 2 names one"),
        (HEAD + "1.2.3,nodule,none\n1.2.3,nodule,1 2 3 4\n", "line 3: line 2 says that there is none"),
        (HEAD + "1.2.3,effusion,1\n1.2.3,effusion,1\n", "line 3: effusion of this series stands in line 2, too"),
        ("study,series,target,value\n1.2,1.2.3,effusion,1\n", "line 2: it must name a series or a study"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_with_its_reason(
    tmp_path: Path, targets: tuple[Target, ...], text: str, words: str
) -> None:
    with pytest.raises(Rejected) as refused:
        read(tmp_path, targets, text)
    assert words in str(refused.value)
    assert "Doe" not in str(refused.value)


def test_all_faults_are_told_at_once_in_their_order(tmp_path: Path, targets: tuple[Target, ...]) -> None:
    text = HEAD + "".join(f"1.2.{n},effusion,?\n" for n in range(30)) + "x,effusion,1\n"
    with pytest.raises(Rejected) as refused:
        read(tmp_path, targets, text)
    lines = str(refused.value).splitlines()
    assert [line.split(":")[0].strip() for line in lines[1:21]] == [f"line {n}" for n in range(2, 22)]
    assert lines[-1].strip() == "and 11 more faults"


def test_a_table_that_is_no_text_or_not_there_is_said(tmp_path: Path, targets: tuple[Target, ...]) -> None:
    (tmp_path / "latin.csv").write_bytes(b"series,target,value\n1.2.3,\xe9,1\n")
    with pytest.raises(Rejected, match="no text in UTF-8"):
        read_truth(tmp_path / "latin.csv", targets)
    with pytest.raises(Transient, match="cannot be read"):
        read_truth(tmp_path / "none.csv", targets)
