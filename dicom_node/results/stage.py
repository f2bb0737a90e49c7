"""The REPORT stage: makes the objects of a prediction, checks them, and has them delivered."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import logging
import operator
from collections.abc import Callable, Collection, Mapping, Sequence

from dicom_node.results import fallback
from dicom_node.results.document import Reference
from dicom_node.results.identity import NodeIdentity
from dicom_node.results.language import Language, language
from dicom_node.results.material import arrays_of, headers_of, look_in, mask_of
from dicom_node.results.profiles import DEFAULT, REJECTION, REPORTS, Profile, needed
from dicom_node.results.report import Composed, Order, compose
from storage.facts.errors import Rejected
from storage.facts.prediction import SOFTWARE_FAILURE, Prediction, Reason, Status
from storage.facts.result import Kept, ResultObject
from storage.facts.study import MISSING, Header, Instance, Series, Urgency
from storage.facts.task import Kind, Next, Task
from storage.ledger import Ledger, Transaction
from storage.stage import Done, Handler

log = logging.getLogger(__name__)


#: The urgency of a result and why, from the prediction, the source's header and the urgency of the rules.
Decide = Callable[[Prediction, Header, Urgency], tuple[Urgency, str]]
#: What a destination is known to refuse.
Refused = Callable[[str], Collection[fallback.Offer]]
#: The tasks that bring a prediction's objects to destinations.
Deliveries = Callable[[str, Sequence[str]], tuple[Next, ...]]


def _nothing(_destination: str) -> Collection[fallback.Offer]:
    return ()


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
    refused: Refused = _nothing  #: what is known of a destination

    def profile(self, destination: str) -> Profile:
        """What a destination shows."""
        return self.profiles.get(destination, DEFAULT)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Material:
    """What a prediction's objects are made from, as the ledger has it."""

    kept: Kept
    series: Series
    instances: list[Instance]
    earlier: list[ResultObject]  #: what this result replaces
    made: list[ResultObject]  #: of it before


def report(ledger: Ledger, node: NodeIdentity, afterwards: Afterwards) -> Handler:
    """The REPORT stage. Making the objects again gives the same bytes, so that a crash doubles nothing."""

    def work(task: Task) -> Done:
        material = _material(ledger, task.key)
        shadow = bool(task.payload.get("shadow", False))
        prediction = _weighed(material, task, afterwards, shadow=shadow)
        urgency, why = prediction.urgency, prediction.urgency_reason
        destinations = [] if shadow else [str(d) for d in task.payload.get("destinations", ())]
        known = {name: afterwards.refused(name) for name in destinations}  # once: deliveries learn meanwhile
        shown = [fallback.resolved(afterwards.profile(name), refused) for name, refused in known.items()]
        order = _order(ledger, material, afterwards, needed(shown), shown)
        composed, fault = _composed(ledger, material, prediction, node, order)
        objects = [_kept(ledger, task.key, item) for item in composed]
        follow = [_narrowed(item, afterwards, known) for item in afterwards.deliveries(task.key, destinations)]
        if not shadow and afterwards.announce_from is not None and urgency >= afterwards.announce_from:
            follow.append(Next(kind=Kind.ANNOUNCE, key=task.key, payload={"urgency": int(urgency), "reason": why}))

        def record(tx: Transaction) -> None:
            tx.predictions.keep_objects(objects)
            tx.predictions.set_urgency(task.key, urgency, why, prediction.category)

        return Done(
            follow=tuple(dataclasses.replace(item, urgency=urgency) for item in follow),
            record=record,
            note={"objects": _counted(objects), "urgency": urgency.name, "fault": fault or None},
        )

    return Handler(work=work)


