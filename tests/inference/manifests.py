"""``model.toml`` made of parts, and packages in folders: one maker for all tests of the model wing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Change = Callable[[str], str]
Code = tuple[str, str, str]  #: value, scheme, meaning

METRICS = '{ data = "tests", cases = 40 }'
EFFUSION = ("60046008", "SCT", "Pleural effusion")
NODULE = ("27925004", "SCT", "Nodule")
NODULE_OF_LUNG = ("427359005", "SCT", "Solitary nodule of lung")
MASS = ("4147007", "SCT", "Mass")
DENSITY = ("DENSITY", "99TEST", "Density")
DENSITIES = (("A", "99TEST", "low"), ("B", "99TEST", "middle"), ("C", "99TEST", "high"))
_MORPHOLOGY = ("49755003", "SCT", "Morphologically Abnormal Structure")

_CATEGORY = '{ value = "91723000", scheme = "SCT", meaning = "Anatomical Structure" }'
LUNG = '{ value = "39607008", scheme = "SCT", meaning = "Lung" }'
VOLUME = '{ value = "118565006", scheme = "SCT", meaning = "Volume" }'
MILLILITRE = '{ value = "ml", scheme = "UCUM", meaning = "milliliter" }'
PERCENT = '{ value = "%", scheme = "UCUM", meaning = "percent" }'


def head(
    identifier: str,
    *,
    version: str = "1.0.0",
    title: str = "Small",
    intended_use: str = "For nothing but tests.",
    algorithm: str = "lung-densitometry",
    more: str = "",
) -> str:
    """What stands before the tables; ``more`` are further lines of it."""
    return f"""
id = "{identifier}"
version = "{version}"
title = "{title}"
manufacturer = "Tests"
intended_use = "{intended_use}"
licence = "None"
algorithm = "{algorithm}"
{more}"""


def weights(name: str, file: str, content: bytes | None, source: str = "the makers") -> str:
    """One file of weights, pinned by the digest of its content; without a content not pinned."""
    pin = "" if content is None else f'sha256 = "{hashlib.sha256(content).hexdigest()}"\n'
    return f'\n[[weights]]\nname = "{name}"\nfile = "{file}"\n{pin}source = "{source}"\n'


def accepts(*modalities: str, more: str = "") -> str:
    """The gates."""
    listed = ", ".join(f'"{modality}"' for modality in modalities)
    return f"\n[accepts]\nmodality = [{listed}]\n{more}"


def segment(number: int, label: str, *, kind: str = LUNG) -> str:
    """One class of the mask."""
    return f"""
[[segments]]
number = {number}
label = "{label}"
category = {_CATEGORY}
type = {kind}
colour = [250, 0, {number}]
"""


def measurement(
    key: str,
    *,
    name: str = VOLUME,
    unit: str = MILLILITRE,
    plausible: tuple[float, float] = (-1e6, 1e6),
) -> str:
    """One number."""
    return f"""
[[measurements]]
key = "{key}"
name = {name}
unit = {unit}
method = "counted"
plausible = [{plausible[0]}, {plausible[1]}]
plausible_source = "tests"
"""


def condition(
    key: str,
    code: Code,
    *,
    present_from: float = 0.5,
    absent_below: float | None = None,
    source: str = "tests",
    metrics: str = METRICS,
    more: str = "",
) -> str:
    """What a probability decides; ``more`` are further lines of it."""
    below = "" if absent_below is None else f"absent_below = {absent_below}\n"
    return f"""
[[conditions]]
key = "{key}"
condition = {_written(code)}
present_from = {present_from}
{below}source = "{source}"
metrics = {metrics}
{more}
"""


def grade(
    key: str, question: Code, classes: Sequence[Code], *, source: str = "tests", metrics: str = METRICS, more: str = ""
) -> str:
    """Classes, one of which is said; ``more`` are further lines of it."""
    listed = "".join(f"    {_written(each)},\n" for each in classes)
    return f"""
[[grades]]
key = "{key}"
question = {_written(question)}
classes = [
{listed}]
source = "{source}"
metrics = {metrics}
{more}
"""


def detection(
    key: str, label: str, kind: Code, *, says: Code | None = None, source: str = "tests", metrics: str = METRICS,
    more: str = "",
) -> str:  # fmt: skip
    """Places of something of a kind, and what it says of the patient; ``more`` are further lines of it."""
    return f"""
[[detections]]
key = "{key}"
label = "{label}"
category = {_written(_MORPHOLOGY)}
type = {_written(kind)}
condition = {_written(says or kind)}
colour = [255, 200, 0]
present_from = 0.5
source = "{source}"
metrics = {metrics}
{more}
"""


def _written(code: Code) -> str:
    value, scheme, meaning = code
    return f'{{ value = "{value}", scheme = "{scheme}", meaning = "{meaning}" }}'


def urgency(line: str, level: str, reason: str) -> str:
    """A policy line."""
    return f'\n[[urgency]]\n{line}\nlevel = "{level}"\nreason = "{reason}"\n'


def swap(old: str, new: str) -> Change:
    """A manifest that differs in one place, which must be there."""

    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


def packed(folder: Path, text: str, files: Mapping[str, bytes] | None = None) -> Path:
    """A package in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.toml").write_text(text, encoding="utf-8")
    for name, content in (files or {}).items():
        (folder / name).write_bytes(content)
    return folder


def small(content: bytes | None) -> str:
    """A package that measures a share, says a condition by it, and raises; its weights are pinned where given."""
    share = '{ value = "SHARE", scheme = "99TEST", meaning = "Share" }'
    condition = '{ value = "87433001", scheme = "SCT", meaning = "Pulmonary emphysema" }'
    return "".join(
        (
            head("small", title="Small & <b>bold</b>"),
            weights("net", "net.bin", content),
            accepts("CT", more="slice_thickness = { max = 2.5 }\n"),
            segment(1, "Part"),
            measurement("share", name=share, unit=PERCENT, plausible=(0.0, 100.0)),
            f'\n[[findings]]\ncondition = {condition}\nmeasurement = "share"\npresent_from = 10.0\nabsent_below = 5.0\n'
            'source = "Somebody et al. 2020, not validated here"\n',
            urgency('measurement = "share"\nat_least = 20.0', "high", "much"),
            urgency('measurement = "share"\nat_least = 50.0', "stat", "very much"),
        )
    )
