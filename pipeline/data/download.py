"""Download of a file over https: resumable, of limited size, verified before it gets its name."""

import fcntl
import hashlib
import http.client
import logging
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from pipeline.ncsn.errors import UserError

CHUNK = 1 << 20
TIMEOUT = 30
"""Seconds without an answer before a server counts as unreachable."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")
BROKEN = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError)
"""What a network that fails raises."""

log = logging.getLogger(__name__)


def download(url: str, to: Path, *, largest: int, accept: Callable[[Path], None]) -> Path:
    """Download a file: it gets its name once it is whole and accepted.

    Until then it is a hidden .part file next to it, one per url. A later call resumes an interrupted
    download if the server supports ranges.

    Args:
        largest: bytes above which the download is given up.
        accept: called with the whole file under its temporary name; raises UserError to refuse it.

    Raises:
        UserError: the url is not https, too much came, `accept` refused, or another process is at it.
        urllib.error.URLError and the others of `BROKEN`: the network failed; what has come is kept.
    """
    _check(url)
    to.parent.mkdir(parents=True, exist_ok=True)
    part = to.with_name(f".{to.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part")
    with part.open("ab") as file:
        _lock(file, url)
        kept = file.tell()
        log.info("downloading %s%s", url, f" from byte {kept}" if kept else "")
        try:
            _receive(url, file, largest)
            accept(part)
            return part.replace(to)
        except UserError:
            file.truncate(0)
            if not kept:
                raise
        finally:
            if not os.fstat(file.fileno()).st_size:
                part.unlink(missing_ok=True)
    return download(url, to, largest=largest, accept=accept)  # the kept part was of another file: start again


def _check(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise UserError(f"{url} is refused: only https is read.")


def _lock(file: BinaryIO, url: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"another process is downloading {url}: wait for it, then run again.") from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to where a download may begin."""

    def redirect_request(self, *arguments: object) -> urllib.request.Request | None:
        _check(str(arguments[-1]))
        return super().redirect_request(*arguments)  # type: ignore[arg-type]


def _receive(url: str, file: BinaryIO, largest: int) -> None:
    """Append what is missing of a file, or rewrite it where the server sends the whole."""
    start = file.tell()
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        answer = urllib.request.build_opener(_Redirects).open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if start and error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # nothing is missing
            raise
    with answer:
        if not str(answer.headers["Content-Range"]).startswith(f"bytes {start}-"):
            file.truncate(0)
        whole = file.seek(0, 2) + (answer.length or 0)
        _copy(answer, file, largest, whole)
    if file.tell() < whole:
        raise ConnectionError(f"the connection broke after {file.tell()} of {whole} bytes: run again to resume")


def _copy(answer: http.client.HTTPResponse, file: BinaryIO, largest: int, whole: int) -> None:
    if whole > largest:
        raise UserError(f"it has {whole} bytes, more than the {largest} that it may have.")
    while data := answer.read(CHUNK):
        if file.tell() + len(data) > largest:
            raise UserError(f"more than the {largest} bytes came that it may have.")
        file.write(data)
        file.flush()
