"""A destination that refuses a kind of object gets what stands for it, once, and is remembered; over real sockets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dicom_node.cli import cli
from dicom_node.deliver.acceptance import KEPT_SECONDS, Refusals
from dicom_node.deliver.destination import Destination
from dicom_node.deliver.sending import refusals_of
from dicom_node.deliver.stage import Route, commit, deliver
from dicom_node.demo.pacs import StandInPacs
from dicom_node.results import fallback, profiles
from dicom_node.results.capability import NEEDS
from dicom_node.results.profiles import PROFILES, Profile
from dicom_node.results.stage import Afterwards, maker
from storage import views
from storage.facts.errors import Rejected, Transient
from storage.facts.prediction import Prediction
from storage.facts.study import Urgency
from storage.facts.task import Kind, Next, Task
from storage.ledger import Ledger
from storage.stage import Done
from tests import builders
from tests.dicom_node.results.keeping import after, predict, receive, reported
from tests.dicom_node.results.making import NODE, labels_on

STORAGE = "1.2.840.10008.5.1.4.1.1."
LABELMAP, SEGMENTATION, CAPTURE, PAGE = (f"{STORAGE}{suffix}" for suffix in ("66.7", "66.4", "7", "104.1"))
SR_3D, SR, SR_TEXT = (f"{STORAGE}88.{suffix}" for suffix in ("34", "33", "11"))


@dataclass(slots=True, kw_only=True)
class Site:
    """A node with one destination, and what it has to say."""

    ledger: Ledger
    pacs: StandInPacs
    profile: Profile = PROFILES["weasis"]
    commitment: bool = False
    made: int = 0

    @property
    def destination(self) -> Destination:
        return Destination(
            name="pacs", ae_title="PACS", host="127.0.0.1", port=self.pacs.port, calling_ae="NODE", answer_seconds=5.0
        )

    @property
    def routes(self) -> dict[str, Route]:
        return {"pacs": Route(destination=self.destination, commitment=self.commitment, patience_seconds=5.0)}

    @property
    def afterwards(self) -> Afterwards:
        refusals = refusals_of(self.ledger)
        return after({"pacs": self.profile}, refused=lambda _name: refusals.of(self.destination))

    def say(self, key: str = "run", *, marked: bool = True) -> Prediction:
        """A result of a series that is there, as the worker leaves it."""
        sources = builders.slices()
        for ds in sources:
            ds.PixelSpacing = [0.5, 0.5]  # else some reports have no outlines
        labels = labels_on(sources)
        if not self.made:
            receive(self.ledger, sources)
        self.made += 1
        given = builders.prediction(sources, labels) if marked else builders.failure(sources)
        given = replace(given, key=key, algorithm=replace(given.algorithm, package=f"package-{self.made}"))
        return predict(self.ledger, given, labels if marked else None)

    def deliver(self, prediction: Prediction) -> Done:
        """Report it, and bring it there."""
        done = reported(self.ledger, prediction, {"pacs": self.profile}, afterwards=self.afterwards)
        return self.bring(next(item for item in done.follow if item.kind is Kind.DELIVER))

    def bring(self, item: Next) -> Done:
        make = maker(self.ledger, NODE, self.afterwards, "test")
        done = deliver(self.ledger, self.routes, "test", make).work(task_of(item))
        assert isinstance(done, Done)
        return done

    def there(self) -> list[str]:
        """The SOP classes of what the archive holds."""
        return sorted(one.sop_class_uid for one in self.pacs.objects())

    def said(self, action: str) -> list[dict[str, object]]:
        with self.ledger.read() as session:
            return [row.details for row in views.trail(session) if row.action == action]

    def kinds(self, key: str = "run") -> set[str]:
        """The kinds that were made of a prediction."""
        with self.ledger.begin_reading() as tx:
            return {one.kind for one in tx.predictions.objects(key)}


def task_of(item: Next) -> Task:
    return Task(
        id=1, kind=item.kind, key=item.key, payload=item.payload, urgency=Urgency.ROUTINE, attempt=1, failures=0,
        study_uid=None, series_uid=None, created_at=0.0,
    )  # fmt: skip


@pytest.fixture
def site(ledger: Ledger, tmp_path: Path) -> Iterator[Site]:
    with StandInPacs(tmp_path / "pacs") as pacs:
        yield Site(ledger=ledger, pacs=pacs)


def refuse(site: Site, *classes: str) -> None:
    site.pacs.stop()
    site.pacs.misbehaviour.refuse = frozenset(classes)
    site.pacs.start()


def test_a_refused_label_map_goes_as_a_binary_segmentation(site: Site) -> None:
    refuse(site, LABELMAP)
    site.deliver(site.say())
    assert SEGMENTATION in site.there()
    assert LABELMAP not in site.there()
    assert site.said("sent instead")[-1]["instead"] == {"seg-labelmap": "seg"}
    [noted] = site.said("class refused")
    assert (noted["sop_class"], noted["destination"]) == (LABELMAP, "pacs")


def test_the_next_result_begins_with_what_is_taken(site: Site) -> None:
    refuse(site, LABELMAP)
    site.deliver(site.say())
    before = site.there()
    site.deliver(site.say("second"))
    assert "seg-labelmap" not in site.kinds("second")
    assert sorted(before * 2) == site.there()
    assert site.said("sent instead")[-1] == {
        "destination": "pacs", "prediction": "second", "instead": {"seg-labelmap": "seg"},
    }  # fmt: skip
    assert len(site.said("class refused")) == 1


@pytest.mark.parametrize(
    ("profile", "classes", "gone", "instead"),
    [
        ("orthanc-ohif", {SR_3D}, "sr", "sr-comprehensive"),
        ("orthanc-ohif", {SR_3D, SR}, "sr", "sr-text"),
        ("orthanc-ohif", {SR_3D, SR, SR_TEXT}, "sr", "pdf"),
        ("orthanc-ohif", {SR_3D, SR, SR_TEXT, PAGE}, "sr", "sc"),
        ("orthanc-ohif", {SEGMENTATION}, "seg", "sc"),
        ("classic-pacs", {SR}, "sr-comprehensive", "sr"),
        ("classic-pacs", {CAPTURE}, "sc", "pdf"),
        ("classic-pacs", {PAGE}, "pdf", "sc"),
        ("weasis", {LABELMAP, SEGMENTATION}, "seg-labelmap", "sc"),
    ],
)
def test_each_kind_has_something_that_stands_for_it(
    site: Site, profile: str, classes: set[str], gone: str, instead: str
) -> None:
    site.profile = PROFILES[profile]
    refuse(site, *classes)
    site.deliver(site.say())
    assert site.said("sent instead")[-1]["instead"] == {gone: instead}
    assert set(NEEDS[instead]) & set(site.there())
    assert not classes & set(site.there())
    before = site.there()
    assert len(before) == len(set(before))
    again = site.deliver(site.say("second"))
    assert site.there() == sorted(before * 2)
    assert again.note["objects"] == len(before)  # none was offered in vain


def test_a_failure_is_told_by_a_picture_where_no_text_is_taken(site: Site) -> None:
    site.profile = PROFILES["orthanc-ohif"]
    refuse(site, SR_3D, SR, SR_TEXT, PAGE)
    site.deliver(site.say(marked=False))
    assert site.there() == [CAPTURE]


def test_where_nothing_is_taken_a_dead_letter_says_what_to_do_and_the_rest_is_there(site: Site) -> None:
    site.profile = replace(PROFILES["orthanc-ohif"], kinds=("seg", "sr", "sr-volumetric"))
    refuse(site, SR_3D, SR, SR_TEXT, PAGE, CAPTURE)
    with pytest.raises(Rejected) as caught:
        site.deliver(site.say())
    assert "takes nothing that could stand for sr:" in str(caught.value)
    assert "status 0x0122, it does not support the SOP class" in str(caught.value)
    assert "`dicom-node tasks retry`" in str(caught.value)
    assert site.there() == [SEGMENTATION]
    assert site.said("sent instead")[-1]["instead"] == {"sr": "nothing", "sr-volumetric": "nothing"}


def test_a_dead_letter_that_is_tried_again_is_not_stopped_by_what_is_remembered(site: Site) -> None:
    site.profile = PROFILES["orthanc-ohif"]
    refuse(site, SR_3D, SR, SR_TEXT, PAGE, CAPTURE)
    done = reported(site.ledger, site.say(), {"pacs": site.profile}, afterwards=site.afterwards)
    with pytest.raises(Rejected):
        site.bring(done.follow[0])
    refuse(site)
    site.bring(done.follow[0])
    assert site.there() == sorted([SEGMENTATION, SR_3D])
    assert (SR_3D, "1.2.840.10008.1.2.1") not in refusals_of(site.ledger).of(site.destination)


def test_a_result_that_is_there_in_one_form_is_not_sent_in_another(site: Site) -> None:
    refuse(site, LABELMAP)
    done = reported(site.ledger, site.say(), {"pacs": site.profile}, afterwards=site.afterwards)
    site.bring(done.follow[0])
    before = site.there()
    refuse(site)
    refusals_of(site.ledger).forget(site.destination)
    site.bring(done.follow[0])
    assert site.there() == before


def test_an_interrupted_delivery_goes_on_with_what_stands_for_it(site: Site) -> None:
    refuse(site, LABELMAP)
    site.pacs.misbehaviour.abort_every = 3
    done = reported(site.ledger, site.say(), {"pacs": site.profile}, afterwards=site.afterwards)
    tries = 0
    while True:
        try:
            site.bring(done.follow[0])
            break
        except Transient:
            tries += 1
            assert tries < 10
    assert tries
    assert SEGMENTATION in site.there()
    assert len(site.there()) == len(set(site.there()))


def test_an_archive_that_cannot_read_an_object_gets_another_form_of_this_one_only(site: Site) -> None:
    site.profile = replace(PROFILES["weasis"], kinds=("seg-labelmap", "sr"))
    site.pacs.misbehaviour.status, site.pacs.misbehaviour.status_every = 0xA900, 2
    done = reported(site.ledger, site.say(), {"pacs": site.profile}, afterwards=site.afterwards)
    site.bring(done.follow[0])
    assert len(site.there()) == 2
    assert site.said("class refused") == []
    assert refusals_of(site.ledger).of(site.destination) == frozenset()


def test_commitment_is_asked_for_what_was_sent(site: Site) -> None:
    site.commitment = True
    refuse(site, LABELMAP)
    done = site.deliver(site.say())
    [asked] = done.follow
    assert asked.kind is Kind.COMMIT
    assert "seg" in asked.payload["kinds"]
    assert "seg-labelmap" not in asked.payload["kinds"]
    with pytest.raises(Transient, match="did not take the request for Storage Commitment"):  # nothing is missing there
        commit(site.ledger, site.routes, "test").work(task_of(asked))


def test_sending_again_keeps_to_the_form_that_is_there(site: Site, tmp_path: Path) -> None:
    refuse(site, LABELMAP)
    site.deliver(site.say())
    before = site.there()
    refuse(site)
    ran = _command(site, tmp_path, "results", "resend", f"{builders.ROOT}.0", "--to", "pacs")
    assert ran.exit_code == 0, ran.output
    assert "seg-labelmap" not in ran.output
    with site.ledger.begin_reading() as tx:
        [again] = [task for task in tx.queue.due([Kind.DELIVER]) if task.key.startswith("run>pacs#")]
    done = site.bring(Next(kind=again.kind, key=again.key, payload=again.payload))
    assert done.note["objects"] == len(before)
    assert site.there() == before


def _command(site: Site, tmp_path: Path, *arguments: str) -> Result:
    path = tmp_path / "node.toml"
    path.write_text(
        f'[node]\ndata = "{site.ledger.data}"\nae_title = "NODE"\n[destinations.pacs]\nae_title = "PACS"\n'
        f'host = "127.0.0.1"\nport = {site.pacs.port}\nprofile = "weasis"\n',
        encoding="utf-8",
    )
    return CliRunner().invoke(cli, [*arguments, "-c", str(path)])


def test_a_probe_forgets_and_the_list_says_what_is_remembered(site: Site, tmp_path: Path) -> None:
    refuse(site, LABELMAP)
    site.deliver(site.say())
    listed = _command(site, tmp_path, "destinations", "list")
    assert "was seen to refuse Label Map Segmentation" in listed.output
    refuse(site)
    probed = _command(site, tmp_path, "destinations", "probe", "pacs")
    assert "forgotten: it was seen to refuse Label Map Segmentation" in probed.output
    assert refusals_of(site.ledger).of(site.destination) == frozenset()
    site.deliver(site.say("second"))
    assert LABELMAP in site.there()


def test_what_is_remembered_ends_with_the_address_and_after_a_month(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, offer = Refusals(tmp_path / "refusals"), (LABELMAP, "1.2.840.10008.1.2.5")
    assert memory.learn(site.destination, [offer], []) == [offer]
    assert memory.learn(site.destination, [offer], []) == []
    assert memory.of(site.destination) == {offer}
    assert memory.of(dataclasses.replace(site.destination, host="archive.example")) == frozenset()
    monkeypatch.setattr("dicom_node.deliver.acceptance.time.time", lambda: 1e10 + KEPT_SECONDS)
    assert memory.of(site.destination) == frozenset()
    (tmp_path / "refusals" / "pacs.json").write_text("{", encoding="utf-8")
    assert memory.of(site.destination) == frozenset()


def test_everything_that_a_profile_names_is_expendable_or_has_a_stand_in_or_is_the_images_themselves() -> None:
    kinds = {kind for one in PROFILES.values() for kind in one.kinds}
    left = kinds - set(fallback.INSTEAD) - fallback.EXPENDABLE
    assert left == {profiles.IMAGES}
