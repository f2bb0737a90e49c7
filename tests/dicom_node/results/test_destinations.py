"""Destinations are asked what they take, and each gets what its profile says, over real sockets."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.cli import cli
from dicom_node.config import DestinationSection
from dicom_node.deliver.destination import Destination
from dicom_node.deliver.echo import echo
from dicom_node.deliver.stage import Route, deliver
from dicom_node.results import capability, profiles
from dicom_node.results.report import Order, compose
from dicom_node.results.stage import maker
from storage.facts.errors import Misconfigured, Transient
from storage.facts.study import Urgency
from storage.facts.task import Kind, Task
from storage.ledger import Ledger
from tests import builders
from tests.dicom_node.deliver.making import free_port
from tests.dicom_node.results import finding
from tests.dicom_node.results.keeping import after, predict, receive, reported
from tests.dicom_node.results.making import NODE, labels_on, looking

#: A PACS that takes pictures, pages, and reports of the older classes only.
RESTRICTED = """
[[TransferSyntaxes]]
[Plain]
TransferSyntax1 = LittleEndianExplicit
TransferSyntax2 = LittleEndianImplicit
[[PresentationContexts]]
[Classic]
PresentationContext1 = VerificationSOPClass\\Plain
PresentationContext2 = SecondaryCaptureImageStorage\\Plain
PresentationContext3 = EncapsulatedPDFStorage\\Plain
PresentationContext4 = ComprehensiveSRStorage\\Plain
PresentationContext5 = BasicTextSRStorage\\Plain
PresentationContext6 = CTImageStorage\\Plain
PresentationContext7 = MRImageStorage\\Plain
[[Profiles]]
[Default]
PresentationContexts = Classic
"""
Start = Callable[..., Destination]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a DCMTK receiver that writes what it gets into a folder of its name."""
    installed = shutil.which("dcmdump")
    if installed is None:
        pytest.skip("DCMTK is not installed")
    program = Path(installed).with_name("storescp")  # pynetdicom installs another one of that name
    running = []

    def begin(name: str, *options: str) -> Destination:
        (tmp_path / name).mkdir()
        to = Destination(name=name, ae_title=name.upper(), host="127.0.0.1", port=free_port(), calling_ae="NODE")
        command = [program, *options, "-od", str(tmp_path / name), str(to.port)]
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        _wait_for(to)
        return to

    yield begin
    for process in running:
        process.terminate()
        process.wait(10)


def _wait_for(to: Destination) -> None:
    for _ in range(100):
        try:
            echo(to)
        except Transient:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"{to} does not answer")


def restricted(folder: Path) -> tuple[str, ...]:
    (folder / "classic.cfg").write_text(RESTRICTED, encoding="utf-8")
    return "-xf", str(folder / "classic.cfg"), "Default"


def configured(folder: Path, to: Destination, more: str = "") -> Path:
    path = folder / "node.toml"
    path.write_text(
        f'[destinations.{to.name}]\nae_title = "{to.ae_title}"\nhost = "127.0.0.1"\nport = {to.port}\n{more}',
        encoding="utf-8",
    )
    return path


def asked(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["destinations", *arguments, "-c", str(path)])


def test_a_restricted_archive_is_found_out_and_given_a_profile_that_it_takes(start: Start, tmp_path: Path) -> None:
    to = start("pacs", *restricted(tmp_path))
    ran = asked(configured(tmp_path, to), "probe", "PACS")
    assert ran.exit_code == 1
    for expected in (
        "no   Segmentation                             refused",
        "yes  Comprehensive SR                         Explicit VR, Implicit VR",
        "no   Comprehensive 3D SR                      refused",
        'profile = "classic-pacs"',
        "configured is orthanc-ohif: seg, sr, pmap would be refused",
    ):
        assert expected in ran.output
    assert "without" not in ran.output
    again = asked(configured(tmp_path, to, 'profile = "classic-pacs"\n'), "probe", "pacs")
    assert again.exit_code == 0
    assert "all of it would be taken" in again.output
    assert list((tmp_path / "pacs").iterdir()) == []


def test_a_destination_that_does_not_answer_is_told_apart_from_one_that_refuses(tmp_path: Path) -> None:
    nobody = Destination(name="gone", ae_title="GONE", host="127.0.0.1", port=free_port(), calling_ae="NODE")
    ran = asked(configured(tmp_path, nobody), "probe", "gone")
    assert ran.exit_code != 0
    assert "could not be asked" in str(ran.exception)
    unknown = asked(configured(tmp_path, nobody), "probe", "OTHER")
    assert "known: gone" in str(unknown.exception)


def test_destinations_are_listed_with_what_they_get(tmp_path: Path) -> None:
    to = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104, calling_ae="NODE")
    ran = asked(configured(tmp_path, to, 'profile = "weasis"\nwithout = ["image"]\n'), "list")
    assert ran.exit_code == 0
    assert "pacs: PACS at 127.0.0.1:104" in ran.output
    assert "profile weasis: seg-labelmap, sc, sc-map, gsps, sr, pmap, kos" in ran.output


def test_a_destination_never_goes_without_a_report() -> None:
    section = DestinationSection(ae_title="PACS", host="pacs", port=104, profile="slicer", without=("sr",))
    with pytest.raises(Misconfigured, match="no report left"):
        profiles.of(section)
    with pytest.raises(Misconfigured, match="no kind pictures"):
        profiles.of(section.model_copy(update={"without": ("pictures",)}))