def maker(ledger: Ledger, node: NodeIdentity, afterwards: Afterwards, actor: str) -> Callable[[str, str, str], None]:
    """Makes objects of a kind, of a prediction for a destination that refused another kind, and keeps them.

    All that was made of the prediction is made with it, so that a result that was held back stays so. Nothing is kept
    where there is nothing to say in that kind. What is made raises Rejected where the sources are gone.
    """

    def make(prediction_key: str, destination: str, kind: str) -> None:
        material = _material(ledger, prediction_key)
        wanted = {*(one.kind for one in material.made), kind}
        shown = [dataclasses.replace(afterwards.profile(destination), kinds=tuple(wanted))]
        order = _order(ledger, material, afterwards, needed(shown), shown)
        composed, _ = _composed(ledger, material, _warned(material), node, order)
        objects = [_kept(ledger, prediction_key, item) for item in composed if item.kind == kind]
        with ledger.begin(actor) as tx:
            tx.predictions.keep_objects(objects)

    return make


def _material(ledger: Ledger, key: str) -> _Material:
    """Raises Rejected where the ledger has no such prediction."""
    with ledger.begin_reading() as tx:
        kept = tx.predictions.load(key)
        series = tx.studies.series(kept.prediction.series_uid) if kept else None
        if kept is None or series is None:
            raise Rejected(f"there is no prediction {key}")
        return _Material(
            kept=kept,
            series=series,
            instances=tx.studies.instances(kept.prediction.series_uid),
            earlier=tx.predictions.predecessors(kept.prediction),
            made=tx.predictions.objects(key),
        )


def _weighed(material: _Material, task: Task, afterwards: Afterwards, *, shadow: bool) -> Prediction:
    """The prediction with its urgency; what was once written into objects stays, whatever the policy is now."""
    prediction = _warned(material)
    if material.made:
        return dataclasses.replace(prediction, claim=prediction.category)
    header = material.series.header
    asked = Urgency(int(task.payload.get("asked", Urgency.ROUTINE)))
    claim = afterwards.claim(prediction)
    urgency, why = afterwards.decide(material.kept.prediction, header, asked)
    if shadow:
        told = f"a shadow rule asked for it, so that nothing is raised; it would be {urgency.name}: {why}"
        urgency, why = Urgency.ROUTINE, told
    return dataclasses.replace(prediction, urgency=urgency, urgency_reason=why, claim=claim)


def _warned(material: _Material) -> Prediction:
    prediction = material.kept.prediction
    warnings = (*prediction.warnings, *_limitations(material.series.header))
    return dataclasses.replace(prediction, warnings=warnings)


def _order(
    ledger: Ledger, material: _Material, afterwards: Afterwards, kinds: tuple[str, ...], shown: Sequence[Profile]
) -> Order:
    return Order(
        kinds=kinds,
        square_only=any(one.square_only for one in shown),
        whole_maps=any(one.whole_maps for one in shown),
        predecessors=[_reference(o) for o in material.earlier if o.kind in REPORTS],
        retired=[_reference(o) for o in material.earlier if o.kind != REJECTION],
        look=look_in(ledger.data, material.instances),
        read=arrays_of(ledger),
        language=afterwards.language,
    )


def _composed(
    ledger: Ledger, material: _Material, prediction: Prediction, node: NodeIdentity, order: Order
) -> tuple[list[Composed], str]:
    """The objects, and why the result is said to have failed where it cannot be said in DICOM."""
    made_at = datetime.datetime.fromtimestamp(material.kept.made_at).astimezone()
    sources = headers_of(ledger.data, prediction, material.instances)
    try:
        return compose(prediction, mask_of(ledger, prediction.mask), sources, node, made_at, order), ""
    except Rejected as error:  # that must be said, too: no study ends in silence
        log.error("prediction %s is reported as failed: %s", prediction.key, error)
        return compose(_failed(prediction), None, sources[:1], node, made_at, order), str(error)


def _narrowed(delivery: Next, afterwards: Afterwards, known: Mapping[str, Collection[fallback.Offer]]) -> Next:
    """A delivery that says which kinds of object its destination gets, and what stands for what it refuses."""
    destination = str(delivery.payload.get("destination", ""))
    shown, refused = afterwards.profile(destination), known.get(destination, ())
    replaced = {kind: by for kind in shown.kinds if (by := fallback.stand_in(kind, refused)) != kind}
    said = fallback.errand(fallback.resolved(shown, refused).kinds, replaced)
    return dataclasses.replace(delivery, payload={**delivery.payload, **said})


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
