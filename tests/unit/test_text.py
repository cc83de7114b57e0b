# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of the system as text."""

from __future__ import annotations

import random

import pytest

from linuxnet_sockets import text
from linuxnet_sockets.host import mountinfo


def test_every_name_has_a_shown_form_that_leads_back() -> None:
    chance = random.Random(11)
    for _each in range(5000):
        raw = bytes(chance.choice(b"ax\\9\xc3\xa9\xe9\xff\x80\xd0\xbf") for _byte in range(8))
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


def test_mounts_are_split_at_blanks_and_newlines_only() -> None:
    """An ideographic space, a carriage return and latin-1 are parts of a path."""
    path = "/größe\u3000\r".encode() + b"caf\xe9\x85\\040\\134"
    lines = [b"31 23 0:28 / " + path + b" rw,relatime shared:1 - cgroup2 none rw\n", b"", b"x - y"]
    (mount,) = mountinfo.parse(lines)
    assert mount == (b"/", "/größe\u3000\r".encode() + b"caf\xe9\x85 \\", b"cgroup2")
