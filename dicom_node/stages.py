"""The stages process: everything between a complete series and its results in the PACS, but for the models."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib.metadata import version

from dicom_node.config import NodeConfig
from dicom_node.deliver.sending import refusals_of
from dicom_node.deliver.stage import commit, deliver, deliveries
from dicom_node.receive.fetching import Fetching
from dicom_node.receive.gathering import Gathering
from dicom_node.receive.reconcile import Reconciliation
from dicom_node.results import profiles
from dicom_node.results.identity import NodeIdentity
from dicom_node.results.language import language
from dicom_node.results.stage import Afterwards, maker, report
from dicom_node.route.chooser import choose
from dicom_node.route.router import route
from dicom_node.wiring import archives_of, assembly_of, fetches_of, gathering_of, identity_of, routes_of
from dicom_node.worklist import priority
from dicom_node.worklist.stage import announce
from storage import lifeline, upkeep
from storage.facts.study import Urgency
from storage.facts.task import Kind, Task
from storage.ledger import Ledger
from storage.stage import Done, Handler, Stage

log = logging.getLogger(__name__)

ACTOR = "stages"
DAY = 86400.0  #: seconds
#: Loops, and what each takes: a dead PACS must not hold up a report, nor a large report a delivery. Two look after
#: series that arrive, for a source may be slow to say what it has.
LOOPS = (
    ("assembly", (Kind.ASSEMBLE,)),
    ("assembly", (Kind.ASSEMBLE,)),
    ("fetching", (Kind.FETCH,)),
    ("routing", (Kind.ROUTE, Kind.CHOOSE)),
    ("report", (Kind.REPORT,)),
    ("upkeep", (Kind.RETAIN, Kind.VERIFY)),  # minutes, at times
    ("delivery", (Kind.DELIVER, Kind.COMMIT, Kind.ANNOUNCE)),
    ("delivery", (Kind.DELIVER, Kind.COMMIT, Kind.ANNOUNCE)),
    ("reconcile", (Kind.RECONCILE,)),
)


def run(config: NodeConfig) -> None:
    """Work until told to stop, or until the node is gone."""
    stop = threading.Event()
    lifeline.hold(stop)
    ledger = Ledger(config.node.data, config.database_url())
    gathering = gathering_of(config, ledger)
    gathering.resume()
    handlers = handlers_of(config, ledger, gathering)
    with ledger.begin(ACTOR) as tx:
        tx.queue.hasten_all(Kind.COMMIT)  # a report may have been missed: see deliver.stage.commit
    loops = [
        threading.Thread(
            target=Stage(ledger=ledger, handlers=_some(handlers, kinds), actor=name, stop=stop).run, name=name
        )
        for name, kinds in LOOPS
    ]
    for loop in loops:
        loop.start()
    gc.freeze()  # what the stages load lives on: each full collection would look through all of it again
    log.info("ready")
    for loop in loops:
        loop.join()
    ledger.close()


def handlers_of(config: NodeConfig, ledger: Ledger, gathering: Gathering) -> dict[Kind, Handler]:
    """What this process does for each kind of task."""
    node = config.node
    routes = routes_of(config)
    ups = config.worklist.ups_destination
    identity = NodeIdentity(
        software_version=version("dicom-node"),
        serial_number=node.serial_number,
        station_name=node.station_name,
        institution=node.institution,
    )
    refusals = refusals_of(ledger)
    fetches = fetches_of(config, gathering)
    afterwards = Afterwards(
        decide=priority.decider(research_may_raise=config.worklist.research_may_raise),
        claim=partial(priority.claim_of, research_may_raise=config.worklist.research_may_raise),
        deliveries=deliveries,
        profiles={name: profiles.of(section) for name, section in config.destinations.items()},
        language=language(node.language),
        announce_from=Urgency[config.worklist.ups_from] if ups else None,
        refused=lambda name: refusals.of(routes[name].destination) if name in routes else (),
    )
    make = maker(ledger, identity, afterwards, "delivery")
    handlers = {
        Kind.ASSEMBLE: assembly_of(config, ledger).handler(),
        Kind.FETCH: Fetching(ledger=ledger, sources=fetches).handler(),
        Kind.ROUTE: route(ledger, identity_of(config), priority.of_order),
        Kind.CHOOSE: choose(ledger, identity_of(config), priority.of_order),
        Kind.REPORT: report(ledger, identity, afterwards),
        Kind.DELIVER: deliver(ledger, routes, "delivery", make),
        Kind.COMMIT: commit(ledger, routes, "delivery", make),
        Kind.RECONCILE: Reconciliation(
            ledger=ledger, settings=config.reconcile, archives=archives_of(config, fetches)
        ).handler(),
        Kind.RETAIN: Handler(work=_retain(config, ledger)),
        Kind.VERIFY: Handler(work=_verify(ledger)),
    }
    if ups:
        handlers[Kind.ANNOUNCE] = announce(ledger, routes[ups].destination)
    return handlers


def _some(handlers: Mapping[Kind, Handler], kinds: Iterable[Kind]) -> dict[Kind, Handler]:
    return {kind: handlers[kind] for kind in kinds if kind in handlers}


def _retain(config: NodeConfig, ledger: Ledger) -> Callable[[Task], Done]:
    def work(_task: Task) -> Done:
        if not config.upkeep.keep_days:
            return Done(note={"why": "nothing is removed any more"})
        since = upkeep.horizon(ledger, config.upkeep.keep_days * DAY, time.time())
        freed = upkeep.retain(ledger, ACTOR, since)
        held = {"held_back_days": round(since.held / DAY, 1)} if since.held > DAY else {}
        return Done(note={"studies": freed.studies, "bytes": freed.bytes, **held})

    return work


def _verify(ledger: Ledger) -> Callable[[Task], Done]:
    def work(_task: Task) -> Done:
        return Done(note={"rows": upkeep.verify(ledger)})

    return work
