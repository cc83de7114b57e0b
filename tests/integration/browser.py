# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real browser without a window, driven over a pair of pipes (Chrome DevTools Protocol)."""

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
# It reads commands on 3 and answers on 4; bash puts them there, wherever they are with us.
_START = 'exec "$@" 3<&"$IN" 4>&"$OUT"'
_SWITCHES = (
    "--headless",
    "--remote-debugging-pipe",
    # As root there is no sandbox. What it opens was made by the test.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
)


class Browser:
    """A context manager. command: what makes of a command line one that runs it somewhere else."""

    def __init__(self, folder: Path, command: Callable[..., list[str]] | None = None) -> None:
        words = ["bash", "-c", _START, "bash", PROGRAM, *_SWITCHES, f"--user-data-dir={folder}"]
        theirs_in, self._to = self._pipe(reads="them")
        self._from, theirs_out = self._pipe(reads="us")
        self._log = folder.with_suffix(".log").open("wb")
        self._process = subprocess.Popen(
            command(*words) if command else words,
            env={
                **os.environ,
                "HOME": str(folder.parent),
                "IN": str(theirs_in),
                "OUT": str(theirs_out),
            },
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._number = 0
        self._unread = b""
        self.events: list[dict[str, Any]] = []

    @staticmethod
    def _pipe(reads: str) -> tuple[int, int]:
        """A pipe of which the browser's end has a number that 3 and 4 do not collide with."""
        reading, writing = os.pipe()
        theirs = reading if reads == "them" else writing
        moved = fcntl.fcntl(theirs, fcntl.F_DUPFD, 100)
        os.close(theirs)
        return (moved, writing) if reads == "them" else (reading, moved)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_exception: object) -> None:
        with contextlib.suppress(OSError, AssertionError):
            self.ask("Browser.close")
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for descriptor in (self._to, self._from):
            os.close(descriptor)
        self._log.close()

    def ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """The answer to a command; events that come before it are kept. Raises AssertionError."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            told = self.read()
            if told.get("id") == self._number:
                assert "error" not in told, f"{method}: {told['error']}"
                return told["result"]

    def read(self) -> dict[str, Any]:
        """The next message, at most a minute later; what is an event is kept as well."""
        deadline = time.monotonic() + _SECONDS
        while b"\0" not in self._unread:
            ready = select.select([self._from], [], [], max(0, deadline - time.monotonic()))[0]
            assert ready, f"the browser said nothing for {_SECONDS} s"
            data = os.read(self._from, 1 << 20)
            assert data, f"the browser ended:\n{Path(self._log.name).read_text(errors='replace')}"
            self._unread += data
        line, _zero, self._unread = self._unread.partition(b"\0")
        message = json.loads(line)
        if "method" in message:
            self.events.append(message)
        return message

    def open(self, path: Path, *, scripts: bool = True) -> Page:
        return Page(self, path, scripts)


class Page:
    """An open page."""

    def __init__(self, browser: Browser, path: Path, scripts: bool) -> None:
        self._browser = browser
        target = browser.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")
        self.ask("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.ask("Page.navigate", url=path.as_uri())
        while not self._told("Page.loadEventFired"):
            browser.read()

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.ask(method, self._session, **parameters)

    def _told(self, *methods: str) -> list[dict[str, Any]]:
        return [
            event["params"]
            for event in self._browser.events
            if event.get("sessionId") == self._session and event["method"] in methods
        ]

    @property
    def requests(self) -> list[str]:
        """Every address that was asked for."""
        return [event["request"]["url"] for event in self._told("Network.requestWillBeSent")]

    @property
    def complaints(self) -> list[str]:
        """What went to the console, exceptions, and what the content security policy refused."""
        return [
            json.dumps(event)
            for event in self._told(
                "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"
            )
        ]

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression. Raises AssertionError if it throws."""
        told = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def texts(self, selector: str) -> list[str]:
        """What the visible elements say, as they are shown, without spaces around."""
        return self.evaluate(
            f"[...document.querySelectorAll({json.dumps(selector)})]"
            ".filter(each => each.checkVisibility()).map(each => each.innerText.trim())"
        )

    def click(self, selector: str) -> None:
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def fill(self, selector: str, value: str) -> None:
        """As a person would: the field gets a value and says so."""
        self.evaluate(
            f"{{ const field = document.querySelector({json.dumps(selector)});"
            f" field.value = {json.dumps(value)};"
            " field.dispatchEvent(new Event('input', {bubbles: true})) }"
        )

    def resize(self, width: int, height: int = 800) -> None:
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def prefer(self, **features: str) -> None:
        """prefers_color_scheme="dark" and the like."""
        wanted = [
            {"name": name.replace("_", "-"), "value": value} for name, value in features.items()
        ]
        self.ask("Emulation.setEmulatedMedia", features=wanted)

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        return self.evaluate(
            "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
            " - document.documentElement.clientWidth"
        )

    def picture(self, path: Path) -> None:
        """The whole page as PNG."""
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))
