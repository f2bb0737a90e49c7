"""An archive, a viewer and a browser, started once for all tests of this folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydicom.dataset import Dataset

from dicom_node.results.report import Composed
from tests.dicom_node.results.making import encoded
from tests.viewers.archive import DICOMWEB, Archive, orthanc, program
from tests.viewers.site import site

if TYPE_CHECKING:
    from tests.viewers.ohif import Browser


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Where a radiologist sits."""

    archive: Archive
    browser: Browser

    def store(self, sources: list[Dataset], results: list[Composed]) -> None:
        """Put a study with its results into the archive."""
        for dataset in sources:
            self.archive.store(_bytes(dataset))
        for one in results:
            self.archive.store(encoded(one))


def _bytes(dataset: Dataset) -> bytes:
    import io

    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def desk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """Needs ``--viewer FOLDER`` with OHIF's ``dist``, Orthanc with DICOMweb, and Chromium; skips without."""
    given = request.config.getoption("--viewer")
    if given is None:
        pytest.skip("no viewer was given: `make viewers` fetches OHIF and runs these tests")
    ohif = pytest.importorskip("tests.viewers.ohif", reason="playwright is not installed", exc_type=ImportError)
    dist, chromium = Path(given), shutil.which("chromium") or shutil.which("google-chrome")
    missing = [
        what
        for what, there in (
            (f"{dist}/index.html", (dist / "index.html").is_file()), ("Orthanc", program()),
            ("its DICOMweb plugin", DICOMWEB.is_file()), ("chromium", chromium),
        )
        if not there
    ]  # fmt: skip
    if missing:
        pytest.fail(f"a viewer was given, but there is no {', no '.join(missing)}")
    assert chromium is not None
    shots = Path(request.config.getoption("--viewer-shots") or tmp_path_factory.mktemp("shots"))
    with (
        orthanc(tmp_path_factory.mktemp("orthanc")) as archive,
        site(dist, archive) as url,
        ohif.browser(url, chromium, shots) as browser,
    ):
        yield Desk(archive=archive, browser=browser)
