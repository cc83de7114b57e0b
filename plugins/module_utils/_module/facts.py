# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the work of socket_diag_facts."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from .._core.errors import InputError
from .._core.host.host import Host
from .._core.host.kernel_config import read_config
from .._core.host.namespaces import resolve
from .._core.netlink.constants import CLOSED, LISTENING
from .._core.query.capabilities import ProtocolSupport, may_destroy, support_for_caller
from .._core.query.find import find_map
from .._core.selector.parse import parse_selector
from .._core.sockets.session import NamespaceSession, for_each_namespace
from .._core.sockets.socket import Socket
from .run import Answer, Request
from .summary import first
from .verdict_totals import Judged, VerdictTotals, nested_verdicts

MAX_LIMIT = 200
MAX_PEERS = 20
MAX_COMMANDS = 5

_DATAGRAMS = frozenset({"udp", "udplite"})


def gather(request: Request, host: Host) -> Answer:
    """Facts whose size does not grow with the number of sockets, and that hold no cookies."""
    limit = _checked_limit(request.options["limit"])
    namespaces = resolve(
        request.options["namespaces"], proc=host.proc, directories=host.netns_directories
    )
    # In this role a selector has no defaults: every protocol that the kernel lists.
    selector = parse_selector({"state": "all"}, names=host, role="protect")
    totals: Counter[tuple[str, str]] = Counter()
    verdicts: Counter[tuple[str, str]] = Counter()
    peers: Counter[str] = Counter()
    listeners: list[Socket] = []
    looked_at: list[dict[str, Any]] = []
    protocols: dict[str, ProtocolSupport] = {}
    permitted = True

    def one(session: NamespaceSession) -> _Namespace:
        snapshot = session.snapshot()
        verdicts = VerdictTotals(session, snapshot)
        bits = verdicts.extensions

        def seen(sock: Socket) -> _Seen:
            return _seen(sock, verdicts.judged(sock))

        found = find_map(seen, session, selector, snapshot, extensions=bits)
        return _Namespace(
            session.namespace.name,
            found,
            may_destroy(session),
            support_for_caller(session),
            verdicts.totals([each.judged for each in found]),
        )

    for each in for_each_namespace(host, namespaces, one):
        totals.update((seen.protocol, seen.state) for seen in each.found)
        verdicts.update(each.verdicts)
        peers.update(seen.remote for seen in each.found if seen.remote is not None)
        listeners += (seen.listener for seen in each.found if seen.listener is not None)
        looked_at.append(
            {
                "name": each.name,
                "may_destroy": each.may_destroy,
                "sockets": len(each.found),
            }
        )
        # The kernel is one; what the caller may differs. The first namespace that bars it tells.
        if not protocols or (permitted and not each.may_destroy):
            protocols = each.support
        permitted = permitted and each.may_destroy
    facts = {
        "kernel": host.release,
        "support": {name: verdict._asdict() for name, verdict in protocols.items()},
        "kernel_config": read_config(host.proc, host.root, host.release)._asdict(),
        "may_destroy": permitted,
        "namespaces": looked_at[:limit],
        "namespaces_total": len(looked_at),
        "totals": _nested(totals),
        "verdicts": nested_verdicts(verdicts),
        "listeners": _listeners(first(listeners, limit)),
        "listeners_total": len(listeners),
        "peers": [
            {"remote": remote, "sockets": count}
            for remote, count in peers.most_common(min(limit, MAX_PEERS))
        ],
        "peers_total": len(peers),
    }
    return Answer({"changed": False, "ansible_facts": {"socket_diag": facts}})


class _Seen(NamedTuple):
    """What the facts take of one socket; remote and listener are None where there is none."""

    protocol: str
    state: str
    remote: str | None
    listener: Socket | None
    judged: Judged


class _Namespace(NamedTuple):
    """What one namespace told."""

    name: str
    found: list[_Seen]
    may_destroy: bool
    support: dict[str, ProtocolSupport]
    verdicts: Counter[tuple[str, str]]


def _seen(sock: Socket, judged: Judged) -> _Seen:
    return _Seen(
        sock.protocol,
        sock.state,
        sock.remote if sock.has_remote else None,
        sock if listens(sock) else None,
        judged,
    )


def _checked_limit(value: int) -> int:
    if not 0 <= value <= MAX_LIMIT:
        problem = "less than nothing" if value < 0 else "too large for facts"
        raise InputError(("limit",), value, problem, f"a number from 0 to {MAX_LIMIT}")
    return value


def listens(sock: Socket) -> bool:
    """What `ss -l` shows: listening, or a datagram socket that takes from everyone."""
    state = sock.state_number
    return state == LISTENING or (
        state == CLOSED and sock.protocol in _DATAGRAMS and sock.local_port != 0
    )


def _nested(totals: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, int]] = {}
    for (protocol, state), count in sorted(totals.items()):
        nested.setdefault(protocol, {})[state] = count
    return nested


def _listeners(sockets: list[Socket]) -> list[dict[str, Any]]:
    environments = {id(sock.snapshot): sock.snapshot for sock in sockets}
    for snapshot in environments.values():
        snapshot.load_owners({sock.inode for sock in sockets if sock.snapshot is snapshot} - {0})
    return [
        {
            "namespace": sock.snapshot.namespace.name,
            "protocol": sock.protocol,
            "local": sock.local,
            "local_port": sock.local_port,
            "uid": sock.uid,
            "user": sock.user,
            "processes": _commands(sock),
        }
        for sock in sockets
    ]


def _commands(sock: Socket) -> list[str] | None:
    held = sock.processes
    if held is None:
        return None
    return sorted({process.comm for process in held})[:MAX_COMMANDS]
