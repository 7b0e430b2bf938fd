"""A web server on this machine, with the habits of real ones."""

import contextlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Server:
    """What it serves and how; changes hold from the next request on."""

    root: Path
    url: str = ""
    ranges: bool = True
    """It knows the header Range."""
    length: bool = True
    """It says how long its answer is."""
    break_after: int | None = None
    """Bytes after which the next answer ends."""
    redirect: str = ""
    """Where it sends every request instead of answering."""
    asked: list[str | None] = field(default_factory=list)
    """The header Range of each request."""


@contextmanager
def serving(root: Path) -> Iterator[Server]:
    server = Server(root)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            """Keep the tests' output clean."""

        def do_GET(self) -> None:
            asked = self.headers["Range"]
            server.asked.append(asked)
            path = root / self.path.lstrip("/")
            if server.redirect:
                self._head(302, {"Location": server.redirect})
            elif not path.is_file():
                self._head(404, {"Content-Length": "0"})
            else:
                self._answer(path.read_bytes(), asked)

        def _answer(self, data: bytes, asked: str | None) -> None:
            start = int(re.findall(r"\d+", asked)[0]) if asked and server.ranges else 0
            if start and start >= len(data):
                self._head(416, {"Content-Length": "0"})
                return
            headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
            if server.length:
                headers["Content-Length"] = str(len(data) - start)
            self._head(206 if start else 200, headers)
            with contextlib.suppress(ConnectionError):  # a client that has refused the file hangs up
                self.wfile.write(data[start:][: server.break_after])
            server.break_after = None

        def _head(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
