# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: look at the sockets of a namespace and keep those that are meant."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

from ..errors import HandlerMissing, NetlinkError
from ..netlink import constants, inet_diag
from ..selector.parse import Selector
from ..sockets.needs import Need
from ..sockets.session import NamespaceSession
from ..sockets.snapshot import Snapshot
from ..sockets.socket import Socket
from ..verdicts.route_state import RouteState
from ..verdicts.superseded import PeerActivity, peer_key

T = TypeVar("T")

# What a selector may need that a dump does not tell, and load finds out.
LOADED = frozenset({Need.OWNERS, Need.ROUTES, Need.PEERS})


def find(
    session: NamespaceSession,
    selector: Selector,
    *,
    extensions: int = 0,
    needs: Collection[Need] = (),
    snapshot: Snapshot | None = None,
) -> list[Socket]:
    """The sockets of the view's namespace for which the selector is true.

    extensions: more bits of idiag_ext to ask for than the selector needs. needs: what to find out
    of those that matched, as load takes it. environment: judge by this one instead of a fresh
    one.
    A protocol that the selector names and the kernel cannot list raises HandlerMissing; one that it
    merely admits goes to view.unlisted. Raises what Connection.dump raises.
    """
    if snapshot is None:
        snapshot = session.snapshot()
    found = find_map(_unchanged, session, selector, snapshot, extensions=extensions)
    for sock in found:
        if sock.ifindex:
            # Asked while the view is open, so that records can be made when it is closed.
            snapshot.interface_name(sock.ifindex)
            break
    load(session, snapshot, needs, found)
    return found


def load(
    session: NamespaceSession,
    snapshot: Snapshot,
    needs: Collection[Need],
    sockets: Collection[Socket],
) -> None:
    """Find out for these sockets what a dump does not tell; kept in the environment.

    needs: out of LOADED. owners: which processes hold them. routes: how the network lies
    under them. heard: who else was heard of at their local ports.
    Anything else in needs is let pass, so that Selector.needs can be given as it is. Raises what
    Connection.dump raises.
    """
    if not sockets:
        return
    if Need.OWNERS in needs:
        snapshot.load_owners({sock.inode for sock in sockets} - {0})
    if Need.ROUTES in needs:
        RouteState.of(snapshot).load(sockets)
    if Need.PEERS in needs:
        PeerActivity.of(snapshot).load(session.diag, snapshot, map(peer_key, sockets))


def _unchanged(sock: Socket) -> Socket:
    return sock


def find_map(
    make: Callable[[Socket], T | None],
    session: NamespaceSession,
    selector: Selector,
    snapshot: Snapshot,
    *,
    extensions: int = 0,
) -> list[T]:
    """As find, but of each socket only what `make` makes of it is kept, and nothing of None: for
    totals and records of very many sockets. `make` may be called again for the same socket.
    """
    only = selector.protocols[0] if len(selector.protocols) == 1 else None
    matches = selector.bind(snapshot, protocol=only)

    def possible_one(message: inet_diag.DiagMessage) -> Socket | None:
        sock = Socket(message, snapshot)
        return None if matches(sock) is False else sock

    def made(message: inet_diag.DiagMessage) -> T | None:
        sock = Socket(message, snapshot)
        return make(sock) if matches(sock) else None

    if selector.needs.isdisjoint(LOADED):
        return _each_listed(made, session, selector, snapshot, extensions)
    # Only of those that may match once it is known is the rest found out.
    possible = _each_listed(possible_one, session, selector, snapshot, extensions)
    load(session, snapshot, selector.needs, possible)
    matches = selector.bind(snapshot, protocol=only)
    found = (make(sock) for sock in possible if matches(sock))
    return [item for item in found if item is not None]


def _each_listed(
    make: Callable[[inet_diag.DiagMessage], T | None],
    session: NamespaceSession,
    selector: Selector,
    snapshot: Snapshot,
    extensions: int,
) -> list[T]:
    made: list[T] = []
    for protocol in selector.protocols:
        try:
            at_once = _listed_at_once(make, session, selector, snapshot, protocol, extensions)
            if at_once is not None:
                made += at_once
                continue
            for family in selector.families:
                made += _listed(make, session, selector, snapshot, protocol, family, extensions)
        except HandlerMissing:
            if protocol in selector.named_protocols:
                raise
            session.unlisted.add(protocol)
    return made


def _listed_at_once(
    make: Callable[[inet_diag.DiagMessage], T | None],
    session: NamespaceSession,
    selector: Selector,
    snapshot: Snapshot,
    protocol: str,
    extensions: int,
) -> list[T] | None:
    """As _listed, of both families; None where each must be asked for by itself."""
    program = selector.program_of_both(snapshot, protocol)
    if program is None:
        return None
    bits = selector.extensions | extensions
    states = selector.states(protocol)
    return inet_diag.dump_map_one_walk(make, session.diag, protocol, states, bits, program)


def _listed(
    make: Callable[[inet_diag.DiagMessage], T | None],
    session: NamespaceSession,
    selector: Selector,
    snapshot: Snapshot,
    protocol: str,
    family: str,
    extensions: int,
) -> list[T]:
    """What is made of those that the kernel's filter leaves: at least of every socket for which
    the selector is true, and of each once."""
    asked = (
        session.diag,
        protocol,
        constants.FAMILIES[family],
        selector.states(protocol),
        selector.extensions | extensions,
    )
    refusal: NetlinkError | None = None
    for programs in _programs(selector, snapshot, protocol, family):
        try:
            if len(programs) == 1:
                return inet_diag.dump_map(make, *asked, programs[0])
            listed = [
                message for program in programs for message in inet_diag.dump(*asked, program)
            ]
        except NetlinkError as error:
            # An op that this kernel does not know, or that this caller may not use
            # (inet_diag_bc_audit): filter less in the kernel.
            if error.errno not in (errno.EINVAL, errno.EPERM) or not any(programs):
                raise
            refusal = error
            continue
        once = {message.cookie: message for message in listed}
        return [item for item in map(make, once.values()) if item is not None]
    raise refusal or AssertionError("there is a first attempt")


def _programs(
    selector: Selector, snapshot: Snapshot, protocol: str, family: str
) -> Iterator[list[bytes]]:
    """The filters to try, the best first; none at all last, unless only the kernel can tell."""
    yield selector.programs(snapshot, protocol, family)
    yield selector.programs(snapshot, protocol, family, exact_ops=False)
    if not selector.kernel_decides:
        yield [b""]
