# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Headless Chromium, controlled over a pair of pipes (Chrome DevTools Protocol)."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROGRAM = "chromium"
_SECONDS = 60
# The browser reads from descriptor 3 and writes to descriptor 4; bash moves the pipes there.
_START = 'exec "$@" 3<&"$IN" 4>&"$OUT"'
_SWITCHES = (
    "--headless",
    "--remote-debugging-pipe",
    # The sandbox does not work as root. The tests open only their own pages.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
)


class Browser:
    """A running browser; a context manager. command: adds a prefix to its command line."""

    def __init__(self, folder: Path, command: Callable[..., list[str]] | None = None) -> None:
        arguments = ["bash", "-c", _START, "bash", PROGRAM, *_SWITCHES, f"--user-data-dir={folder}"]
        browser_in, self._to = self._pipe(browser_reads=True)
        self._from, browser_out = self._pipe(browser_reads=False)
        self._log = folder.with_suffix(".log").open("wb")
        self._process = subprocess.Popen(
            command(*arguments) if command else arguments,
            env={
                **os.environ,
                "HOME": str(folder.parent),
                "IN": str(browser_in),
                "OUT": str(browser_out),
            },
            pass_fds=(browser_in, browser_out),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        os.close(browser_in)
        os.close(browser_out)
        self._number = 0
        self._unread = b""
        self.events: list[dict[str, Any]] = []

    @staticmethod
    def _pipe(*, browser_reads: bool) -> tuple[int, int]:
        """Create a pipe. The descriptor number of the browser's end is at least 100."""
        reading, writing = os.pipe()
        browser_end = reading if browser_reads else writing
        moved = fcntl.fcntl(browser_end, fcntl.F_DUPFD, 100)
        os.close(browser_end)
        return (moved, writing) if browser_reads else (reading, moved)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_exception: object) -> None:
        with contextlib.suppress(OSError, AssertionError):
            self.call("Browser.close")
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for descriptor in (self._to, self._from):
            os.close(descriptor)
        self._log.close()

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result. Stores events. Raises AssertionError."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def read(self) -> dict[str, Any]:
        """Read the next message within a minute. Events are also stored."""
        deadline = time.monotonic() + _SECONDS
        while b"\0" not in self._unread:
            ready = select.select([self._from], [], [], max(0, deadline - time.monotonic()))[0]
            assert ready, f"no message of the browser for {_SECONDS} s"
            data = os.read(self._from, 1 << 20)
            assert data, f"the browser exited:\n{Path(self._log.name).read_text(errors='replace')}"
            self._unread += data
        line, _zero, self._unread = self._unread.partition(b"\0")
        message = json.loads(line)
        if "method" in message:
            self.events.append(message)
        return message

    def open(self, path: Path, fragment: str = "", *, scripts: bool = True) -> Page:
        """Open a file. fragment: the part of the address after #."""
        return Page(self, f"{path.as_uri()}{fragment and '#'}{fragment}", scripts)


