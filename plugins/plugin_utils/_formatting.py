# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Byte counts, durations and endpoints as text."""

from __future__ import annotations

from ..module_utils._core import messages
from ..module_utils._core import text as _text
from ..module_utils._core.messages.results import bracketed

_UNITS = ("KiB", "MiB", "GiB", "TiB")


def size_text(count: int) -> str:
    """Format bytes with at most one decimal place: 0, 812 B, 97.5 KiB."""
    if count < 1024:
        return f"{count} B" if count else "0"
    value = float(count)
    for unit in _UNITS:
        value /= 1024
        # Rounding 1023.95 would give 1024.0, which is 1.0 of the next unit.
        if value < 1023.95 or unit == _UNITS[-1]:
            break
    return f"{value:.1f} {unit}"


def duration_text(milliseconds: int) -> str:
    """Format milliseconds as 850ms, 6.1s, 5m12s, 3h04m, 2d05h."""
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    if milliseconds < 60_000:
        return f"{milliseconds // 100 / 10:.1f}s"
    minutes, seconds = divmod(milliseconds // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02d}h"
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{seconds:02d}s"


def endpoint_text(address: str, port: int | None) -> str:
    """Format address:port with IPv6 in brackets. Port 0 is `*`, as ss prints it."""
    return bracketed(address) if port is None else messages.endpoint_text(address, port or "*")


def printable_lines(text: str) -> str:
    """Escape what a terminal would obey. Newlines stay."""
    return _text.printable_lines(text)
