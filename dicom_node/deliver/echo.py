"""C-ECHO: does a destination answer to us (PS3.4 Annex A)? What the doctor asks before anything is sent."""

from __future__ import annotations

import time

from dicom_node.deliver import command
from dicom_node.deliver.association import EXPLICIT, IMPLICIT, Association, Proposal
from dicom_node.deliver.destination import Destination
from dicom_node.deliver.refusal import meaning
from storage.facts.errors import Transient

VERIFICATION = "1.2.840.10008.1.1"


def echo(destination: Destination) -> float:
    """Seconds from connecting to the end of a C-ECHO. Raises Transient with what is wrong and what to do."""
    started = time.perf_counter()
    proposal = Proposal(abstract_syntax=VERIFICATION, transfer_syntaxes=(IMPLICIT, EXPLICIT))
    with Association(destination, [proposal]) as association:
        context = association.context(VERIFICATION)
        if context is None:
            raise Transient(f"{destination} accepts this node but not C-ECHO: storing may work all the same")
        request: command.Fields = {command.COMMAND_FIELD: command.C_ECHO_RQ, command.AFFECTED_CLASS: VERIFICATION}
        status = association.ask(context, request).number(command.STATUS)
        if status:
            raise Transient(f"{destination} answered C-ECHO with {meaning(status)}")
    return time.perf_counter() - started
