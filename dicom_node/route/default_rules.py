"""The rules that a fresh installation starts with.

They send what might be analysable and leave refusal to the model packages, whose gates say "not analysed" with a
reason: silence about a study that a reader expects to be analysed is worse.
"""

from __future__ import annotations

from dicom_node.route.rules import RoutingRule

BRAIN_T1 = """\
Modality == "MR" && mr_sequence == "T1" && !is_derived && !is_localizer && !is_phantom
&& number_of_frames >= 20
&& (!has(BodyPartExamined) || BodyPartExamined in ["BRAIN", "HEAD", "SKULL"])"""

CHEST_CT = """\
Modality == "CT" && !is_derived && !is_localizer && !is_phantom
&& number_of_frames >= 10"""


def default_rules(brain_package: str, chest_package: str, destinations: tuple[str, ...]) -> tuple[RoutingRule, ...]:
    """A rule for T1-weighted brains and one for CT, for these packages and destinations."""
    return (
        RoutingRule(name="brain-t1", when=BRAIN_T1, package=brain_package, destinations=destinations, position=1),
        RoutingRule(name="chest-ct", when=CHEST_CT, package=chest_package, destinations=destinations, position=2),
    )
