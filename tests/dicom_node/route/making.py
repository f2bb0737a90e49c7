"""Series and their facts, made from a few attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dicom_node.route.expression import Rule
from dicom_node.route.facts import SeriesFacts, facts_of
from dicom_node.route.language import compile_rule
from dicom_node.route.provenance import NodeIdentity
from dicom_node.route.router import routing_rule
from dicom_node.route.rules import RoutingRule
from dicom_node.route.sheet import read_set
from dicom_node.route.verdict import Verdict, decide
from storage.facts.study import Series

NODE = NodeIdentity(
    model_names=frozenset({"dicom-node"}), ae_titles=frozenset({"DICOM_NODE"}), uid_roots=("1.2.826.0.1.99",)
)
CT, MR, SECONDARY_CAPTURE = (f"1.2.840.10008.5.1.4.1.1.{suffix}" for suffix in ("2", "4", "7"))
AXIAL, CORONAL, SAGITTAL = [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]


def example_rules() -> list[RoutingRule]:
    """The rules that deploy/ offers to a new installation."""
    sheet = Path(__file__).parents[3] / "deploy" / "rules.example.yaml"
    return [routing_rule(rule) for rule in read_set(sheet.read_text(encoding="utf-8"), sheet.name).rules]


def series(header: Mapping[str, Any], instances: int = 1, calling_ae: str = "CT1") -> Series:
    """A complete series with this header."""
    return Series(
        series_uid="1.2.3",
        study_uid="1.2",
        modality=str(header.get("Modality", "")),
        calling_ae=calling_ae,
        called_ae="NODE",
        revision=1,
        instances=instances,
        header=header,
    )


def facts(
    header: Mapping[str, Any], slices: Sequence[Mapping[str, Any]] | None = None, calling_ae: str = "CT1"
) -> SeriesFacts:
    """The facts of a series; without slices, of one instance with this header."""
    given = [header] if slices is None else slices
    return facts_of(series(header, len(given), calling_ae), given, NODE)


def stack(depths: Sequence[float], orientation: Sequence[float] = AXIAL, axis: int = 2) -> list[dict[str, Any]]:
    """Slice headers whose positions lie along one axis of the patient, in mm."""
    found = []
    for depth in depths:
        position = [0.0, 0.0, 0.0]
        position[axis] = depth
        found.append({"ImagePositionPatient": position, "ImageOrientationPatient": list(orientation)})
    return found


def verdict(text: str, header: Mapping[str, Any]) -> Verdict:
    """The verdict of one rule on a series of one instance."""
    rule: Rule = compile_rule(text)
    return decide(rule.root, facts(header))
