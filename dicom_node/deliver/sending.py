"""Sends the objects of one prediction to one destination, falling back on other forms of what it refuses."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from dicom_node.deliver import dimse
from dicom_node.deliver.acceptance import Offer, Refusals
from dicom_node.deliver.destination import Destination, Outgoing
from dicom_node.deliver.refusal import meaning
from dicom_node.deliver.standby import Choice, Errand, Make, Stock, choose
from storage.facts.errors import Rejected
from storage.facts.result import ResultObject
from storage.facts.task import Task
from storage.ledger import Ledger

log = logging.getLogger(__name__)

FOLDER = "refusals"  #: in the data folder: what destinations do not take


def refusals_of(ledger: Ledger) -> Refusals:
    """What the destinations of a node are remembered to refuse."""
    return Refusals(ledger.data / FOLDER)


class Sending:
    """One delivery while it goes on."""

    def __init__(
        self, ledger: Ledger, destination: Destination, task: Task, actor: str, make: Make | None = None
    ) -> None:
        self._ledger, self._destination, self._task, self._actor, self._make = ledger, destination, task, actor, make
        self._key = str(task.payload["prediction"])
        self._memory = refusals_of(ledger)
        self._refused: dict[str, dimse.Sent] = {}  #: in this delivery, by SOP Instance UID
        self._offers: set[Offer] = set()  #: refused in this delivery
        self._choice: Choice | None = None
        self._asked: set[str] = set()  #: kinds that were ordered

    @property
    def kinds(self) -> tuple[str, ...]:
        """What the destination gets."""
        return self._chosen().kinds

    def objects(self) -> list[ResultObject]:
        """The objects that are to be there."""
        return list(self._chosen().objects)

    def missing(self) -> list[ResultObject]:
        """Those that are not."""
        with self._ledger.begin_reading() as tx:
            there = tx.predictions.delivered(self._key, self._destination.name)
        return [one for one in self.objects() if one.sop_instance_uid not in there]

    def send_missing(self) -> int:
        """Send what was not acknowledged; what is answered is kept even if the rest fails. Returns how many were sent.

        Raises Transient, as dimse.send does, and Rejected where something cannot be said there in any form.
        """
        sent = 0
        while missing := self.missing():
            answers = self._send(missing)
            sent += len(answers)
            dimse.check([a for a in answers if not a.in_this_form], self._destination)
            if not any(a.outcome is dimse.Outcome.REFUSED for a in answers):
                break
            self._choice = None  # what stands for it
        self._say_what_was_chosen()
        return sent

    def _send(self, objects: Sequence[ResultObject]) -> list[dimse.Sent]:
        offers = {one.sop_instance_uid: _offer(one) for one in objects}
        try:
            answers = dimse.send([self._outgoing(one) for one in objects], self._destination)
        except (dimse.Interrupted, dimse.Unsendable) as error:
            self._keep(error.sent, offers)
            raise
        self._keep(answers, offers)
        return answers

    def _keep(self, answers: Sequence[dimse.Sent], offers: Mapping[str, Offer]) -> None:
        """Write down what arrived, and what was refused by its class."""
        stored = {a.sop_instance_uid: a.status for a in answers if a.outcome is dimse.Outcome.STORED}
        by_class = {offers[a.sop_instance_uid]: a.status for a in answers if a.of_class}
        self._refused |= {a.sop_instance_uid: a for a in answers if a.outcome is dimse.Outcome.REFUSED}
        self._offers |= set(by_class)
        news = self._memory.learn(self._destination, set(by_class), {offers[uid] for uid in stored})
        if not stored and not news:
            return
        with self._ledger.begin(self._actor) as tx:
            if stored:
                tx.predictions.record_delivery(self._destination.name, stored, self._task.study_uid)
            for sop_class, syntax in news:
                tx.trail.append(
                    "class refused", outcome=4, study=self._task.study_uid, destination=self._destination.name,
                    sop_class=sop_class, transfer_syntax=syntax, status=f"0x{by_class[sop_class, syntax]:04X}",
                )  # fmt: skip

    def _chosen(self) -> Choice:
        if self._choice is None:
            with self._ledger.begin_reading() as tx:
                delivered = tx.predictions.delivered(self._key, self._destination.name)
            errand = Errand.of(self._task.payload, self._made())
            remembered = self._memory.of(self._destination) | self._offers
            self._choice = choose(
                errand,
                Stock(objects=self._of_kind, make=self._order, delivered=delivered),
                (lambda one: _offer(one) in remembered or self._is_refused(one), self._is_refused),
            )
        return self._choice

    def _is_refused(self, one: ResultObject) -> bool:
        return one.sop_instance_uid in self._refused or _offer(one) in self._offers

    def _made(self) -> list[ResultObject]:
        with self._ledger.begin_reading() as tx:
            return tx.predictions.objects(self._key)

    def _of_kind(self, kind: str) -> list[ResultObject]:
        return [one for one in self._made() if one.kind == kind]

    def _order(self, kind: str) -> None:
        """Have a kind made, once: where nothing comes of it, nothing will."""
        if self._make is not None and kind not in self._asked:
            self._asked.add(kind)
            self._make(self._key, self._destination.name, kind)

    def _say_what_was_chosen(self) -> None:
        """Note what stands for what. Raises Rejected where nothing does."""
        choice = self._chosen()
        before = self._task.payload.get("replaced", {})
        instead = {**before, **choice.instead}
        if instead:
            log.info("%s gets of prediction %s: %s", self._destination, self._key,
                     ", ".join(f"{by or 'nothing'} instead of {kind}" for kind, by in instead.items()))  # fmt: skip
            with self._ledger.begin(self._actor) as tx:
                tx.trail.append(
                    "sent instead", outcome=4, study=self._task.study_uid, destination=self._destination.name,
                    prediction=self._key, instead={kind: by or "nothing" for kind, by in instead.items()},
                )  # fmt: skip
        if choice.lost:
            raise Rejected(self._complaint(choice.lost))

    def _complaint(self, lost: Sequence[str]) -> str:
        kinds = {one.sop_instance_uid: one.kind for one in self._made()}
        said = [f"{kinds[uid]} {uid}: {meaning(answer.status)}" for uid, answer in self._refused.items()]
        shown = "; ".join(said[:5]) + (f"; and {len(said) - 5} more" if len(said) > 5 else "")
        return (
            f"{self._destination} refused {len(said)} object{'s' * (len(said) != 1)}, and takes nothing that could "
            f"stand for {', '.join(lost)}: {shown}. Let it accept one of these SOP classes, or set `without` for this "
            "destination in node.toml; then `dicom-node tasks retry`"
        )

    def _outgoing(self, one: ResultObject) -> Outgoing:
        return Outgoing(
            path=self._ledger.blobs.path(one.blob),
            sop_class_uid=one.sop_class_uid,
            sop_instance_uid=one.sop_instance_uid,
            transfer_syntax_uid=one.transfer_syntax_uid,
        )


def _offer(one: ResultObject) -> Offer:
    return one.sop_class_uid, one.transfer_syntax_uid
