# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of the system as text."""

from __future__ import annotations

import random

import hypothesis
import pytest
from hypothesis import strategies as st

from linuxnet_sockets import text
from linuxnet_sockets.host import mountinfo


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("nginx: worker é 漢 größe", "nginx: worker é 漢 größe"),
        ("\x1b[2J\a\r\n\t\x7f\0", "\\x1b[2J\\x07\\x0d\\x0a\\x09\\x7f\\x00"),
        ("\x9b31m", "\\u009b31m"),
        ("\udc9b31m", "\\x9b31m"),
        ("a\u202eb\u2028c", "a\\u202eb\\u2028c"),
        ("a\u200bb\u2060\ufeff\U000e0041", "a\\u200bb\\u2060\\ufeff\\U000e0041"),
        ("a\u034fb\u3164\ufe0f", "a\\u034fb\\u3164\\ufe0f"),
        ("a\u00a0b\u3000", "a\\u00a0b\\u3000"),
    ],
)
def test_characters_that_are_not_printable_are_escaped(given: str, shown: str) -> None:
    assert text.printable(given) == shown
    assert given in text.spellings(shown)


@hypothesis.given(st.text(st.sampled_from("\\ux0159bcef\x1b\x9b\u202e\u200b\udc9b漢 \n")))
def test_every_text_has_a_shown_form_that_leads_back(given: str) -> None:
    shown = text.printable(given)
    assert shown.isprintable()
    assert given in text.spellings(shown)
    assert text.printable(shown) == shown


def test_every_name_has_a_shown_form_that_leads_back() -> None:
    chance = random.Random(11)
    for _each in range(5000):
        raw = bytes(chance.choice(b"ax\\9\x1b\n\xc3\xa9\xe9\xff\x80\xd0\xbf") for _byte in range(8))
        name = text.decode(raw)
        shown = text.printable(name)
        assert shown.encode("utf-8")
        assert name in text.spellings(shown)
        assert text.printable(shown) == shown
        assert text.encode(name) == raw


@pytest.mark.parametrize("name", ["dev-disk\\x2dby", "caf\\xc3\\xa9.service", "größe", "\\xZZ"])
def test_escapes_of_other_programs_are_part_of_the_name(name: str) -> None:
    assert text.spellings(name) == (name,)


def test_values_are_copied_with_printable_text() -> None:
    given = {"a": ["caf\udce9", ("\ud800", 1)], "b\udcff": None}
    assert text.printable_values(given) == {"a": ["caf\\xe9", ("\\ud800", 1)], "b\\xff": None}


def test_lines_stay_lines() -> None:
    assert text.printable_lines("a\x1b\nb\r\n") == "a\\x1b\nb\\x0d\n"


def test_encodable_text_keeps_control_characters() -> None:
    assert text.encodable_values({"a\n": ["\x1b\n", "caf\udce9\n"]}) == {
        "a\n": ["\x1b\n", "caf\\xe9\n"]
    }
    assert text.printable("\ud800") == text.encodable("\ud800") == "\\ud800"


def test_mounts_are_split_at_blanks_and_newlines_only() -> None:
    """An ideographic space, a carriage return and latin-1 are parts of a path."""
    path = "/größe\u3000\r".encode() + b"caf\xe9\x85\\040\\134"
    lines = [b"31 23 0:28 / " + path + b" rw,relatime shared:1 - cgroup2 none rw\n", b"", b"x - y"]
    (mount,) = mountinfo.parse(lines)
    assert mount == (b"/", "/größe\u3000\r".encode() + b"caf\xe9\x85 \\", b"cgroup2")
