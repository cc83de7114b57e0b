# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Sockets in the order of records, and counts of them."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from ..query.record import sort_key, stranded, superseded
from ..sockets.socket import Socket
from ..verdicts import stuck
from ..verdicts.verdict import Verdict
from .options import GROUP_KEY_NAMES

# How many values have a count of their own with group_by.
MAX_GROUPS = 1000

UNKNOWN = "unknown"
NONE = "none"
# Keys that take what query.find.load finds out.
VERDICT_KEYS = frozenset({"stuck", "stranded", "superseded"})


def first(sockets: Iterable[Socket], limit: int) -> list[Socket]:
    """The first `limit` sockets in the order of records."""
    return heapq.nsmallest(limit, sockets, key=sort_key)


def _namespace(sock: Socket) -> str:
    return sock.snapshot.namespace.name


def _processes(sock: Socket) -> str | None:
    """All commands that hold the socket as one value, so that a shared socket counts once."""
    held = sock.processes
    return ", ".join(sorted({process.comm for process in held})) if held else None


def _stuck(sock: Socket) -> str | None:
    return _names(stuck.verdicts(sock))


def _stranded(sock: Socket) -> str | None:
    return _names(stranded(sock))


def _names(verdicts: list[Verdict] | None) -> str | None:
    """All verdicts of one socket as one value, so that the socket counts once."""
    if verdicts is None:
        return None
    return ", ".join(verdict.verdict for verdict in verdicts) or NONE


def _superseded(sock: Socket) -> bool | None:
    found = superseded(sock)
    return None if found is None else bool(found)


def _attribute(key: str) -> Callable[[Socket], Any]:
    def read(sock: Socket) -> Any:
        return getattr(sock, key)

    return read


_READERS: dict[str, Callable[[Socket], Any]] = {
    "namespace": _namespace,
    "processes": _processes,
    "stuck": _stuck,
    "stranded": _stranded,
    "superseded": _superseded,
}
# How each key of group_by is read. Keys without a reader are attributes of a socket.
GROUP_KEYS: dict[str, Callable[[Socket], Any]] = {
    key: _READERS.get(key) or _attribute(key) for key in GROUP_KEY_NAMES
}


def counts(sockets: Iterable[Socket], key: str) -> dict[str, int]:
    """How many sockets have each value of a record's key, the most frequent first."""
    counted = Counter(map(GROUP_KEYS[key], sockets))
    named = ((_name(value), count) for value, count in counted.items())
    return dict(sorted(named, key=lambda item: (-item[1], item[0])))


def _name(value: object) -> str:
    if value is None:
        return UNKNOWN
    return str(value).lower() if isinstance(value, bool) else str(value)


def summary(sockets: list[Socket], group_by: str | None) -> dict[str, Any]:
    """Counts by state, protocol and namespace, and by one more key on request.

    other: how many sockets have none of the MAX_GROUPS most frequent values of that key.
    """
    result: dict[str, Any] = {
        key: counts(sockets, key) for key in ("state", "protocol", "namespace")
    }
    if group_by is not None:
        groups = list(counts(sockets, group_by).items())
        result[group_by] = dict(groups[:MAX_GROUPS])
        result["other"] = sum(count for _value, count in groups[MAX_GROUPS:])
    return result
