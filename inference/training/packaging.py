"""Writes what was trained as a package: weights, ``model.toml`` with what the evidence justifies, and the report."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from inference.algorithms.nodule_network import NoduleNetwork
from inference.algorithms.proof import keep_case
from inference.monitor.rates import Interval
from inference.training.cases import nodules, place
from inference.training.loop import Epoch
from inference.training.phantom import GRADES, Nodule
from inference.training.report import figures, written
from inference.training.validate import COVERAGE, FALSE_POSITIVES, Choices, Evidence

ID, TITLE = "phantom-nodule", "Nodules in chest phantoms, CT"
WEIGHTS, CASE = "network.pt", "selftest.npz"

_MANIFEST = '''id = "{id}"
version = "{version}"
title = "{title}"
manufacturer = "dicom-node"
intended_use = """
Finds nodules in digital chest phantoms, measures their diameter and grades their appearance: to teach and to test \\
how a detector is trained, validated and run. Accepted on phantoms alone. No diagnosis follows from it."""
research = true
licence = "Same as the product (trained by inference.training from seed {seed}; no patient data)"
algorithm = "phantom-nodule"
deadline_seconds = 300

[parameters]
"Method" = "3D convolutional network at 2 mm, 8 passes with dropout 0.2, local maxima, overlap at most 0.1"
"Training data" = "{training} digital phantoms; validation {validation}, test {test}; seed {seed}"
"Validation report" = "report.md of this package"

[[weights]]
name = "network"
file = "{weights}"
sha256 = "{sha256}"
source = "python -m inference.training train --seed {seed}"

[accepts]
modality = ["CT"]
orientation = ["axial"]
slice_thickness = {{ max = 3.0 }}
spacing = {{ min = 0.5, max = 3.0 }}
pixel_spacing = {{ min = 0.5, max = 2.5 }}
coverage = {{ min = 30.0, max = 400.0 }}
rescale_types = ["HU"]
require = ["anatomy", "slice_thickness"]

# Only what calls itself a phantom is taken; whatever names a part of the body besides is a phantom of that part.
[accepts.anatomy]
accept = ["PHANTOM"]
refuse = ["CHEST", "THORAX", "LUNG*", "PULMON*", "TRUNK", "ABDOMEN", "HEAD", "BRAIN", "NECK", "PELVIS"]

[[detections]]
key = "nodule"
label = "Nodule"
category = {{ value = "49755003", scheme = "SCT", meaning = "Morphologically Abnormal Structure" }}
type = {{ value = "27925004", scheme = "SCT", meaning = "Nodule" }}
condition = {{ value = "27925004", scheme = "SCT", meaning = "Nodule" }}
colour = [255, 176, 0]
present_from = {present_from}
absent_below = {absent_below}
source = """
Lowest probability with at most {false_positives} false positives a series on the validation set of {validation} \\
phantoms; undetermined from 1 false positive a series on. Not validated on patients."""

[detections.metrics]
data = "test set of digital phantoms, {lesions} nodules; sensitivity by nodule, specificity by series"
cases = {test}
sensitivity = {sensitivity}
specificity = {specificity}
false_positives = {false_positives_found}
calibration_error = {calibration_error}

[detections.calibration]
method = "platt"
slope = {slope}
offset = {offset}
source = "Candidates of the validation set"

[[measurements]]
key = "diameter"
detection = "nodule"
name = {{ value = "81827009", scheme = "SCT", meaning = "Diameter" }}
unit = {{ value = "mm", scheme = "UCUM", meaning = "millimeter" }}
digits = 1
method = "Of a ball, by the network; mean error {diameter_error} mm on the test set"
plausible = [1.0, 60.0]
plausible_source = "What the network can express; phantoms have 6 to 18 mm"

[[grades]]
key = "malignancy"
detection = "nodule"
question = {{ value = "NODULE-GRADE", scheme = "99DCMNODE", meaning = "Appearance of phantom nodule" }}
classes = [
{classes}
]
ordinal = true
at_least = 0.5
source = "A grade that is less likely than all others together is not said. Not validated on patients."

[grades.metrics]
data = "nodules of the test set that were found and graded"
cases = {graded}
accuracy = {accuracy}
calibration_error = {grade_calibration_error}

[grades.calibration]
method = "temperature"
temperature = {temperature}
source = "Nodules that were found in the validation set"

[grades.abstain]
by = "entropy"
above = {most_entropy}
coverage = {coverage}
source = "Nodules that were found in the validation set"

[[urgency]]
grade = "malignancy"
classes = ["NODULE-GRADE-3"]
level = "high"
reason = "A nodule of malignant appearance"

# Places, diameters and grades are those of the phantom, not what the network happened to say of it.
[selftest]
file = "{case}"
sha256 = "{case_sha256}"
tolerance = 0.1
within = 0.05
reach = 5.0

[selftest.detections]
nodule = [
{sightings}
]
'''


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """Everything that a package is made of."""

    network: NoduleNetwork
    history: Sequence[Epoch]
    choices: Choices
    evidence: Evidence
    seed: int
    training: int  #: samples
    version: str = "1.1.0"


def write(folder: Path, trained: Trained) -> str:
    """Write the package into a folder, over what was there; returns the SHA-256 of its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    content = serialised(trained.network)
    digest = hashlib.sha256(content).hexdigest()
    (folder / WEIGHTS).write_bytes(content)
    case, inside = nodules()
    shown = keep_case(folder / CASE, case)
    (folder / "model.toml").write_text(_manifest(trained, digest, shown, inside), encoding="utf-8")
    pictures = figures(trained.history, trained.choices, trained.evidence)
    for name, picture in pictures.items():
        (folder / name).write_text(picture, encoding="utf-8")
    report = written((TITLE, trained.seed), trained.history, trained.choices, trained.evidence, pictures)
    (folder / "report.md").write_text(report, encoding="utf-8")
    return digest