_RECORD_SHIFTS = """
window.shifts = [];
window.moved = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    if (!entry.hadRecentInput) window.shifts.push(entry.value);
    window.moved.push(...entry.sources.map((source) => source.node));
  }
}).observe({ type: "layout-shift", buffered: true });
"""
# Keys as Input.dispatchKeyEvent expects them.
_KEYS = {
    "Tab": {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9},
    "Enter": {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"},
}


class Page:
    """An open page."""

    def __init__(self, browser: Browser, url: str, scripts: bool) -> None:
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        # Only one page of a browser has the focus, unless each emulates it.
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)
        self.call("Page.addScriptToEvaluateOnNewDocument", source=_RECORD_SHIFTS)
        self.call("Page.navigate", url=url)
        while not self._events("Page.loadEventFired"):
            browser.read()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def _events(self, *methods: str) -> list[dict[str, Any]]:
        return [
            event["params"]
            for event in self._browser.events
            if event.get("sessionId") == self._session and event["method"] in methods
        ]

    @property
    def requests(self) -> list[str]:
        """URLs of all requests."""
        return [event["request"]["url"] for event in self._events("Network.requestWillBeSent")]

    @property
    def errors(self) -> list[str]:
        """Console messages, exceptions, and violations of the content security policy."""
        return [
            json.dumps(event)
            for event in self._events(
                "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"
            )
        ]

    def evaluate(self, expression: str) -> Any:
        """Evaluate a JavaScript expression. Raises AssertionError if it throws."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def texts(self, selector: str) -> list[str]:
        """Rendered text of the visible elements, without surrounding spaces."""
        return self.evaluate(
            f"[...document.querySelectorAll({json.dumps(selector)})]"
            ".filter(element => element.checkVisibility()).map(element => element.innerText.trim())"
        )

    def click(self, selector: str) -> None:
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def click_at(self, selector: str) -> None:
        """Click with the mouse on the middle of an element."""
        x, y = self.evaluate(
            f"{{ const element = document.querySelector({json.dumps(selector)});"
            " element.scrollIntoView({block: 'center', behavior: 'instant'});"
            " const box = element.getBoundingClientRect();"
            " [box.left + box.width / 2, box.top + box.height / 2] }"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def choose(self, selector: str, text: str) -> None:
        """Click the first of these elements that has this text."""
        self.evaluate(
            f"[...document.querySelectorAll({json.dumps(selector)})]"
            f".find(element => element.textContent === {json.dumps(text)}).click()"
        )

    def set_hash(self, fragment: str) -> None:
        """Change the fragment of the address, and wait until the page has handled it."""
        self.call(
            "Runtime.evaluate",
            expression=(
                "new Promise(done => { addEventListener('hashchange', () => done(), {once: true});"
                f" location.hash = {json.dumps(fragment)}; setTimeout(done, 1000) }})"
            ),
            awaitPromise=True,
        )

    def fill(self, selector: str, value: str) -> None:
        """Set the value of a field and dispatch an input event, as typing does."""
        self.evaluate(
            f"{{ const field = document.querySelector({json.dumps(selector)});"
            f" field.value = {json.dumps(value)};"
            " field.dispatchEvent(new Event('input', {bubbles: true})) }"
        )

    def press(self, key: str) -> None:
        """Press a key of the keyboard."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, **_KEYS[key])

    def type(self, text: str) -> None:
        """Type into the focused field, one character at a time."""
        for character in text:
            self.call("Input.dispatchKeyEvent", type="char", text=character)

    @property
    def shifts(self) -> list[float]:
        """Layout shifts so far, except those right after an input, as Lighthouse counts them."""
        self._draw()
        return self.evaluate("window.shifts")

    def moved(self, outside: str) -> list[str]:
        """Elements that have moved so far, outside of the elements of a selector."""
        self._draw()
        return self.evaluate(
            "window.moved.map(node => node?.nodeType === 3 ? node.parentElement : node)"
            f".filter(element => element && !element.closest({json.dumps(outside)}))"
            ".map(element => element.outerHTML.slice(0, 200))"
        )

    def _draw(self) -> None:
        """Wait until the page is drawn, and its observers are called."""
        self.call(
            "Runtime.evaluate",
            expression="new Promise(done => setTimeout(() => requestAnimationFrame(done), 100))",
            awaitPromise=True,
        )

    def resize(self, width: int, height: int = 800) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def prefer(self, **features: str) -> None:
        """Emulate media features, for example prefers_color_scheme="dark"."""
        media_features = [
            {"name": name.replace("_", "-"), "value": value} for name, value in features.items()
        ]
        self.call("Emulation.setEmulatedMedia", features=media_features)

    def overflow(self) -> int:
        """Number of pixels by which the page is wider than the window."""
        return self.evaluate(
            "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
            " - document.documentElement.clientWidth"
        )

    def picture(self, path: Path) -> None:
        """Save the whole page as PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))
