# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts about the running kernel: its answers through the core, and its effect on sockets.

Each fact is a JSON value. A fact that cannot be determined is {"error": text}; the others are still
collected.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Any

from linuxnet_sockets.errors import HandlerMissing, NetlinkError
from linuxnet_sockets.host import namespaces
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.netlink import attributes, bytecode, inet_diag, info
from linuxnet_sockets.query import capabilities
from linuxnet_sockets.query.find import find
from linuxnet_sockets.selector.parse import parse_selector
from linuxnet_sockets.sockets.session import NamespaceSession
from linuxnet_sockets.sockets.socket import Socket
from tests.support.topologies import states
from tests.support.topologies.states import HeldSocket
from tests.support.topologies.topology import LabNamespace, Pair, pair

_OTHER_UID = 4321
_LOOPBACK = socket.inet_aton("127.0.0.1")

# Filters of one operation each, by the kernel's name (INET_DIAG_BC_*).
_OPS: dict[str, bytes] = {
    "S_GE, S_LE": bytecode.sport_eq(22, exact=False),
    "D_GE, D_LE": bytecode.dport_eq(22, exact=False),
    "AUTO": bytecode.auto(),
    "S_COND": bytecode.src_host(socket.AF_INET, 8, _LOOPBACK),
    "D_COND": bytecode.dst_host(socket.AF_INET, 8, _LOOPBACK),
    "DEV_COND": bytecode.device(1),
    "MARK_COND": bytecode.mark(0, 0),
    "S_EQ": bytecode.sport_eq(22),
    "D_EQ": bytecode.dport_eq(22),
    "CGROUP_COND": bytecode.cgroup(1),
}


def errno_name(number: int) -> str:
    """Name of an errno, or "ok" for 0."""
    if number == errno.EOPNOTSUPP:
        return "EOPNOTSUPP"  # errorcode has ENOTSUP for the same number
    return errno.errorcode.get(number, str(number)) if number else "ok"


def _session(where: LabNamespace) -> NamespaceSession:
    (namespace,) = namespaces.resolve([where.name])
    return NamespaceSession(Host(), namespace)


def _sock(
    session: NamespaceSession, held: HeldSocket, protocol: str = "tcp", extensions: int = 0
) -> inet_diag.DiagMessage:
    """Find the socket by cookie, or by its ports if it never had a descriptor."""
    (found,) = [
        sock
        for family in (socket.AF_INET, socket.AF_INET6)
        for sock in inet_diag.dump(session.diag, protocol, family, extensions=extensions)
        if (
            sock.cookie == held.cookie
            if held.cookie is not None
            else (sock.sport, sock.dport) == (held.local[1], held.remote[1])
        )
    ]
    return found


def supported(_ends: Pair, session: NamespaceSession) -> dict[str, dict[str, str | None]]:
    return {name: verdict._asdict() for name, verdict in capabilities.support(session).items()}


def may_destroy(_ends: Pair, session: NamespaceSession) -> bool:
    return capabilities.may_destroy(session)


def operations(_ends: Pair, session: NamespaceSession) -> dict[str, str]:
    """Result of each filter operation: "ok" or the errno."""
    found = {}
    for name, program in _OPS.items():
        try:
            inet_diag.dump(session.diag, "tcp", socket.AF_INET, 0, 0, program)
        except NetlinkError as error:
            found[name] = errno_name(error.errno)
        else:
            found[name] = "ok"
    return found


def find_by_port(ends: Pair, session: NamespaceSession) -> dict[str, object]:
    """Find a socket by local port, and check which of its filters the kernel accepts."""
    held, _other = states.established(ends), states.established(ends)
    selector = parse_selector({"local_port": held.local[1]}, names=Host())
    found = [decoded.cookie for decoded in find(session, selector)]
    exact = selector.programs(session.snapshot(), "tcp", "inet")
    try:
        for program in exact:
            inet_diag.dump(session.diag, "tcp", socket.AF_INET, 0, 0, program)
    except NetlinkError as error:
        accepted = f"exact: {errno_name(error.errno)}, in two ops: ok"
    else:
        accepted = "exact: ok"
    return {"found": found == [held.cookie], "filter": accepted}


