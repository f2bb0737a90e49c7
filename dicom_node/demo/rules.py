"""The conditions of the demo's rules; deploy/rules.example.yaml offers the same to a new installation.

They send what might be analysable and leave refusal to the model packages, whose gates say "not analysed" with a
reason: silence about a study that a reader expects to be analysed is worse.
"""

from __future__ import annotations

BRAIN_T1 = """\
Modality == "MR" && mr_sequence == "T1" && !is_derived && !is_localizer && !is_phantom
&& number_of_frames >= 20
&& (!has(BodyPartExamined) || BodyPartExamined in ["BRAIN", "HEAD", "SKULL"])"""

CHEST_CT = """\
Modality == "CT" && !is_derived && !is_localizer && !is_phantom
&& number_of_frames >= 10"""
