"""A small chest, and a model package that takes it: the shipped one refuses such coarse scans."""

from __future__ import annotations

from pathlib import Path

from dicom_node.demo import phantom
from dicom_node.demo.session import Session
from inference.packages.store import SHIPPED
from storage.facts.routing import Rule
from storage.facts.study import Urgency

COARSE = phantom.Scan(matrix=144, step=3.0, slices=100, noise_hu=10.0, description="CHEST COARSE")
PACKAGE = "coarse-lung"


def write_study(folder: Path, seed: int) -> phantom.PhantomTruth:
    """A study of its own for each seed."""
    return phantom.write(folder, seed=100 + seed, scan=COARSE)


def write_package(models: Path) -> None:
    """The shipped lung densitometry with gates wide enough for the coarse chest."""
    text = (SHIPPED / "ct-lung-densitometry" / "model.toml").read_text(encoding="utf-8")
    for old, new in (
        ('id = "ct-lung-densitometry"', f'id = "{PACKAGE}"'),
        ("slice_thickness = { min = 0.4, max = 2.5 }", "slice_thickness = { min = 0.4, max = 5.0 }"),
        ("spacing = { min = 0.2, max = 2.5 }", "spacing = { min = 0.2, max = 5.0 }"),
        ("pixel_spacing = { min = 0.3, max = 1.2 }", "pixel_spacing = { min = 0.3, max = 5.0 }"),
    ):
        assert old in text
        text = text.replace(old, new)
    folder = models / PACKAGE
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.toml").write_text(text, encoding="utf-8")


def put_rule(
    session: Session,
    urgency: Urgency = Urgency.STAT,
    destinations: tuple[str, ...] = ("pacs",),
    prefer: tuple[str, ...] = (),
) -> None:
    """Route every CT, or the preferred one of each study, to that package, and nothing else."""
    with session.ledger.begin("test") as tx:
        for rule in tx.catalogue.rules():
            tx.catalogue.remove_rule(rule.name)
        rule = Rule(
            name="coarse", expression='Modality == "CT"', package=PACKAGE, destinations=destinations, urgency=urgency,
            prefer=prefer, settle=0.0,
        )  # fmt: skip
        tx.catalogue.put_rule(rule)
