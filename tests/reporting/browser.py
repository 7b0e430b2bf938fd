"""A headless Chromium, driven over the pipe of its DevTools protocol: no port, no other package."""

import base64
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # which root, as in a container, cannot have
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


def installed() -> str | None:
    """The program's path; None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@contextmanager
def opened(program: str, profile: Path) -> Iterator["Page"]:
    """A page in a browser of its own, with nothing loaded yet."""
    read, theirs_out = os.pipe()
    theirs_in, write = os.pipe()
    command = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
    arguments = ["bash", "-c", command, program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(
        arguments, pass_fds=(theirs_in, theirs_out), stderr=subprocess.DEVNULL, start_new_session=True
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        with os.fdopen(read, "rb") as incoming, os.fdopen(write, "wb") as outgoing:
            yield Page(incoming, outgoing)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the group that this process leads
        process.wait()


class Page:
    """One tab, and what it has complained of."""

    def __init__(self, incoming: Any, outgoing: Any) -> None:
        self._incoming, self._outgoing, self._last = incoming, outgoing, 0
        self._session: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []
        """Every event of the domains Log, Runtime and Network, in order."""
        targets = self("Target.getTargets")["targetInfos"]
        target = next(info["targetId"] for info in targets if info["type"] == "page")
        found = self("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": found["sessionId"]}
        for domain in ("Log", "Runtime", "Network", "Page"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **params: Any) -> Any:
        """Call a method of the protocol and wait for its answer."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params, **self._session}
        self._outgoing.write(json.dumps(message).encode() + b"\0")
        self._outgoing.flush()
        while (answer := self._next()).get("id") != self._last:
            self.events.append(answer)
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        content = bytearray()
        while (byte := self._incoming.read(1)) != b"\0":
            assert byte, "the browser has ended"
            content += byte
        return dict(json.loads(content))

    def open(self, url: str) -> None:
        """Load a page and wait until it, with its pictures, is there."""
        self.events.clear()
        self("Page.navigate", url=url)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def look(self, width: int, *, scheme: str = "light", ratio: float = 1, motion: str = "reduce") -> None:
        """Be a screen: its width in CSS pixels, `light` or `dark`, device pixels for each of CSS."""
        metrics = {"width": width, "height": 800, "deviceScaleFactor": ratio, "mobile": width < 600}
        self("Emulation.setDeviceMetricsOverride", **metrics)
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": motion}
        self("Emulation.setEmulatedMedia", features=[{"name": n, "value": v} for n, v in features.items()])

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited."""
        found = self("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"]["value"]

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG."""
        content = self("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(content))

    def complaints(self) -> list[str]:
        """Errors and warnings of the console, exceptions, and requests that failed or left the file."""
        found = []
        for event in self.events:
            method, params = event.get("method"), event.get("params", {})
            if method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(params["entry"]["text"])
            elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                found.append(json.dumps(params["args"]))
            elif method in ("Runtime.exceptionThrown", "Network.loadingFailed"):
                found.append(json.dumps(params))
            elif method == "Network.requestWillBeSent":
                url = params["request"]["url"]
                if not url.startswith(("file:", "data:", "about:")):
                    found.append(url[:200])
        return found
