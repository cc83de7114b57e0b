# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter unknown_variables: sentences about mistyped variables of a playbook."""

from __future__ import annotations

import pytest

from plugins.filter.unknown_variables import unknown_variables

KNOWN = ["drain_hosts", "drain_protect", "drain_pace"]


@pytest.mark.parametrize(
    ("given", "sentences"),
    [
        ([], []),
        (["drain_hosts", "drain_pace"], []),
        (["drain_protekt"], ["drain_protekt: unknown variable; did you mean drain_protect?"]),
        (["drain_host"], ["drain_host: unknown variable; did you mean drain_hosts?"]),
        # The prefix alone makes no name similar.
        (
            ["drain_xyz"],
            ["drain_xyz: unknown variable; known variables: " + ", ".join(sorted(KNOWN)) + "."],
        ),
    ],
)
def test_sentences(given: list[str], sentences: list[str]) -> None:
    assert unknown_variables(given, KNOWN) == sentences


def test_allowed_names() -> None:
    given = ["drain_mine", "drain_yours"]
    (sentence,) = unknown_variables(given, KNOWN, ["drain_mine"], "drain_other")
    assert sentence.startswith("drain_yours: ")
    assert sentence.endswith("If it belongs to something else, list it in drain_other.")
