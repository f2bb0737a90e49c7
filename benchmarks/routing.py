"""What routing costs: 50 rules on one series, and a rehearsal of recorded traffic against 50 rules.

    python benchmarks/routing.py --series 100000

The ledger is generated: headers of about 130 attributes with the sizes of real CT and MR, facts as the router keeps
them. One core; the time of a rehearsal includes reading the ledger.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

from dicom_node.route.facts import facts_of
from dicom_node.route.kept import derivation, facts_from, plain
from dicom_node.route.provenance import NodeIdentity
from dicom_node.route.rehearsal import rehearse
from dicom_node.route.rules import RoutingRule, evaluate
from storage.facts.routing import Rule, RuleSet
from storage.facts.study import Series
from storage.ledger import Ledger
from storage.tables import SeriesFactRow, SeriesRow

NODE = NodeIdentity(model_names=frozenset({"dicom-node"}), ae_titles=frozenset({"DICOM_NODE"}))
KINDS = (
    ("CT", "CHEST", "Thorax 1.0 Bf37", 300, 1.0),
    ("CT", "ABDOMEN", "Abdomen 3.0 Br40", 150, 3.0),
    ("CT", "HEAD", "Head 5.0", 30, 5.0),
    ("MR", "BRAIN", "t1_mprage_sag", 176, 1.0),
    ("MR", "BRAIN", "t2_tse_tra", 24, 5.0),
    ("MR", "KNEE", "pd_tse_fs_cor", 26, 3.0),
    ("CR", "CHEST", "Chest PA", 1, 0.0),
    ("CT", "CHEST", "Topogram", 1, 0.6),
)
WEEK = 7 * 86400.0


def header_of(kind: tuple[str, str, str, int, float], number: int) -> dict[str, Any]:
    """A header with the size of a real one."""
    modality, part, description, _, thickness = kind
    codes = [{"CodeValue": "RPID16", "CodingSchemeDesignator": "RADLEX", "CodeMeaning": f"{modality} {part}"}]
    filler = {f"00211{n:03X}": f"private value {n} of a vendor" for n in range(60)}
    image_type = ["ORIGINAL", "PRIMARY", "LOCALIZER" if description == "Topogram" else "AXIAL"]
    return filler | {
        "SOPClassUID": {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4"}.get(
            modality, "1.2.840.10008.5.1.4.1.1.1"
        ),
        "Modality": modality, "BodyPartExamined": part, "SeriesDescription": description, "ImageType": image_type,
        "StudyDescription": f"{modality} {part}", "ProtocolName": description, "Manufacturer": "ACME",
        "SliceThickness": thickness, "Rows": 512, "Columns": 512, "PixelSpacing": [0.7, 0.7], "KVP": 120.0,
        "ConvolutionKernel": "Bf37", "PatientName": "Doe^J", "PatientID": f"P{number}", "PatientAge": "061Y",
        "PatientBirthDate": "19650101", "StudyDate": "20260101", "StudyTime": "101112.0", "EchoTime": 3.0,
        "RepetitionTime": 2000.0, "ImagePositionPatient": [0.0, 0.0, float(number % 100)],
        "ImageOrientationPatient": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "ProcedureCodeSequence": codes,
        "RequestAttributesSequence": [{"RequestedProcedureDescription": f"{modality} {part}"}],
    }  # fmt: skip


def slices_of(header: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Slice headers of a regular stack."""
    return [header | {"ImagePositionPatient": [0.0, 0.0, float(n)]} for n in range(count)]


def series_of(number: int, kind: tuple[str, str, str, int, float]) -> Series:
    """A complete series."""
    return Series(
        series_uid=f"1.2.3.{number}", study_uid=f"1.2.{number // 4}", modality=kind[0], calling_ae=f"CT{number % 7}",
        called_ae="NODE", revision=1, instances=kind[3], header=header_of(kind, number),
    )  # fmt: skip


