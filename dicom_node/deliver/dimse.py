"""Stores objects elsewhere by C-STORE, and knows of each whether it arrived (PS3.4 Annex B)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

from dicom_node.deliver import body, command
from dicom_node.deliver.association import Association, Proposal
from dicom_node.deliver.body import Ready
from dicom_node.deliver.destination import Destination, Outgoing
from dicom_node.deliver.refusal import meaning
from storage.facts.errors import Rejected, Transient

log = logging.getLogger(__name__)

MAXIMUM_CONTEXTS = 128
LEAST_SHARE = 8  #: objects that are worth an association of their own
_DONE = {0x0000, 0x0111}  #: 0x0111: it has it already, from an earlier attempt whose answer was lost
_WARNINGS = {0x0001, 0x0107, 0x0116}
_NO_SUCH_CLASS = {0x0118, 0x0122}
_FINAL = {0x0105, 0x0106, 0x0112, 0x0115, 0x0117, 0x0118, 0x0119, 0x0120, 0x0121, 0x0122, 0x0124, 0x0211, 0x0212}


class Outcome(StrEnum):
    """What a status asks of the sender."""

    STORED = "stored"
    AGAIN = "again"  #: the peer may take it later
    REFUSED = "refused"  #: the peer will never take this object as it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The answer to one object."""

    sop_instance_uid: str
    status: int  #: PS3.4 B.2.3; 0x0122 also when no presentation context was accepted for it
    comment: str  #: the peer's own words, which may name a patient: never to be logged

    @property
    def outcome(self) -> Outcome:
        """What the status asks of the sender."""
        return outcome(self.status)

    @property
    def of_class(self) -> bool:
        """Whether the peer refuses all objects of this class and transfer syntax."""
        return self.status in _NO_SUCH_CLASS

    @property
    def in_this_form(self) -> bool:
        """Whether the peer may take the same content in another form: it does not know the class, or not the data."""
        return self.of_class or self.status & 0xFF00 == 0xA900 or self.status & 0xF000 == 0xC000


class Interrupted(Transient):
    """Not everything was answered for; ``sent`` says what was, so that only the rest is sent again."""

    def __init__(self, text: str, sent: Iterable[Sent]) -> None:
        super().__init__(text)
        self.sent = tuple(sent)


class Unsendable(Rejected):
    """A file turned out on the way to be none that can be sent; ``sent`` says what was answered nevertheless."""

    def __init__(self, text: str, sent: Iterable[Sent]) -> None:
        super().__init__(text)
        self.sent = tuple(sent)


def outcome(status: int) -> Outcome:
    """What a C-STORE status asks of the sender (PS3.4 B.2.3, PS3.7 9.1.1.1.9 and Annex C)."""
    if status in _DONE or status in _WARNINGS or status & 0xF000 == 0xB000:
        return Outcome.STORED
    if status in _FINAL or status & 0xFF00 == 0xA900 or status & 0xF000 == 0xC000:
        return Outcome.REFUSED
    return Outcome.AGAIN


