# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's log and events; hostile names stay quoted values."""

from __future__ import annotations

import io
import json
import socket
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.agent.event_socket import Stream
from linuxnet_sockets.agent.journal import Log
from linuxnet_sockets.agent.reporter import Teller


def _said(prefixed: bool, text: str, fields: dict[str, object]) -> str:
    stream = io.StringIO(newline="")
    Log(stream, prefixed=prefixed).warning(text, fields)
    return stream.getvalue()


def test_a_line() -> None:
    fields = {"rule": "gone", "remote": "[2001:db8::1]:443", "comm": "a b", "uid": None, "lost": 0}
    line = 'destroyed rule=gone remote=[2001:db8::1]:443 comm="a b" lost=0\n'
    assert _said(False, "destroyed", fields) == line
    assert _said(True, "destroyed", fields) == "<4>" + line


@given(st.text(alphabet=st.characters(codec=None)))
def test_a_name_is_neither_a_line_nor_a_field(name: str) -> None:
    line = _said(True, "destroyed", {"comm": name, "uid": 7})
    assert line.isascii()
    assert line.count("\n") == 1
    assert line.endswith(" uid=7\n")
    assert line.count(" uid=") == 1 or line.count('"') >= 2


def test_a_log_that_is_gone_stops_nobody() -> None:
    stream = io.StringIO()
    stream.close()
    Log(stream, prefixed=True).error("there")


@pytest.mark.parametrize("name", ["a=b", 'x" uid=0 y="', "\x1b[31m", "\u202e", ""])
def test_hostile_names_are_quoted(name: str) -> None:
    line = _said(False, "destroyed", {"comm": name})
    assert line.startswith('destroyed comm="')
    assert line.endswith('"\n')
    assert "\x1b" not in line


def test_condition_is_logged_when_it_changes() -> None:
    stream = io.StringIO()
    teller = Teller(Log(stream, prefixed=False), None)
    for text in ("one", "one", "two", None, None):
        teller.lasts("fault", text, ended="over")
    assert stream.getvalue().splitlines() == ["one", "two", "over"]


def test_an_event_says_when_it_was_told(tmp_path: Path) -> None:
    path = str(tmp_path / "events")
    stream = Stream(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as reader:
        reader.connect(path)
        stream.accept()
        Teller(Log(io.StringIO(), prefixed=False), stream).event("policy", {"mode": "report"})
        told = json.loads(reader.recv(4096))
    stream.close()
    at = datetime.strptime(told.pop("at"), "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    assert abs(datetime.now(timezone.utc) - at) < timedelta(minutes=1)
    assert told == {"event": "policy", "mode": "report"}
