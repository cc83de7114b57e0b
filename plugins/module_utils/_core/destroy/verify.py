# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: a fresh look at sockets that were asked to go."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable

from ..errors import NetlinkError
from ..netlink import bytecode, constants, inet_diag
from ..netlink.inet_diag import DiagMessage
from ..sockets.session import NamespaceSession
from ..sockets.socket import Socket

# So many ports are cheaper to compare in the kernel than sockets are to carry over.
_MOST_PORTS = 32
_MOST_FILTERED = 1024

_STATES = constants.state_mask(constants.ALL_STATES)
_BOUND_INACTIVE = 1 << constants.BOUND_INACTIVE


def still_there(session: NamespaceSession, sockets: Iterable[Socket]) -> dict[int, DiagMessage]:
    """Those of the sockets that exist at this moment, by cookie, as they are now.

    A TCP socket that was destroyed and keeps its port until the application closes it shows up
    as bound and inactive; as a connection, or listener, it is gone.
    """
    socks = [sock.message for sock in sockets]
    found: dict[int, DiagMessage] = {}
    inactive = any(message.state == constants.CLOSED for message in socks)
    for protocol, family in sorted({(message.protocol, message.family) for message in socks}):
        streams = protocol in constants.STREAMS
        states = _STATES | _BOUND_INACTIVE if streams and inactive else _STATES
        program = by_ports(protocol, socks)
        listed = dump_filtered(session, protocol, family, states, program)
        if not listed:
            continue
        before = {
            message.cookie: message
            for message in socks
            if message.family == family and message.protocol == protocol
        }
        for now in listed:
            was = before.get(now.cookie)
            if was is None:
                continue
            if streams and was.state != constants.CLOSED and _is_another(was, now):
                continue
            found[now.cookie] = now
    return found


def _is_another(was: DiagMessage, now: DiagMessage) -> bool:
    """Whether a socket that keeps its cookie is closed, or another connection, by now: its owner
    may disconnect it and connect it elsewhere."""
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
    """As inet_diag.dump; all are listed where this kernel does not know an op of the filter."""
    try:
        return inet_diag.dump(session.diag, protocol, family, states, extensions, program)
    except NetlinkError as error:
        if error.errno != errno.EINVAL or not program:
            raise
        return inet_diag.dump(session.diag, protocol, family, states, extensions)


def by_ports(protocol: str, socks: Collection[DiagMessage]) -> bytes:
    """A filter that accepts these sockets by their ports, or every one where they are many.

    A living socket keeps its local port; a datagram socket may lose its remote one.
    """
    if len(socks) > _MOST_FILTERED:
        return bytecode.ACCEPT
    choices: list[tuple[set[int], Callable[[int], bytes]]] = [
        ({message.sport for message in socks}, _local)
    ]
    if protocol in constants.STREAMS:
        choices.append(({message.dport for message in socks}, _remote))
    ports, block = min(choices, key=lambda choice: len(choice[0]))
    if len(ports) > _MOST_PORTS:
        return bytecode.ACCEPT
    return bytecode.disjunction([block(port) for port in sorted(ports)])


def _local(port: int) -> bytes:
    return bytecode.sport_eq(port, exact=False)


def _remote(port: int) -> bytes:
    return bytecode.dport_eq(port, exact=False)