def send(
    files: Sequence[Outgoing], destination: Destination, progress: Callable[[Sent], None] | None = None
) -> list[Sent]:
    """Store the files; one answer for each, in their order. ``progress`` is told of each as soon as it is answered.

    Many files go over several associations at a time where the destination takes that.

    Refused objects are among the answers (see ``check``); the others are sent nevertheless. Raises Interrupted, a
    Transient, when the destination cannot be reached, aborts, falls silent or is out of resources; Rejected, before
    anything is sent, when a file is not there or is not a DICOM file; Unsendable, a Rejected, when that is found later.
    """
    ready = [body.check(file) for file in files]
    number = min(destination.associations, max(len(files) // LEAST_SHARE, 1))
    if number == 1:
        return _send_share(ready, destination, progress)
    with ThreadPoolExecutor(number, thread_name_prefix="send") as pool:
        tell = _one_at_a_time(progress)
        running = [pool.submit(_send_share, ready[start::number], destination, tell) for start in range(number)]
    faults = [error for future in running if isinstance(error := future.exception(), Interrupted | Unsendable)]
    order = {file.sop_instance_uid: place for place, file in enumerate(files)}
    answers = [answer for future in running for answer in _answers(future)]
    answers.sort(key=lambda answer: order[answer.sop_instance_uid])
    for fault in sorted(faults, key=lambda one: isinstance(one, Interrupted)):  # what lasts is said first
        raise type(fault)(str(fault), answers) from fault
    return answers


def _answers(future: Future[list[Sent]]) -> Sequence[Sent]:
    """What one association got answered. Raises what nobody foresaw."""
    error = future.exception()
    return error.sent if isinstance(error, Interrupted | Unsendable) else future.result()


def _one_at_a_time(progress: Callable[[Sent], None] | None) -> Callable[[Sent], None] | None:
    if progress is None:
        return None
    lock = threading.Lock()

    def tell(answer: Sent) -> None:
        with lock:
            progress(answer)

    return tell


def _send_share(
    files: Sequence[Ready], destination: Destination, progress: Callable[[Sent], None] | None
) -> list[Sent]:
    """The files over one association after the other."""
    sent: list[Sent] = []
    postponed: list[str] = []
    try:
        for batch in _batches(files):
            with Association(destination, _proposals(batch)) as association:
                _note_refusals(association)
                for answer in (_store(association, file) for file in batch):
                    if answer.outcome is Outcome.AGAIN:
                        postponed.append(_postpone(destination, answer))
                        continue
                    sent.append(answer)
                    if progress is not None:
                        progress(answer)
        if postponed:
            raise Transient(postponed[0])
    except Transient as error:
        raise Interrupted(f"{error} ({len(sent)} of {len(files)} objects were answered)", sent) from error
    except Rejected as error:
        raise Unsendable(str(error), sent) from error
    return sent


def _postpone(destination: Destination, answer: Sent) -> str:
    """What is said of an object to be sent again. Raises Transient when the others would fare no better now."""
    text = f"{destination} did not take object {answer.sop_instance_uid}: {meaning(answer.status)}"
    if answer.status == 0x0213 or answer.status & 0xFF00 == 0xA700:
        raise Transient(text)
    return text


def check(sent: Iterable[Sent], destination: Destination) -> None:
    """Raises Rejected when the destination refused any object, naming each with the reason."""
    refused = [s for s in sent if s.outcome is Outcome.REFUSED]
    if refused:
        listed = "; ".join(f"{s.sop_instance_uid}: {meaning(s.status)}" for s in refused[:5])
        more = f"; and {len(refused) - 5} more" if len(refused) > 5 else ""
        raise Rejected(f"{destination} refused {len(refused)} object{'s' * (len(refused) > 1)}: {listed}{more}")


def _note_refusals(association: Association) -> None:
    """Say once an association, not once an object, what the destination does not take."""
    for proposal, why in association.refused.items():
        log.info("%s: SOP class %s, transfer syntax %s: %s", association.destination, proposal.abstract_syntax,
                 proposal.transfer_syntaxes[0], why)  # fmt: skip


def _store(association: Association, ready: Ready) -> Sent:
    file = ready.file
    context = association.context(file.sop_class_uid, *body.transfer_syntaxes(file))
    if context is None:
        return Sent(sop_instance_uid=file.sop_instance_uid, status=0x0122, comment="")
    request = command.store_request(file.sop_class_uid, file.sop_instance_uid)
    with body.opened(ready, context.transfer_syntax) as data:
        answer = association.ask(context, request, data)
    status = answer.number(command.STATUS) or 0
    if status and outcome(status) is Outcome.STORED:
        log.warning("%s stored object %s with a warning: %s", association.destination, file.sop_instance_uid,
                    meaning(status))  # fmt: skip
    return Sent(sop_instance_uid=file.sop_instance_uid, status=status, comment=answer.text(command.COMMENT))


def _proposals(files: Iterable[Ready]) -> list[Proposal]:
    """A context for each SOP class and transfer syntax alone, so that the peer cannot choose against the file's own."""
    wanted = {pair: None for ready in files for pair in _pairs(ready)}
    return [Proposal(abstract_syntax=sop_class, transfer_syntaxes=(syntax,)) for sop_class, syntax in wanted]


def _pairs(ready: Ready) -> Iterator[tuple[str, str]]:
    """SOP class and transfer syntax of each form that a file can be sent in."""
    return ((ready.file.sop_class_uid, syntax) for syntax in body.transfer_syntaxes(ready.file))


def _batches(files: Sequence[Ready]) -> Iterator[list[Ready]]:
    """The files in order, cut where one association would need too many contexts."""
    batch: list[Ready] = []
    wanted: set[tuple[str, str]] = set()
    for file in files:
        more = set(_pairs(file))
        if len(wanted | more) > MAXIMUM_CONTEXTS:
            yield batch
            batch, wanted = [], set()
        batch.append(file)
        wanted |= more
    if batch:
        yield batch
