# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Escaped text, colours, and tables of a width."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.socketctl.terminal import Cell, Column, Terminal
from tests.unit.socketctl.conftest import Screen


@given(st.text())
def test_no_text_writes_a_control_character(text: str) -> None:
    screen = Screen()
    terminal = Terminal(screen, {"NO_COLOR": "1", "COLUMNS": "20"})
    terminal.line(text)
    terminal.ask(text)
    terminal.table([Column("A"), Column("B", flexible=True)], [[Cell(text), Cell(text)]])
    written = screen.getvalue()
    assert written.replace("\n", "").isprintable()
    assert written.count("\n") == 3


@given(st.text())
def test_progress_writes_only_its_own_sequences(text: str) -> None:
    screen = Screen()
    Terminal(screen, {"COLUMNS": "20"}).replace_line(text)
    assert screen.getvalue().startswith("\r")
    assert screen.getvalue().endswith("\x1b[K")
    assert screen.getvalue()[1:-3].isprintable()


@pytest.mark.parametrize(
    ("environ", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colour_of_a_terminal(environ: dict[str, str], coloured: bool) -> None:
    screen = Screen()
    Terminal(screen, environ).line("x", "31")
    assert screen.getvalue() == ("\x1b[31mx\x1b[0m\n" if coloured else "x\n")


def test_no_colour_and_no_width_without_a_terminal() -> None:
    stream = io.StringIO()
    terminal = Terminal(stream, {"COLUMNS": "20"})
    terminal.line("x", "31")
    assert stream.getvalue() == "x\n"
    assert terminal.width is None


COLUMNS = [
    Column("NAME", flexible=True),
    Column("COUNT", right=True, optional=1),
    Column("USER", optional=2),
    Column("ADDRESS"),
]
ROWS = [
    [Cell("a-very-long-name-of-a-process"), Cell("7"), Cell("root"), Cell("192.0.2.1:443")],
    [Cell("b"), Cell("12345"), Cell("alice"), Cell("192.0.2.2:5")],
]


def table(width: int | None) -> list[str]:
    stream: io.StringIO = io.StringIO() if width is None else Screen()
    environ = {"NO_COLOR": "1", "COLUMNS": str(width)}
    Terminal(stream, environ).table(COLUMNS, ROWS)
    return stream.getvalue().splitlines()


def test_table_without_a_terminal_is_complete() -> None:
    assert table(None) == [
        "NAME                           COUNT  USER   ADDRESS",
        "a-very-long-name-of-a-process      7  root   192.0.2.1:443",
        "b                              12345  alice  192.0.2.2:5",
    ]


def test_narrow_terminal_loses_optional_columns_first() -> None:
    assert table(58) == table(None)
    assert table(57)[0].split() == ["NAME", "COUNT", "ADDRESS"]
    assert table(50)[0].split() == ["NAME", "ADDRESS"]
    assert max(map(len, table(30))) <= 30
    assert table(30)[1] == "a-very-long-...  192.0.2.1:443"


def test_addresses_are_never_cut() -> None:
    assert "192.0.2.1:443" in table(1)[1]


def test_wide_characters_take_two_columns() -> None:
    stream = io.StringIO()
    Terminal(stream, {}).table(
        [Column("A"), Column("B")], [[Cell("日本"), Cell("x")], [Cell("ab"), Cell("x")]]
    )
    assert stream.getvalue().splitlines()[1:] == ["日本  x", "ab    x"]


def test_table_without_header() -> None:
    stream = io.StringIO()
    Terminal(stream, {}).table([Column("LONG TITLE")], [[Cell("x")]], header=False)
    assert stream.getvalue() == "x\n"


def test_empty_table_without_header_writes_nothing() -> None:
    stream = io.StringIO()
    Terminal(stream, {}).table([Column("A")], [], header=False)
    assert stream.getvalue() == ""
