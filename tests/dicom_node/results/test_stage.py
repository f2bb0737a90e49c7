"""The REPORT stage on a real ledger: each destination is promised what it can show, and everything is made once."""

from __future__ import annotations

import io
from dataclasses import replace

import pydicom

from dicom_node.results.profiles import PROFILES
from storage.ledger import Ledger
from tests import builders
from tests.dicom_node.results.keeping import predict, receive, reported
from tests.dicom_node.results.making import labels_on


def test_each_destination_is_promised_the_kinds_of_its_profile_and_all_are_made_once(ledger: Ledger) -> None:
    sources = builders.slices()
    labels = labels_on(sources)
    receive(ledger, sources)
    prediction = predict(ledger, builders.prediction(sources, labels), labels)
    done = reported(ledger, prediction, {"viewer": PROFILES["orthanc-ohif"], "pacs": PROFILES["classic-pacs"]})
    with ledger.begin_reading() as tx:
        objects = {one.kind: one for one in tx.predictions.objects(prediction.key)}
    assert set(objects) == {"seg", "sc", "sr", "sr-comprehensive", "pdf"}
    promised = {item.payload["destination"]: item.payload["kinds"] for item in done.follow}
    assert promised == {"viewer": list(PROFILES["orthanc-ohif"].kinds), "pacs": list(PROFILES["classic-pacs"].kinds)}
    for one in objects.values():
        dataset = pydicom.dcmread(io.BytesIO(ledger.blobs.get(one.blob)))
        assert (dataset.SOPInstanceUID, dataset.file_meta.TransferSyntaxUID) == (
            one.sop_instance_uid, one.transfer_syntax_uid,
        )  # fmt: skip
        assert one.size == ledger.blobs.path(one.blob).stat().st_size


def test_reporting_again_makes_the_same_bytes(ledger: Ledger) -> None:
    sources = builders.slices()
    labels = labels_on(sources)
    receive(ledger, sources)
    prediction = predict(ledger, builders.prediction(sources, labels), labels)
    destinations = {"pacs": PROFILES["classic-pacs"], "archive": PROFILES["dcm4chee"], "eye": PROFILES["weasis"]}
    reported(ledger, prediction, destinations)
    blobs = sorted(path for path in ledger.blobs.path("00").parent.parent.rglob("*") if path.is_file())
    reported(ledger, prediction, destinations)
    assert sorted(path for path in ledger.blobs.path("00").parent.parent.rglob("*") if path.is_file()) == blobs


def test_a_later_revision_retires_the_objects_of_the_earlier_one(ledger: Ledger) -> None:
    sources = builders.slices()
    labels = labels_on(sources)
    receive(ledger, sources)
    first = predict(ledger, builders.prediction(sources, labels), labels)
    reported(ledger, first, {"archive": PROFILES["dcm4chee"]})
    second = predict(ledger, replace(first, key=f"{first.key}-late", revision=1), labels)
    reported(ledger, second, {"archive": PROFILES["dcm4chee"]})
    with ledger.begin_reading() as tx:
        old, new = (tx.predictions.objects(one.key) for one in (first, second))
    assert "kos-rejection" not in {one.kind for one in old}
    note = next(one for one in new if one.kind == "kos-rejection")
    dataset = pydicom.dcmread(io.BytesIO(ledger.blobs.get(note.blob)))
    [study] = dataset.CurrentRequestedProcedureEvidenceSequence
    listed = {s.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for s in study.ReferencedSeriesSequence}
    assert listed == {one.sop_instance_uid for one in old}


def test_a_result_for_nobody_is_still_kept_as_report_and_segmentation(ledger: Ledger) -> None:
    sources = builders.slices()
    labels = labels_on(sources)
    receive(ledger, sources)
    prediction = predict(ledger, builders.prediction(sources, labels), labels)
    assert reported(ledger, prediction, {}).follow == ()
    with ledger.begin_reading() as tx:
        assert [one.kind for one in tx.predictions.objects(prediction.key)] == ["seg", "sr"]
