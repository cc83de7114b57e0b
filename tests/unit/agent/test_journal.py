# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A log that nobody reads stops nobody."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress

from linuxnet_sockets.agent.journal import Log


def test_lines_that_nobody_reads_are_lost_and_counted() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as reader, os.fdopen(writing, "w") as stream:
        log = Log(stream, prefixed=False)
        began = time.monotonic()
        for number in range(5_000):
            log.notice("a line of some length, of which a pipe holds no thousands", {"n": number})
        assert time.monotonic() - began < 5
        told = reader.read(1 << 20)
        assert told.startswith(b"a line")
        assert told.endswith(b"\n")
        whole = told.count(b"\n")
        assert whole < 5_000
        log.notice("after")
        lost, after = reader.read(1 << 20).decode().splitlines()
        assert re.findall(r"\d+", lost) == [str(5_000 - whole)]
        assert after == "after"


def test_a_reader_who_is_gone_stops_nobody() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    log = Log(os.fdopen(writing, "w", buffering=1), prefixed=True)
    log.notice("one")
    log.notice("two")
    with suppress(BrokenPipeError):
        log._stream.close()
    log.notice("three")
