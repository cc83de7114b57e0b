# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Facts about the sockets of a host, of bounded size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import Failure, ResultWarning
from ..host.host import Host
from ..host.kernel_config import read_config
from ..netlink.constants import CLOSED, LISTENING
from ..query.capabilities import ProtocolSupport, may_destroy, support_for_caller
from ..query.find import find_map
from ..selector.parse import parse_selector
from ..sockets.session import NamespaceSession, for_each_namespace
from ..sockets.socket import Socket
from .kernel_support import KernelSupport, bpf_support_by_protocol
from .namespaces import namespaces_named
from .options import DEFAULT_FACTS_LIMIT, checks_options
from .summary import first
from .task import printable_dict
from .verdict_totals import SocketVerdicts, VerdictTotals, nested_verdicts

MAX_PEERS = 20
MAX_COMMANDS = 5

_DATAGRAMS = frozenset({"udp", "udplite"})


@dataclass(frozen=True)
class HostFacts:
    """The result of facts.

    Attributes:
        support: as ``support`` returns it; ``may_destroy`` is true only if it is in every
            namespace.
        namespaces: ``name``, ``may_destroy`` and number of ``sockets`` of each namespace.
        namespaces_total: how many namespaces there are.
        totals: number of sockets by protocol and state.
        verdicts: number of sockets by verdict: ``stuck``, ``stranded``, ``superseded``.
        listeners: ``namespace``, ``protocol``, ``local``, ``local_port``, ``uid``, ``user`` and
            ``processes`` (commands) of the sockets that ``ss -l`` shows.
        listeners_total: how many listeners there are.
        peers: ``remote`` and number of ``sockets`` of the most frequent remote addresses.
        peers_total: how many remote addresses there are.
        warnings: always empty.
        failures: always empty.
    """

    support: KernelSupport
    namespaces: list[dict[str, Any]]
    namespaces_total: int
    totals: dict[str, dict[str, int]]
    verdicts: dict[str, Any]
    listeners: list[dict[str, Any]]
    listeners_total: int
    peers: list[dict[str, Any]]
    peers_total: int
    warnings: tuple[ResultWarning, ...] = ()
    failures: tuple[Failure, ...] = ()

    @printable_dict
    def to_dict(self) -> dict[str, Any]:
        """Return ``ansible_facts.socket_diag`` of the module socket_diag_facts."""
        return {
            **self.support.to_dict(),
            "namespaces": self.namespaces,
            "namespaces_total": self.namespaces_total,
            "totals": self.totals,
            "verdicts": self.verdicts,
            "listeners": self.listeners,
            "listeners_total": self.listeners_total,
            "peers": self.peers,
            "peers_total": self.peers_total,
        }


@checks_options
def facts(
    *,
    namespaces: Sequence[str] = ("current",),
    limit: int = DEFAULT_FACTS_LIMIT,
    host: Host | None = None,
) -> HostFacts:
    """Gather facts whose size does not grow with the number of sockets, and without cookies.

    Example::

        print(api.facts().totals["tcp"])

    Args:
        namespaces: network namespaces: ``current``, a name, ``pid:N``, a path, or ``all``.
        limit: the longest length of each list, from 0 to 200.
        host: the machine to ask; the default is this one.

    Returns:
        HostFacts: kernel support, totals, listeners and peers.

    Raises:
        InputError: an option is wrong.
        NamespaceNotFound, NamespaceDenied: a namespace does not exist or cannot be entered.
        NetlinkError, NetlinkTimeout, DumpInterrupted, MalformedMessage: the kernel did not answer
            as it should.
    """
    host = host or Host()
    resolved = namespaces_named(host, namespaces)
    # In this role a selector has no defaults: every protocol that the kernel lists.
    selector = parse_selector({"state": "all"}, names=host, role="protect")
    totals: Counter[tuple[str, str]] = Counter()
    verdicts: Counter[tuple[str, str]] = Counter()
    peers: Counter[str] = Counter()
    listeners: list[Socket] = []
    visited: list[dict[str, Any]] = []
    protocols: dict[str, ProtocolSupport] = {}
    permitted = True

    def visit(session: NamespaceSession) -> _Namespace:
        snapshot = session.snapshot()
        counter = VerdictTotals(session, snapshot)

        def digest(sock: Socket) -> _Digest:
            return _digest(sock, counter.verdicts_of(sock))

        found = find_map(digest, session, selector, snapshot, extensions=counter.extensions)
        return _Namespace(
            session.namespace.name,
            found,
            may_destroy(session),
            support_for_caller(session),
            counter.totals([each.verdicts for each in found]),
        )

    for namespace in for_each_namespace(host, resolved, visit):
        found = namespace.found
        totals.update((each.protocol, each.state) for each in found)
        verdicts.update(namespace.verdicts)
        peers.update(each.remote for each in found if each.remote is not None)
        listeners += (each.listener for each in found if each.listener is not None)
        visited.append(
            {
                "name": namespace.name,
                "may_destroy": namespace.may_destroy,
                "sockets": len(found),
            }
        )
        # The kernel is the same everywhere; permissions differ. The first namespace in which the
        # caller may not destroy decides.
        if not protocols or (permitted and not namespace.may_destroy):
            protocols = namespace.support
        permitted = permitted and namespace.may_destroy
    return HostFacts(
        support=KernelSupport(
            kernel=host.release,
            protocols=protocols,
            bpf=bpf_support_by_protocol(host),
            kernel_config=read_config(host.proc, host.root, host.release)._asdict(),
            may_destroy=permitted,
        ),
        namespaces=visited[:limit],
        namespaces_total=len(visited),
        totals=_nested(totals),
        verdicts=nested_verdicts(verdicts),
        listeners=_listeners(first(listeners, limit)),
        listeners_total=len(listeners),
        peers=[
            {"remote": remote, "sockets": count}
            for remote, count in peers.most_common(min(limit, MAX_PEERS))
        ],
        peers_total=len(peers),
    )


class _Digest(NamedTuple):
    """The part of a socket that the facts need. remote, listener: None where it has none."""

    protocol: str
    state: str
    remote: str | None
    listener: Socket | None
    verdicts: SocketVerdicts


class _Namespace(NamedTuple):
    """The part of a namespace that the facts need."""

    name: str
    found: list[_Digest]
    may_destroy: bool
    support: dict[str, ProtocolSupport]
    verdicts: Counter[tuple[str, str]]


def _digest(sock: Socket, verdicts: SocketVerdicts) -> _Digest:
    return _Digest(
        sock.protocol,
        sock.state,
        sock.remote if sock.has_remote else None,
        sock if listens(sock) else None,
        verdicts,
    )


def listens(sock: Socket) -> bool:
    """Whether `ss -l` shows it: it listens, or is a datagram socket without a peer."""
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
    snapshots = {id(sock.snapshot): sock.snapshot for sock in sockets}
    for snapshot in snapshots.values():
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