def rows(count: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Rows of the series and of their facts, over one week."""
    known = {}
    for kind in KINDS:
        series = series_of(0, kind)
        known[kind] = plain(facts_of(series, slices_of(dict(series.header), kind[3]), NODE))
    choose = random.Random(1)
    begin = time.time() - WEEK
    for number in range(count):
        kind = choose.choice(KINDS)
        series = series_of(number, kind)
        at = begin + WEEK * number / count
        yield (
            {
                "series_uid": series.series_uid, "study_uid": series.study_uid, "modality": kind[0],
                "calling_ae": series.calling_ae, "called_ae": "NODE", "revision": 1, "complete_instances": kind[3],
                "header": series.header, "first_at": at, "last_at": at,
            },
            {
                "series_uid": series.series_uid, "revision": 1, "derivation": derivation(NODE), "facts": known[kind],
            },
        )  # fmt: skip


def fifty_rules() -> RuleSet:
    """Rules such as sites write them: about four clauses each, many of them shared."""
    rules = []
    for n in range(50):
        modality, part, description, _, _ = KINDS[n % len(KINDS)]
        word = description.split()[0].split("_")[0]
        when = (
            f'Modality == "{modality}" && !is_derived && BodyPartExamined in ["{part}", "X{n}"] '
            f"&& SliceThickness <= {1 + n / 10} "
            f'&& (SeriesDescription.matches(r"(?i){word}") || ProtocolName == "P{n}") '
            f'&& calling_ae != "CT{n}" && number_of_frames >= {n % 30}'
        )
        rules.append(Rule(name=f"rule-{n}", expression=when, package=f"model-{n % 10}", destinations=("pacs",)))
    return RuleSet().of(rules)


def fill(ledger: Ledger, count: int) -> None:
    """Write the generated traffic."""
    engine = ledger._engine  # the benchmark writes rows as no part of the product does
    batch: list[tuple[dict[str, Any], dict[str, Any]]] = []
    with Session(engine) as session, session.begin():
        for pair in rows(count):
            batch.append(pair)
            if len(batch) == 2000:
                _flush(session, batch)
        _flush(session, batch)


def _flush(session: Session, batch: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    if batch:
        session.execute(insert(SeriesRow), [series for series, _ in batch])
        session.execute(insert(SeriesFactRow), [facts for _, facts in batch])
    batch.clear()


def one_series() -> None:
    """50 rules on one series, with every explanation, as the router asks them."""
    kind = KINDS[0]
    series = series_of(1, kind)
    slices = slices_of(dict(series.header), kind[3])
    rules = [
        RoutingRule(name=r.name, when=r.expression, package=r.package, position=r.position) for r in fifty_rules().rules
    ]
    begun = time.perf_counter()
    evaluate(rules, facts_of(series, slices, NODE))
    first = time.perf_counter() - begun
    derived, evaluated = [], []
    for _ in range(50):
        begun = time.perf_counter()
        facts = facts_of(series, slices, NODE)
        derived.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        evaluate(rules, facts)
        evaluated.append(time.perf_counter() - begun)
    print(
        f"50 rules on one series of {kind[3]} slices: {statistics.median(evaluated) * 1000:.2f} ms, its facts "
        f"{statistics.median(derived) * 1000:.2f} ms, compiling included {first * 1000:.0f} ms"
    )


def traffic(count: int) -> None:
    """A rehearsal of recorded traffic: the set in force against one with a changed rule."""
    live = fifty_rules()
    proposed = live.put(Rule(name="rule-0", expression='Modality == "CT"', package="model-0", destinations=()))
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder))
        fill(ledger, count)
        size = (Path(folder) / "ledger.db").stat().st_size
        header = len(json.dumps(header_of(KINDS[0], 1)))
        begun, used = time.perf_counter(), time.process_time()
        with ledger.begin_reading() as tx:
            assert tx.catalogue.without_facts(0.0, derivation(NODE)) == []
            asked = ((recorded, facts_from(recorded)) for recorded in tx.catalogue.recorded(0.0))
            found = rehearse(asked, live, proposed, {})
        elapsed, cpu = time.perf_counter() - begun, time.process_time() - used
        ledger.close()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{found.series} recorded series x 50 rules in two versions: {elapsed:.1f} s ({cpu:.1f} s CPU), peak memory "
        f"{memory:.0f} MB; a header has {header} bytes of JSON, the ledger {size / 1e6:.0f} MB; rule-0 gains "
        f"{found.rules['rule-0'].gained}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--series", type=int, default=100_000)
    arguments = parser.parse_args()
    one_series()
    traffic(arguments.series)


if __name__ == "__main__":
    main()
