"""What bounds the memory of pynetdicom's own reception, where the streaming path does not fit: see ``stream``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.pdu import P_DATA_TF

from dicom_node.receive.stream import MESSAGE_BYTES, MESSAGES_BYTES


class Collected:
    """Counts the bytes of messages that are no C-STORE, which pynetdicom collects; use ``look`` for evt.EVT_PDU_RECV.

    An association whose message grows too long is aborted, as one that breaks the protocol (PS3.8 Table 9-10, Evt19).
    """

    def __init__(self, turned_away: Callable[[str, str], None]) -> None:
        self._turned_away = turned_away
        self._bytes: WeakKeyDictionary[Association, int] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def look(self, event: Any) -> None:
        """A PDU was read, in the thread of its association; pynetdicom has not looked at it yet."""
        assoc: Association = event.assoc
        if not isinstance(event.pdu, P_DATA_TF) or isinstance(assoc.dimse.message, C_STORE_RQ):
            return
        with self._lock:
            self._bytes[assoc] = mine = self._of(assoc) + event.pdu.pdu_length
            everybodys = sum(self._of(one) for one in self._bytes if one is not assoc) + mine
        if mine > MESSAGE_BYTES or everybodys > MESSAGES_BYTES:
            self._turned_away(str(assoc.requestor.address), "a message that is no C-STORE is too long")
            assoc.dul.event_queue.put("Evt19")

    def _of(self, assoc: Association) -> int:
        """Bytes of messages that were not served yet."""
        dimse = assoc.dimse
        waits = dimse.message is not None or not dimse.msg_queue.empty()
        return self._bytes.get(assoc, 0) if waits and assoc.is_alive() else 0