def serialised(network: NoduleNetwork) -> bytes:
    """The weights as a state dict: tensors alone, the same bytes for the same numbers."""
    file = io.BytesIO()
    torch.save({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, file)
    return file.getvalue()


def _manifest(trained: Trained, digest: str, case: str, inside: Sequence[Nodule]) -> str:
    choices, found = trained.choices, trained.evidence
    classes = ",\n".join(
        f'    {{ value = "NODULE-GRADE-{number}", scheme = "99DCMNODE", meaning = "{grade.capitalize()}" }}'
        for number, grade in enumerate(GRADES, start=1)
    )
    return _MANIFEST.format(
        id=ID,
        version=trained.version,
        title=TITLE,
        weights=WEIGHTS,
        sha256=digest,
        seed=trained.seed,
        training=trained.training,
        validation=choices.cases,
        test=found.cases,
        lesions=found.lesions,
        present_from=choices.present_from,
        absent_below=choices.absent_below,
        false_positives=FALSE_POSITIVES,
        sensitivity=_rate(found.sensitivity),
        specificity=_rate(found.series.specificity),
        false_positives_found=_rate(found.false_positives),
        calibration_error=round(found.calibration_error, 4),
        slope=choices.platt.slope,
        offset=choices.platt.offset,
        diameter_error=round(found.diameter_error, 1),
        classes=classes,
        graded=found.grading.nodules,
        accuracy=_rate(found.grading.accuracy),
        grade_calibration_error=round(found.grading.calibration_error, 4),
        temperature=choices.temperature.temperature,
        most_entropy=choices.most_entropy,
        coverage=COVERAGE,
        case=CASE,
        case_sha256=case,
        sightings=",\n".join(map(_sighting, inside)),
    )


def _sighting(nodule: Nodule) -> str:
    """A nodule as it is to be reported; sizes are tested within a tenth, for a spicule or a bump is no part of them."""
    at = ", ".join(map(str, place(nodule)))
    values, grade = f"{{ diameter = {2 * nodule.radius:.1f} }}", f'{{ malignancy = "NODULE-GRADE-{nodule.grade + 1}" }}'
    return f"    {{ at = [{at}], probability = 1.0, values = {values}, grades = {grade} }}"


def _rate(found: Interval) -> str:
    return f"{{ value = {found.value:.4f}, low = {found.low:.4f}, high = {found.high:.4f} }}"
