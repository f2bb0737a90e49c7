"""OHIF's own files and the archive's DICOMweb behind one address, as a browser wants it."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.viewers.archive import Archive

_PASSED_ON = ("Accept", "Content-Type", "Range")


def _configuration(url: str) -> str:
    source = {
        "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
        "sourceName": "dicomweb",
        "configuration": {
            "friendlyName": "Archive", "name": "archive",
            "wadoUriRoot": f"{url}/wado", "qidoRoot": f"{url}/dicom-web", "wadoRoot": f"{url}/dicom-web",
            "qidoSupportsIncludeField": False, "imageRendering": "wadors", "thumbnailRendering": "wadors",
            "enableStudyLazyLoad": True, "supportsFuzzyMatching": False, "supportsWildcard": True,
            "omitQuotationForMultipartRequest": True,
            "bulkDataURI": {"enabled": True},
        },
    }  # fmt: skip
    config = {
        "routerBasename": None, "extensions": [], "modes": [], "showStudyList": True, "maxNumberOfWebWorkers": 2,
        "showLoadingIndicator": True, "strictZSpacingForVolumeViewport": True, "showErrorDetails": "always",
        "disableConfirmationPrompts": True, "defaultDataSourceName": "dicomweb", "dataSources": [source],
    }  # fmt: skip
    return f"window.config = {json.dumps(config)};"


class _Handler(SimpleHTTPRequestHandler):
    archive: Archive

    def do_GET(self) -> None:
        if self.path.startswith(("/dicom-web", "/wado")):
            self._pass_on()
        elif self.path.partition("?")[0] == "/app-config.js":
            self._answer(200, "text/javascript", _configuration(f"http://{self.headers['Host']}").encode())
        else:
            inside = Path(self.translate_path(self.path))
            if not inside.is_file():
                self.path = "/index.html"  # a page of the application
            super().do_GET()

    def _pass_on(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.archive.http, timeout=60)
        wanted = {name: self.headers[name] for name in _PASSED_ON if name in self.headers}
        connection.request("GET", self.path, headers=wanted | {"Host": self.headers["Host"]})
        answer = connection.getresponse()
        self._answer(answer.status, answer.getheader("Content-Type", "application/octet-stream"), answer.read())
        connection.close()

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Be silent."""


@contextmanager
def site(dist: Path, archive: Archive) -> Iterator[str]:
    """Serve the viewer; gives its address."""
    handler = type("Handler", (_Handler,), {"archive": archive})
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *given: handler(*given, directory=str(dist)))  # type: ignore[misc]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