def connection(ends: Pair, session: NamespaceSession) -> dict[str, object]:
    """Attributes that the kernel reports for an established connection of another user."""
    held = states.established(ends)
    assert held.target is not None
    os.fchown(held.target.fileno(), _OTHER_UID, -1)
    sock = _sock(session, held, extensions=inet_diag.extension_bits([inet_diag.INFO]))
    reported = attributes.parse(sock.attributes)
    raw = reported.get(inet_diag.INFO, b"")
    return {
        "tcp_info_bytes": len(raw),
        "tcp_info_fields": len(info.decode_tcp_info(raw)),
        "cgroup": inet_diag.CGROUP_ID in reported,
        "mark": inet_diag.MARK in reported,
        "uid": sock.uid == _OTHER_UID,
    }


def orphan_uid(ends: Pair, session: NamespaceSession) -> str:
    """Owner that the kernel and the record report for an orphan."""
    held = states.zero_window(ends)
    assert held.target is not None
    os.fchown(held.target.fileno(), _OTHER_UID, -1)
    held.target.close()
    held.target = None
    states.wait_for_state(ends.client, states.FIN_WAIT1, held.local, held.remote[1])
    sock = _sock(session, held)
    decoded = Socket(sock, session.snapshot())
    kernel = "its owner's" if sock.uid == _OTHER_UID else f"{sock.uid}"
    core = "its owner's" if decoded.uid == _OTHER_UID else f"{decoded.uid}"
    return f"kernel: {kernel}, record: {core}"


def bound_inactive(ends: Pair, session: NamespaceSession) -> str:
    """Whether a dump lists a socket that is only bound."""
    held = states.bound_inactive(ends)
    cookies = [
        sock.cookie
        for sock in inet_diag.dump(session.diag, "tcp", socket.AF_INET, inet_diag.ANY_STATE)
    ]
    return "listed" if held.cookie in cookies else "not listed"


def destroying(
    make: Callable[[Pair], HeldSocket], protocol: str = "tcp", *, wrong_cookie: bool = False
) -> Callable[[Pair, NamespaceSession], str]:
    """Destroy such a socket; return the errno and the state of the socket in a new dump."""

    def fact(ends: Pair, _client_session: NamespaceSession) -> str:
        try:
            held = make(ends)
        except OSError:
            return "no such sockets"
        with _session(held.where) as session:
            try:
                sock = _sock(session, held, protocol)
            except HandlerMissing:
                return "cannot be listed"
            request = sock._replace(cookie=sock.cookie ^ 1) if wrong_cookie else sock
            (number,) = inet_diag.destroy(session.diag, [request])
            remaining = [
                other
                for other in inet_diag.dump(session.diag, protocol, sock.family)
                if other.cookie == sock.cookie
            ]
        if not remaining:
            return f"{errno_name(number)}, gone"
        changed = (remaining[0].state, remaining[0].dport) != (sock.state, sock.dport)
        return f"{errno_name(number)}, {'changed' if changed else 'there'}"

    return fact


FACTS: dict[str, Callable[[Pair, NamespaceSession], object]] = {
    "support": supported,
    "may_destroy": may_destroy,
    "bytecode": operations,
    "find_by_port": find_by_port,
    "connection": connection,
    "orphan_uid": orphan_uid,
    "bound_inactive": bound_inactive,
    "destroy tcp": destroying(states.established),
    "destroy time-wait": destroying(states.time_wait),
    "destroy orphan": destroying(states.fin_wait_2_orphan),
    "destroy stuck orphan": destroying(states.fin_wait_1_orphan),
    "destroy udp": destroying(states.udp_explicit, "udp"),
    "destroy udplite": destroying(states.udplite_connected, "udplite"),
    "destroy raw": destroying(states.raw, "raw"),
    "destroy raw, wrong cookie": destroying(states.raw, "raw", wrong_cookie=True),
    "destroy mptcp": destroying(states.mptcp, "mptcp"),
}


def gather() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, fact in FACTS.items():
        try:
            with pair() as ends, _session(ends.client) as session:
                found[name] = fact(ends, session)
        except Exception as error:  # noqa: BLE001 - recorded as a failure
            found[name] = {"error": f"{type(error).__name__}: {error}"}
        print(f"fact: {name}: {found[name]}", flush=True)
    return found
