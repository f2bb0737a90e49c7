"""Answers what a workflow manager asks about the steps that it created here (UPS Push, PS3.4 CC.2.2 and CC.2.7).

Nobody performs a step at this node, so it is SCHEDULED from its creation until it is cancelled.
"""

from __future__ import annotations

import logging

from dicom_node.receive.assembly import Expect
from dicom_node.receive.events import Asked
from dicom_node.receive.notices import CANCELED_ALREADY, NO_SUCH_STEP, NOT_AUTHORIZED, STATES, SUCCESS
from storage.facts.arrival import CANCELED, Notice, NoticeKind
from storage.facts.errors import Rejected
from storage.ledger import Ledger

log = logging.getLogger(__name__)

ACTOR = "receive"


def answer(ledger: Ledger, see_to: Expect, event: Asked) -> int:
    """To an N-GET the place of its state in ``STATES``, to a request to cancel its status. Raises Transient.

    Either way NO_SUCH_STEP of what is no UPS of this node.
    """
    return _cancel(ledger, see_to, event) if event.cancel else _look_up(ledger, event)


def _look_up(ledger: Ledger, event: Asked) -> int:
    with ledger.begin_reading() as tx:
        state = tx.sources.state_of(event.sop_instance_uid)
    return STATES.index(state) if state in STATES else NO_SUCH_STEP


def _cancel(ledger: Ledger, see_to: Expect, event: Asked) -> int:
    """Nobody waits any more for the input of a step that is cancelled; what came of it goes its own way."""
    notice = Notice(
        sop_instance_uid=event.sop_instance_uid, kind=NoticeKind.UPS, state=CANCELED, peer=event.peer, study_uid=""
    )
    with ledger.begin(ACTOR) as tx:
        before = tx.sources.state_of(event.sop_instance_uid)
        if before not in STATES:
            return NO_SUCH_STEP
        if before == CANCELED:
            return CANCELED_ALREADY
        try:
            touched = tx.sources.notice(notice)
        except Rejected as error:
            log.warning("request to cancel a step refused: %s", error)
            return NOT_AUTHORIZED
        see_to(tx, touched)
    return SUCCESS
