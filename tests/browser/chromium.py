"""Headless Chromium, driven over the pair of pipes that it reads commands from: no driver program, no package."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

FOUND = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)
WEBGPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")


class PageError(Exception):
    """A script in the page threw; the text is the error's message."""


class Chromium:
    """One browser process."""

    def __init__(self, flags: Sequence[str] = WEBGPU) -> None:
        assert FOUND is not None
        self._profile = Path(tempfile.mkdtemp(prefix="tamago-chromium-"))
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        words = [FOUND, *QUIET, *flags, "--remote-debugging-pipe", f"--user-data-dir={self._profile}", "about:blank"]
        log = os.open(self._profile / "log", os.O_WRONLY | os.O_CREAT)
        # The browser reads commands from descriptor 3 and answers on 4; copies, for these may be 3 or 4 themselves.
        copies = [fcntl.fcntl(n, fcntl.F_DUPFD_CLOEXEC, 10) for n in (to_read, to_write, log)]
        moves = [(os.POSIX_SPAWN_DUP2, copy, n) for copy, n in zip(copies, (3, 4, 2), strict=True)]
        self.pid = os.posix_spawn(FOUND, words, os.environ, file_actions=moves)
        for n in (to_read, to_write, log, *copies):
            os.close(n)
        self._number = 0
        self._rest = b""
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, seconds: float = 60.0, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol, and its result."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        os.write(self._write, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + seconds
        while True:
            found = self._receive(until - time.monotonic(), method)
            if found.get("id") == number:
                if "error" in found:
                    raise PageError(f"{method}: {found['error']['message']}")
                return found["result"]
            self.events.append(found)

    def _receive(self, seconds: float, method: str) -> dict[str, Any]:
        until = time.monotonic() + seconds
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise TimeoutError(f"no answer to {method}")
            data = os.read(self._read, 1 << 20)
            if not data:
                raise ConnectionError(
                    f"the browser ended: {(self._profile / 'log').read_text(errors='replace')[-2000:]}"
                )
            self._rest += data
        text, _, self._rest = self._rest.partition(b"\0")
        return json.loads(text)

    @contextlib.contextmanager
    def page(self, url: str, *, own_storage: bool = True) -> Generator[Page]:
        """A new page; with storage of its own, as in a new profile."""
        context = self.call("Target.createBrowserContext")["browserContextId"] if own_storage else None
        where = {} if context is None else {"browserContextId": context}
        target = self.call("Target.createTarget", url="about:blank", **where)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        try:
            for domain in ("Page", "Runtime", "Log"):
                page.call(f"{domain}.enable")
            page.open(url)
            yield page
        finally:
            self.call("Target.closeTarget", targetId=target)
            if context is not None:
                self.call("Target.disposeBrowserContext", browserContextId=context)

    def close(self) -> None:
        """End the process and remove its profile."""
        with contextlib.suppress(OSError, TimeoutError, PageError):
            self.call("Browser.close", seconds=10.0)
        until = time.monotonic() + 10.0
        while os.waitpid(self.pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > until:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.05)
        os.close(self._read)
        os.close(self._write)
        shutil.rmtree(self._profile, ignore_errors=True)


class Page:
    """One tab."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser, self._session = browser, session

    def call(self, method: str, seconds: float = 60.0, **parameters: Any) -> dict[str, Any]:
        """A command for this tab."""
        return self._browser.call(method, seconds, self._session, **parameters)

    def open(self, url: str) -> None:
        """Go to an address and wait until the document is there."""
        self._browser.events.clear()
        found = self.call("Page.navigate", url=url)
        if "errorText" in found:
            raise PageError(f"{url}: {found['errorText']}")
        self.wait("document.readyState === 'complete'")

    def run(self, script: str, seconds: float = 60.0) -> Any:
        """The value of the body of an async function, as JSON.

        Raises:
            PageError: the script threw.
        """
        expression = f"(async () => {{ {script} }})()"
        ways = {"awaitPromise": True, "returnByValue": True, "userGesture": True, "allowUnsafeEvalBlockedByCSP": False}
        found = self.call("Runtime.evaluate", seconds, expression=expression, **ways)
        if "exceptionDetails" in found:
            details = found["exceptionDetails"]
            text = str(details.get("exception", {}).get("description", details["text"]))
            raise PageError(text.partition("\n    at ")[0])
        return found["result"].get("value")

    def wait(self, condition: str, seconds: float = 30.0) -> None:
        """Until a JavaScript expression is true."""
        until = time.monotonic() + seconds
        while not self.run(f"return Boolean({condition})"):
            if time.monotonic() > until:
                raise TimeoutError(f"never true in the page: {condition}")
            time.sleep(0.05)

    def look(self, width: int, height: int, *, dark: bool = False) -> None:
        """The window's size and the reader's preference of colours."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path) -> None:
        """What is in the window, as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def attach(self, selector: str, file: Path) -> None:
        """Choose a file in an input of type file."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])

    @property
    def complaints(self) -> list[str]:
        """What this tab's console and the browser's own log said as warning or error."""
        own = [e for e in self._browser.events if e.get("sessionId") == self._session]
        said = [e["params"]["entry"]["text"] for e in own if e["method"] == "Log.entryAdded"]
        thrown = [e["params"]["exceptionDetails"]["text"] for e in own if e["method"] == "Runtime.exceptionThrown"]
        console = [e["params"] for e in own if e["method"] == "Runtime.consoleAPICalled"]
        loud = [str(c["args"][0].get("value")) for c in console if c["type"] in ("warning", "error") and c["args"]]
        return said + thrown + loud
