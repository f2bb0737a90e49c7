"""OHIF in a headless browser, asked what a radiologist would see."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from playwright.sync_api import ConsoleMessage, Page, sync_playwright
from playwright.sync_api import Error as BrowserError

#: Software rendering of WebGL, and no calls to the browser's maker.
ARGUMENTS = (
    "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist",
    "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
PATIENCE = 60.0  #: seconds until something must have appeared; software rendering is slow
THUMBNAIL = "[data-cy^=study-browser-thumbnail][data-series]"

#: What stands in the way of a first look: a tour and a notice.
_BEFORE = """
localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour']));
localStorage.setItem('investigationalUseDialog', JSON.stringify({expiryDate: '2099-01-01T00:00:00.000Z'}));
sessionStorage.setItem('investigationalUseDialog', 'hidden');
"""
_VIEWPORT = "const viewport = window.cornerstone.getEnabledElements()[0].viewport;"
#: Scrolls to the slice nearest to a point of the patient; gives where the point lies in the page.
_GO_TO = f"""async (point) => {{
  {_VIEWPORT}
  const far = (id) => {{
    const plane = window.cornerstone.metaData.get('imagePlaneModule', id);
    const [r, c] = [plane.rowCosines, plane.columnCosines];
    const n = [r[1]*c[2]-r[2]*c[1], r[2]*c[0]-r[0]*c[2], r[0]*c[1]-r[1]*c[0]];
    return Math.abs([0, 1, 2].reduce((sum, i) => sum + n[i] * (point[i] - plane.imagePositionPatient[i]), 0));
  }};
  const ids = viewport.getImageIds();
  const nearest = ids.reduce((best, id, i) => far(id) < far(ids[best]) ? i : best, 0);
  if (!viewport.setImageIdIndex) {{  // a volume
    viewport.jumpToWorld(point);
    viewport.render();
  }} else if (viewport.getCurrentImageIdIndex() !== nearest) {{
    await viewport.setImageIdIndex(nearest);
    viewport.render();
  }}
  const [x, y] = viewport.worldToCanvas(point);
  const box = viewport.element.getBoundingClientRect();
  return [x + box.left, y + box.top];
}}"""

Point = Sequence[float]
Colour = npt.NDArray[np.float64]


class Viewer:
    """One open study."""

    def __init__(self, page: Page, shots: Path, name: str) -> None:
        self._page, self._shots, self._name = page, shots, name
        self.faults: list[str] = []
        page.on("console", self._listen)
        page.on("pageerror", lambda error: self.faults.append(str(error)))

    def _listen(self, message: ConsoleMessage) -> None:
        if "Error Boundary" in message.text or (message.type == "error" and "Error" in message.text):
            self.faults.append(message.text)

    def open(self, url: str, study_uid: str) -> None:
        """Wait until the first images are shown."""
        self._page.goto(f"{url}/viewer?StudyInstanceUIDs={study_uid}")
        self._page.wait_for_selector(THUMBNAIL, timeout=PATIENCE * 1000)
        self._page.wait_for_function(
            "() => window.cornerstone?.getEnabledElements()[0]?.viewport?.getImageIds?.().length > 0",
            timeout=PATIENCE * 1000,
        )

    def listed(self) -> list[str]:
        """Modality of each series that the study browser lists."""
        return [str(one.inner_text()).partition("\n")[0] for one in self._page.query_selector_all(THUMBNAIL)]

    def show(self, modality: str) -> None:
        """Open the series of a modality, as a double click does."""
        [one] = [t for t in self._page.query_selector_all(THUMBNAIL) if t.inner_text().startswith(f"{modality}\n")]
        one.dblclick()

    def until(self, seen: Callable[[], bool]) -> bool:
        """Whether something comes true in time; a picture is kept either way."""
        end = time.monotonic() + PATIENCE
        while not (found := self._try(seen)) and time.monotonic() < end:
            time.sleep(0.5)
        self.shoot()
        return found

    def _try(self, seen: Callable[[], bool]) -> bool:
        try:
            return seen()
        except BrowserError:  # the page is between two states
            return False

    def shoot(self) -> Path:
        """Keep what is seen now."""
        number = len(list(self._shots.glob(f"{self._name}-*.png"))) + 1
        path = self._shots / f"{self._name}-{number}.png"
        self._page.screenshot(path=path)
        return path

    def words(self) -> str:
        """All text of the page, in one line."""
        return " ".join(str(self._page.inner_text("body")).split())

    def annotations(self) -> str:
        """What is written on the image."""
        return " | ".join(str(one.text_content()) for one in self._page.query_selector_all("svg.svg-layer text"))

    def drawn(self) -> list[tuple[float, float, float, float]]:
        """Left, top, right, bottom in the page of each outline on the image."""
        boxes = self._page.evaluate(
            "() => [...document.querySelectorAll('svg.svg-layer polyline, svg.svg-layer path, svg.svg-layer ellipse')]"
            ".map(e => e.getBoundingClientRect()).map(b => [b.left, b.top, b.right, b.bottom])"
        )
        return [tuple(box) for box in boxes]

    def image_size(self) -> tuple[int, int]:
        """Columns and rows of the image that is shown."""
        columns, rows = self._page.evaluate(
            f"() => {{ {_VIEWPORT} const plane = window.cornerstone.metaData.get('imagePlaneModule', "
            "viewport.getCurrentImageId()); return [plane.columns, plane.rows]; }"
        )
        return int(columns), int(rows)

    def loaded(self) -> bool:
        """Whether every image of the stack that is shown has come."""
        return bool(
            self._page.evaluate(
                f"() => {{ {_VIEWPORT} "
                "return viewport.getImageIds().every(id => window.cornerstone.cache.getImage(id)); }"
            )
        )

    def has(self, selector: str) -> bool:
        """Whether the page has such an element."""
        return self._page.query_selector(selector) is not None

    def place(self, point: Point) -> tuple[float, float]:
        """Scroll to a point of the patient (LPS, mm); gives where it lies in the page."""
        x, y = self._page.evaluate(_GO_TO, [float(value) for value in point])
        return float(x), float(y)

    def tint(self, point: Point) -> Colour:
        """The colour at a point of the patient without its grey, in units of full saturation (-1..1)."""
        x, y = self.place(point)
        time.sleep(0.3)  # to be painted
        with Image.open(io.BytesIO(self._page.screenshot())) as picture:
            around = np.asarray(picture.convert("RGB"), float)[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3]
        colour: Colour = around.reshape(-1, 3).mean(axis=0) / 255
        return colour - colour.mean()

    def shows(self, point: Point, colour: Sequence[int]) -> bool:
        """Whether a point of the patient has the hue of a colour."""
        seen, wanted = self.tint(point), np.asarray(colour, float) / 255
        wanted = wanted - wanted.mean()
        length = float(np.linalg.norm(seen))
        return length > 0.03 and float(seen @ wanted) / (length * float(np.linalg.norm(wanted))) > 0.9

    def saturation(self, point: Point) -> float:
        """How coloured a point of the patient is, 0..1."""
        return float(np.linalg.norm(self.tint(point)))

    def is_grey(self, point: Point) -> bool:
        """Whether nothing colours a point of the patient."""
        return self.saturation(point) < 0.02


class Browser:
    """Opens studies, each in a page of its own."""

    def __init__(self, url: str, shots: Path, new_page: Callable[[], Page]) -> None:
        self._url, self._shots, self._new_page = url, shots, new_page

    @contextmanager
    def study(self, study_uid: str, name: str) -> Iterator[Viewer]:
        """A viewer on a study; its pictures are kept under the name."""
        page = self._new_page()
        try:
            viewer = Viewer(page, self._shots, name)
            viewer.open(self._url, study_uid)
            yield viewer
        finally:
            page.close()


@contextmanager
def browser(url: str, chromium: str, shots: Path) -> Iterator[Browser]:
    """Start it."""
    shots.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        context = started.new_context(viewport={"width": 1400, "height": 900})
        context.add_init_script(_BEFORE)
        yield Browser(url, shots, context.new_page)
        started.close()


def version(dist: Path) -> str:
    """Which OHIF is tried."""
    package = dist.parent / "package.json"
    return str(json.loads(package.read_text(encoding="utf-8"))["version"]) if package.is_file() else "unknown"
