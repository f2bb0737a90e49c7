"""The REPORT stage: makes the objects of a prediction, checks them, and has them delivered."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import logging
import operator
from collections.abc import Callable, Mapping, Sequence

from dicom_node.results.document import Reference
from dicom_node.results.identity import NodeIdentity
from dicom_node.results.language import Language, language
from dicom_node.results.material import arrays_of, headers_of, look_in, mask_of
from dicom_node.results.profiles import DEFAULT, REJECTION, SR, SR_COMPREHENSIVE, Profile, needed
from dicom_node.results.report import Composed, Order, compose
from storage.facts.errors import Rejected
from storage.facts.prediction import SOFTWARE_FAILURE, Prediction, Reason, Status
from storage.facts.result import ResultObject
from storage.facts.study import MISSING, Header, Urgency
from storage.facts.task import Kind, Next, Task
from storage.ledger import Ledger, Transaction
from storage.stage import Done, Handler

log = logging.getLogger(__name__)


#: The urgency of a result and why, from the prediction, the source's header and the urgency of the rules.
Decide = Callable[[Prediction, Header, Urgency], tuple[Urgency, str]]
#: The tasks that bring a prediction's objects to destinations.
Deliveries = Callable[[str, Sequence[str]], tuple[Next, ...]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Afterwards:
    """What follows a report."""

    decide: Decide
    deliveries: Deliveries
    claim: Callable[[Prediction], Urgency] = operator.attrgetter("urgency")  #: what the findings alone may ask for
    language: Language = dataclasses.field(default_factory=language)  #: of captions, sentences and meanings
    announce_from: Urgency | None  #: least urgency that is raised in the worklist; None: no worklist is configured
    #: What each destination shows; the default for those that are not named.
    profiles: Mapping[str, Profile] = dataclasses.field(default_factory=dict)

    def profile(self, destination: str) -> Profile:
        """What a destination shows."""
        return self.profiles.get(destination, DEFAULT)


def report(ledger: Ledger, node: NodeIdentity, afterwards: Afterwards) -> Handler:
    """The REPORT stage. Making the objects again gives the same bytes, so that a crash doubles nothing."""

    def work(task: Task) -> Done:
        with ledger.begin_reading() as tx:
            kept = tx.predictions.load(task.key)
            instances = tx.studies.instances(task.series_uid or "")
            series = tx.studies.series(task.series_uid or "")
            earlier = tx.predictions.predecessors(kept.prediction) if kept else []
            made = bool(tx.predictions.objects(task.key))
        if kept is None or series is None:
            raise Rejected(f"there is no prediction {task.key}")
        shadow = bool(task.payload.get("shadow", False))
        urgency, why, claim = kept.prediction.urgency, kept.prediction.urgency_reason, kept.prediction.category
        if not made:  # what was once written into objects stays, whatever the policy is now
            asked = Urgency(int(task.payload.get("asked", Urgency.ROUTINE)))
            claim = afterwards.claim(kept.prediction)
            urgency, why = afterwards.decide(kept.prediction, series.header, asked)
            if shadow:
                told = f"a shadow rule asked for it, so that nothing is raised; it would be {urgency.name}: {why}"
                urgency, why = Urgency.ROUTINE, told
        warnings = (*kept.prediction.warnings, *_limitations(series.header))
        prediction = dataclasses.replace(
            kept.prediction, urgency=urgency, urgency_reason=why, claim=claim, warnings=warnings
        )
        made_at = datetime.datetime.fromtimestamp(kept.made_at).astimezone()
        sources = headers_of(ledger.data, prediction, instances)
        destinations = [] if shadow else [str(d) for d in task.payload.get("destinations", ())]
        shown = [afterwards.profile(name) for name in destinations]
        order = Order(
            kinds=needed(shown),
            square_only=any(one.square_only for one in shown),
            whole_maps=any(one.whole_maps for one in shown),
            predecessors=[_reference(o) for o in earlier if o.kind in (SR, SR_COMPREHENSIVE)],
            retired=[_reference(o) for o in earlier if o.kind != REJECTION],
            look=look_in(ledger.data, instances),
            read=arrays_of(ledger),
            language=afterwards.language,
        )
        fault = ""
        try:
            composed = compose(prediction, mask_of(ledger, prediction.mask), sources, node, made_at, order)
        except Rejected as error:
            # The result cannot be said in DICOM. That must be said, too: no study ends in silence.
            fault = str(error)
            log.error("prediction %s is reported as failed: %s", task.key, fault)
            composed = compose(_failed(prediction), None, sources[:1], node, made_at, order)
        objects = [_kept(ledger, task.key, item) for item in composed]
        follow = [_narrowed(item, afterwards) for item in afterwards.deliveries(task.key, destinations)]
        if not shadow and afterwards.announce_from is not None and urgency >= afterwards.announce_from:
            follow.append(Next(kind=Kind.ANNOUNCE, key=task.key, payload={"urgency": int(urgency), "reason": why}))

        def record(tx: Transaction) -> None:
            tx.predictions.keep_objects(objects)
            tx.predictions.set_urgency(task.key, urgency, why, claim)

        return Done(
            follow=tuple(dataclasses.replace(item, urgency=urgency) for item in follow),
            record=record,
            note={"objects": _counted(objects), "urgency": urgency.name, "fault": fault or None},
        )

    return Handler(work=work)


def _narrowed(delivery: Next, afterwards: Afterwards) -> Next:
    """A delivery that says which kinds of object its destination gets."""
    kinds = afterwards.profile(str(delivery.payload.get("destination", ""))).kinds
    return dataclasses.replace(delivery, payload={**delivery.payload, "kinds": list(kinds)})


def _counted(objects: Sequence[ResultObject]) -> list[str]:
    """The kinds, with their number where there are several of one."""
    counts = collections.Counter(one.kind for one in objects)
    return [kind if number == 1 else f"{kind} ({number})" for kind, number in counts.items()]


def _limitations(header: Header) -> tuple[str, ...]:
    """What the reader must know of the series itself."""
    missing = header.get(MISSING)
    if not missing:
        return ()
    return (f"The series was incomplete: its source holds {missing} more object(s) that never reached this node.",)


def _failed(prediction: Prediction) -> Prediction:
    reason = Reason(
        code=SOFTWARE_FAILURE, text="The result could not be written as a DICOM object; see the node's log."
    )
    return dataclasses.replace(
        prediction, status=Status.FAILED, reason=reason, findings=(), segments=(), measurements=(), mask=None,
        detections=(), grades=(), heatmaps=(), images=(), frames=(),
    )  # fmt: skip


def _reference(made: ResultObject) -> Reference:
    return Reference(
        sop_class_uid=made.sop_class_uid,
        sop_instance_uid=made.sop_instance_uid,
        series_uid=made.series_uid,
        study_uid=made.study_uid,
    )


def _kept(ledger: Ledger, key: str, composed: Composed) -> ResultObject:
    dataset = composed.dataset
    content = b"".join(composed.parts())
    return ResultObject(
        sop_instance_uid=str(dataset.SOPInstanceUID),
        sop_class_uid=str(dataset.SOPClassUID),
        transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
        series_uid=str(dataset.SeriesInstanceUID),
        study_uid=str(dataset.StudyInstanceUID),
        prediction_key=key,
        kind=composed.kind,
        description=str(dataset.get("SeriesDescription", "")),
        blob=ledger.blobs.put(content),
        size=len(content),
    )
