# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log format, ongoing conditions, and events."""

from __future__ import annotations

import io
import json
import socket
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.agent.event_stream import EventStream
from linuxnet_sockets.agent.journal import Log
from linuxnet_sockets.agent.reporter import Reporter


def _logged(prefixed: bool, text: str, fields: dict[str, object]) -> str:
    event_socket = io.StringIO(newline="")
    Log(event_socket, prefixed=prefixed).warning(text, fields)
    return event_socket.getvalue()


def test_line_format() -> None:
    fields = {"rule": "gone", "remote": "[2001:db8::1]:443", "comm": "a b", "uid": None, "lost": 0}
    line = 'destroyed rule=gone remote=[2001:db8::1]:443 comm="a b" lost=0\n'
    assert _logged(False, "destroyed", fields) == line
    assert _logged(True, "destroyed", fields) == "<4>" + line


@given(st.text(alphabet=st.characters(codec=None)))
def test_name_adds_no_line_and_no_field(name: str) -> None:
    line = _logged(True, "destroyed", {"comm": name, "uid": 7})
    assert line.isascii()
    assert line.count("\n") == 1
    assert line.endswith(" uid=7\n")
    assert line.count(" uid=") == 1 or line.count('"') >= 2


def test_closed_log_is_ignored() -> None:
    event_socket = io.StringIO()
    event_socket.close()
    Log(event_socket, prefixed=True).error("there")


@pytest.mark.parametrize("name", ["a=b", 'x" uid=0 y="', "\x1b[31m", "\u202e", ""])
def test_special_characters_are_quoted(name: str) -> None:
    line = _logged(False, "destroyed", {"comm": name})
    assert line.startswith('destroyed comm="')
    assert line.endswith('"\n')
    assert "\x1b" not in line


def test_condition_is_logged_when_it_changes() -> None:
    event_socket = io.StringIO()
    reporter = Reporter(Log(event_socket, prefixed=False), None)
    for text in ("one", "one", "two", None, None):
        reporter.set_condition("fault", text, ended="over")
    assert event_socket.getvalue().splitlines() == ["one", "two", "over"]


def test_event_has_a_timestamp() -> None:
    reader, writer = socket.socketpair()
    with reader, writer:
        stream = EventStream()
        stream.add(writer, uid=0)
        Reporter(Log(io.StringIO(), prefixed=False), stream).event("policy", {"mode": "report"})
        event = json.loads(reader.recv(4096))
    at = datetime.strptime(event.pop("at"), "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    assert abs(datetime.now(timezone.utc) - at) < timedelta(minutes=1)
    assert event == {"event": "policy", "mode": "report"}
