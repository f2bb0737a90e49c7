"""Values just beside what they are judged by: all digits decide, and what is kept lies on the same side."""

from __future__ import annotations

from inference.packages.answer import answer
from inference.packages.manifest import Manifest
from storage.facts.prediction import Presence
from tests.inference.test_outputs import box, manifest, package, raw

__all__ = ["manifest", "package"]  # fixtures


def test_what_is_kept_of_a_probability_lies_on_its_side_of_what_raises_the_study(manifest: Manifest) -> None:
    below = answer(manifest, raw(chances={"effusion": 0.1, "pneumothorax": 0.8996}, boxes=(box(0.94996),)))
    above = answer(manifest, raw(chances={"effusion": 0.1, "pneumothorax": 0.9004}, boxes=(box(0.95004),)))

    assert [one.findings[1].probability for one in (below, above)] == [0.8996, 0.9004]
    assert "probability 0.8996 (" in below.findings[1].text
    assert [one.detections[0].score for one in (below, above)] == [0.94996, 0.95004]
    assert [one.findings[2].probability for one in (below, above)] == [0.94996, 0.95004]


def test_whether_a_model_abstains_is_judged_on_all_digits(manifest: Manifest) -> None:
    """Its entropy reaches 0.9 between these two."""
    sure, unsure = (
        answer(manifest, raw(chances={"effusion": 0.1, "pneumothorax": chance})).findings[1]
        for chance in (0.31601, 0.31602)
    )

    assert sure.presence is not Presence.UNDETERMINED
    assert unsure.presence is Presence.UNDETERMINED
    assert sure.uncertainty is not None
    assert unsure.uncertainty is not None
    assert sure.uncertainty <= 0.9 < unsure.uncertainty
