# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Dumps that show which sockets still exist."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable, Sequence

from ..errors import NetlinkError
from ..netlink import bytecode, constants, inet_diag
from ..netlink.inet_diag import DiagMessage
from ..sockets.session import NamespaceSession
from ..sockets.socket import Socket

# Up to these, comparing ports in the kernel is cheaper than dumping all sockets.
_MAX_PORTS = 32
_MAX_FILTERED_SOCKETS = 1024

_STATES = constants.state_mask(constants.ALL_STATES)
_BOUND_INACTIVE = 1 << constants.BOUND_INACTIVE


def find_remaining(session: NamespaceSession, sockets: Iterable[Socket]) -> dict[int, DiagMessage]:
    """Dump the sockets that still exist. Returns their current messages by cookie.

    A destroyed TCP socket keeps its port until the application closes it, in state bound-inactive.
    The connection or listener that it was no longer exists. Raises what Connection.dump raises.
    """
    messages = [sock.message for sock in sockets]
    found: dict[int, DiagMessage] = {}
    inactive = any(message.state == constants.CLOSED for message in messages)
    for protocol, family in sorted({(message.protocol, message.family) for message in messages}):
        streams = protocol in constants.STREAMS
        states = _STATES | _BOUND_INACTIVE if streams and inactive else _STATES
        program = filter_by_ports(protocol, messages)
        dumped = dump_filtered(session, protocol, family, states, program)
        if not dumped:
            continue
        before = {
            message.cookie: message
            for message in messages
            if message.family == family and message.protocol == protocol
        }
        for now in dumped:
            was = before.get(now.cookie)
            if was is None:
                continue
            if streams and was.state != constants.CLOSED and _is_reused(was, now):
                continue
            found[now.cookie] = now
    return found


def find_ended(session: NamespaceSession, sockets: Sequence[Socket]) -> set[int]:
    """The cookies of those sockets that ended since their dump: gone, or now in TIME_WAIT.

    Raises what Connection.dump raises.
    """
    remaining = find_remaining(session, sockets)
    ended: set[int] = set()
    for sock in sockets:
        now = remaining.get(sock.cookie)
        if now is None or constants.TIME_WAIT == now.state != sock.message.state:
            ended.add(sock.cookie)
    return ended


def _is_reused(was: DiagMessage, now: DiagMessage) -> bool:
    """Whether a socket with the same cookie is closed now, or is another connection.

    Its owner may disconnect it and connect it elsewhere.
    """
    if now.state == constants.CLOSED:
        return True
    return (was.sport, was.dport, was.dst) != (now.sport, now.dport, now.dst)


def dump_filtered(
    session: NamespaceSession,
    protocol: str,
    family: int,
    states: int,
    program: bytes,
    extensions: int = 0,
) -> list[DiagMessage]:
    """As inet_diag.dump, but without the filter if this kernel does not know one of its ops."""
    try:
        return inet_diag.dump(session.diag, protocol, family, states, extensions, program)
    except NetlinkError as error:
        if error.errno != errno.EINVAL or not program:
            raise
        return inet_diag.dump(session.diag, protocol, family, states, extensions)


def filter_by_ports(protocol: str, messages: Collection[DiagMessage]) -> bytes:
    """A kernel filter that accepts the ports of these sockets; if they are many, all sockets.

    A socket keeps its local port; a datagram socket may lose its remote port.
    """
    if len(messages) > _MAX_FILTERED_SOCKETS:
        return bytecode.ACCEPT
    choices: list[tuple[set[int], Callable[[int], bytes]]] = [
        ({message.sport for message in messages}, _local)
    ]
    if protocol in constants.STREAMS:
        choices.append(({message.dport for message in messages}, _remote))
    ports, block = min(choices, key=lambda choice: len(choice[0]))
    if len(ports) > _MAX_PORTS:
        return bytecode.ACCEPT
    return bytecode.disjunction([block(port) for port in sorted(ports)])


def _local(port: int) -> bytes:
    return bytecode.sport_eq(port, exact=False)


def _remote(port: int) -> bytes:
    return bytecode.dport_eq(port, exact=False)
