"""A server of static files on this machine, for tests and measurements in a browser.

It counts what it sends, compresses once and keeps that, and can hold a file back half-way.
"""

from __future__ import annotations

import gzip
import mimetypes
import posixpath
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TYPES = {
    ".tlc": "image/x-trellic",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
    ".onnx": "application/octet-stream",
    ".bin": "application/octet-stream",
}
COMPRESSED = frozenset({".js", ".mjs", ".wasm", ".json", ".html", ".onnx", ".bin"})
ISOLATED = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}


class Site(ThreadingHTTPServer):
    """Folders under prefixes.

    Parameters
    ----------
    folders : folder of each prefix, such as "/" and "/web/"
    isolated : send the headers without which pages have no SharedArrayBuffer
    compress : send scripts, WebAssembly and models by gzip

    Attributes
    ----------
    sent : bytes of bodies sent, by path, in the order of the requests
    gates : paths that are sent by halves, the second one when the event is set
    """

    daemon_threads = True

    def __init__(
        self, folders: Mapping[str, Path], *, isolated: bool = False, compress: bool = True
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folders, self.isolated = dict(folders), isolated
        self.suffixes = COMPRESSED if compress else frozenset()
        self.sent: list[tuple[str, int]] = []
        self.gates: dict[str, threading.Event] = {}
        self._kept: dict[Path, bytes] = {}

    @property
    def address(self) -> str:
        """Of its root, without a slash at the end."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def find(self, path: str) -> Path | None:
        """File of a path, inside the folder of its longest prefix."""
        clean = posixpath.normpath(urllib.parse.unquote(path))
        for prefix in sorted(self.folders, key=len, reverse=True):
            if clean.startswith(prefix):
                file = self.folders[prefix] / clean.removeprefix(prefix)
                return file if file.is_file() else None
        return None

    def compressed(self, file: Path) -> bytes:
        """Content of a file, by gzip; kept."""
        if file not in self._kept:
            self._kept[file] = gzip.compress(file.read_bytes(), 9, mtime=0)
        return self._kept[file]

    def compress_all(self) -> None:
        """Compress ahead what would be compressed, so that no page waits for it."""
        for folder in self.folders.values():
            for file in folder.rglob("*"):
                if file.suffix in self.suffixes:
                    self.compressed(file)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Site

    def do_GET(self) -> None:
        path = urllib.parse.urlsplit(self.path).path
        file = self.server.find(path)
        if file is None:
            self.send_error(404)
            return
        gzipped = file.suffix in self.server.suffixes and "gzip" in self.headers.get(
            "Accept-Encoding", ""
        )
        body = self.server.compressed(file) if gzipped else file.read_bytes()
        self.send_response(200)
        kind = TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0]
        self.send_header("Content-Type", kind or "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "max-age=600")
        for name, value in (ISOLATED if self.server.isolated else {}).items():
            self.send_header(name, value)
        if gzipped:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.server.sent.append((path, len(body)))
        gate = self.server.gates.get(path)
        if gate:
            half = len(body) // 2
            self.wfile.write(body[:half])
            self.wfile.flush()
            gate.wait(60)
            body = body[half:]
        self.wfile.write(body)

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:  # the page went away, as it may
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(
    folders: Mapping[str, Path], *, isolated: bool = False, compress: bool = True
) -> Iterator[Site]:
    """Serve for a while."""
    site = Site(folders, isolated=isolated, compress=compress)
    thread = threading.Thread(target=site.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        for gate in site.gates.values():
            gate.set()
        site.shutdown()
        site.server_close()
        thread.join()