def test_every_object_that_is_made_is_asked_for_in_the_probe() -> None:
    sources = builders.slices()
    labels = labels_on(sources)
    prediction, read = finding.everything(sources, labels)
    everything = Order(kinds=profiles.KINDS, look=looking(sources), read=read)
    made = compose(prediction, labels, sources, NODE, builders.MADE_AT, everything)
    made += compose(builders.failure(sources), None, sources, NODE, builders.MADE_AT, everything)
    for one in made:
        name, syntaxes = capability.CLASSES[one.dataset.SOPClassUID]
        assert name
        assert one.dataset.file_meta.TransferSyntaxUID in syntaxes
        assert one.dataset.SOPClassUID in capability.NEEDS[one.kind]
    assert set(capability.NEEDS) == set(profiles.KINDS)


@pytest.mark.parametrize("profile", profiles.PROFILES.values(), ids=lambda p: p.name)
def test_an_archive_that_takes_all_of_a_profile_is_proposed_one_that_loses_nothing(profile: profiles.Profile) -> None:
    needed = {uid for kind in profile.kinds for uid in capability.NEEDS[kind]}
    found = capability.propose({uid: capability.CLASSES[uid][1] for uid in needed})
    assert found is not None
    assert found.without == ()


def test_an_archive_without_reports_is_proposed_nothing() -> None:
    only_pictures = {"1.2.840.10008.5.1.4.1.1.7": capability.CLASSES["1.2.840.10008.5.1.4.1.1.7"][1]}
    assert capability.propose(only_pictures) is None


def test_two_destinations_get_what_their_profiles_say(start: Start, ledger: Ledger, tmp_path: Path) -> None:
    viewer, pacs = start("viewer", "+xa"), start("pacs", *restricted(tmp_path))
    sources = builders.slices()
    for ds in sources:
        ds.PixelSpacing = [0.5, 0.5]  # else that viewer gets a report without outlines
    labels = labels_on(sources)
    receive(ledger, sources)
    kept = predict(ledger, builders.prediction(sources, labels), labels)
    named = {"viewer": profiles.PROFILES["orthanc-ohif"], "pacs": profiles.PROFILES["classic-pacs"]}
    done = reported(ledger, kept, named)
    routes = {to.name: Route(destination=to, commitment=False, patience_seconds=1.0) for to in (viewer, pacs)}
    handler = deliver(ledger, routes, "test")
    for number, item in enumerate(done.follow):
        handler.work(_task(item.key, dict(item.payload), number))
    assert _received(tmp_path / "viewer") == {"Segmentation Storage", "Comprehensive 3D SR Storage"}
    assert _received(tmp_path / "pacs") == {
        "Secondary Capture Image Storage", "Comprehensive SR Storage", "Encapsulated PDF Storage",
    }  # fmt: skip


def test_dcmtk_gets_what_stands_for_what_it_refuses(start: Start, ledger: Ledger, tmp_path: Path) -> None:
    pacs = start("pacs", *restricted(tmp_path))
    sources = builders.slices()
    for ds in sources:
        ds.PixelSpacing = [0.5, 0.5]
    labels = labels_on(sources)
    receive(ledger, sources)
    kept = predict(ledger, builders.prediction(sources, labels), labels)
    named = {"pacs": profiles.DEFAULT}
    [delivery] = reported(ledger, kept, named).follow
    routes = {"pacs": Route(destination=pacs, commitment=False, patience_seconds=1.0)}
    handler = deliver(ledger, routes, "test", maker(ledger, NODE, after(named), "test"))
    handler.work(_task(delivery.key, dict(delivery.payload), 1))
    assert _received(tmp_path / "pacs") == {"Secondary Capture Image Storage", "Comprehensive SR Storage"}


def _task(key: str, payload: dict[str, object], number: int) -> Task:
    return Task(
        id=number, kind=Kind.DELIVER, key=key, payload=payload, urgency=Urgency.ROUTINE, attempt=1, failures=0,
        study_uid=None, series_uid=None, created_at=0.0,
    )  # fmt: skip


def _received(folder: Path) -> set[str]:
    found: list[Dataset] = [dcmread(file) for file in folder.iterdir()]
    return {ds.SOPClassUID.name for ds in found}


def test_orthanc_is_asked(tmp_path: Path) -> None:
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("Orthanc is not installed")
    to = Destination(name="orthanc", ae_title="ORTHANC", host="127.0.0.1", port=free_port(), calling_ae="NODE")
    settings = tmp_path / "orthanc.json"
    settings.write_text(
        f'{{"DicomPort": {to.port}, "HttpServerEnabled": false, "StorageDirectory": "{tmp_path / "db"}",'
        f'"IndexDirectory": "{tmp_path / "db"}", "Plugins": []}}'
    )
    with subprocess.Popen([program, str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(replace(to, connect_seconds=2.0))
            ran = asked(configured(tmp_path, to), "probe", "orthanc")
        finally:
            process.terminate()
    assert ran.exit_code == 0, ran.output
    assert "yes  Storage Commitment" in ran.output
    assert 'profile = "orthanc-ohif"' in ran.output
