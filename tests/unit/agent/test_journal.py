# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log does not block or stop the agent."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress

from linuxnet_sockets.agent.journal import Log


def test_blocked_reader_drops_and_counts_lines() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as reader, os.fdopen(writing, "w") as event_socket:
        log = Log(event_socket, prefixed=False)
        began = time.monotonic()
        for number in range(5_000):
            log.notice("a line, of which a pipe cannot hold thousands", {"n": number})
        assert time.monotonic() - began < 5
        text = reader.read(1 << 20)
        assert text.startswith(b"a line")
        assert text.endswith(b"\n")
        complete = text.count(b"\n")
        assert complete < 5_000
        log.notice("after")
        dropped, after = reader.read(1 << 20).decode().splitlines()
        assert re.findall(r"\d+", dropped) == [str(5_000 - complete)]
        assert after == "after"


def test_closed_reader_is_ignored() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    log = Log(os.fdopen(writing, "w", buffering=1), prefixed=True)
    log.notice("one")
    log.notice("two")
    with suppress(BrokenPipeError):
        log._stream.close()
    log.notice("three")
