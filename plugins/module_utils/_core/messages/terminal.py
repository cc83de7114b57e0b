# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Text for a terminal."""

from __future__ import annotations


def escape_unprintable(text: str) -> str:
    """Replace each unprintable character with an escape such as ``\\x1b`` or ``\\u202e``.

    Names of programs, users and namespaces are untrusted: they may hold control sequences, marks
    that change the direction of text, and lone surrogates.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )
