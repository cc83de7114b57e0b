# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The sockets of a namespace that a selector matches.

The kernel filters what its filter language can express, and the selector tests every socket that
the kernel returns.
"""

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

# The needs that load() loads. The others are loaded where they are used.
LOADED = frozenset({Need.OWNERS, Need.ROUTES, Need.PEERS})


def find(
    session: NamespaceSession,
    selector: Selector,
    *,
    extensions: int = 0,
    needs: Collection[Need] = (),
    snapshot: Snapshot | None = None,
) -> list[Socket]:
    """Return the sockets for which the selector is true.

    extensions: idiag_ext bits to request beyond those of the selector. needs: facts to load for the
    result, as load takes them. snapshot: None: a new one.

    Raises HandlerMissing for a protocol that the selector names and the kernel cannot list. One
    that the selector only admits is added to session.unlisted. Raises what Connection.dump raises.
    """
    if snapshot is None:
        snapshot = session.snapshot()
    found = find_map(_identity, session, selector, snapshot, extensions=extensions)
    for sock in found:
        if sock.ifindex:
            # Load the links while the session is open: records need them later.
            snapshot.interface_name(sock.ifindex)
            break
    load(session, snapshot, needs, found)
    return found


def _identity(sock: Socket) -> Socket:
    return sock


def load(
    session: NamespaceSession,
    snapshot: Snapshot,
    needs: Collection[Need],
    sockets: Collection[Socket],
) -> None:
    """Load facts about these sockets into the snapshot.

    needs: those not in LOADED are ignored, so that you can pass Selector.needs. Raises what
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


def find_map(
    make: Callable[[Socket], T | None],
    session: NamespaceSession,
    selector: Selector,
    snapshot: Snapshot,
    *,
    extensions: int = 0,
) -> list[T]:
    """Return make(socket) for each socket for which the selector is true, without None.

    It saves memory: the sockets themselves are not kept. make may be called again for the same
    socket. Raises what find raises.
    """
    only_protocol = selector.protocols[0] if len(selector.protocols) == 1 else None
    matches = selector.bind(snapshot, protocol=only_protocol)

    def keep_possible(message: inet_diag.DiagMessage) -> Socket | None:
        sock = Socket(message, snapshot)
        return None if matches(sock) is False else sock

    def make_matching(message: inet_diag.DiagMessage) -> T | None:
        sock = Socket(message, snapshot)
        return make(sock) if matches(sock) else None

    if selector.needs.isdisjoint(LOADED):
        return _dump_map(make_matching, session, selector, snapshot, extensions)
    # The needs are expensive: load them only for sockets that may match.
    possible = _dump_map(keep_possible, session, selector, snapshot, extensions)
    load(session, snapshot, selector.needs, possible)
    matches = selector.bind(snapshot, protocol=only_protocol)
    found = (make(sock) for sock in possible if matches(sock))
    return [item for item in found if item is not None]


def _dump_map(
    make: Callable[[inet_diag.DiagMessage], T | None],
    session: NamespaceSession,
    selector: Selector,
    snapshot: Snapshot,
    extensions: int,
) -> list[T]:
    """make(message) for each message that the kernel's filters accept, without None."""
    made: list[T] = []
    for protocol in selector.protocols:
        try:
            both = _dump_map_both_families(make, session, selector, snapshot, protocol, extensions)
            if both is not None:
                made += both
                continue
            for family in selector.families:
                made += _dump_map_family(
                    make, session, selector, snapshot, protocol, family, extensions
                )
        except HandlerMissing:
            if protocol in selector.named_protocols:
                raise
            session.unlisted.add(protocol)
    return made


def _dump_map_both_families(
    make: Callable[[inet_diag.DiagMessage], T | None],
    session: NamespaceSession,
    selector: Selector,
    snapshot: Snapshot,
    protocol: str,
    extensions: int,
) -> list[T] | None:
    """One dump of both families; None: each family needs its own filter."""
    program = selector.program_of_both(snapshot, protocol)
    if program is None:
        return None
    bits = selector.extensions | extensions
    states = selector.states(protocol)
    return inet_diag.dump_map_one_walk(make, session.diag, protocol, states, bits, program)


def _dump_map_family(
    make: Callable[[inet_diag.DiagMessage], T | None],
    session: NamespaceSession,
    selector: Selector,
    snapshot: Snapshot,
    protocol: str,
    family: str,
    extensions: int,
) -> list[T]:
    """As _dump_map for one family. Each socket is passed once, and all that match are passed."""
    arguments = (
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
                return inet_diag.dump_map(make, *arguments, programs[0])
            messages = [
                message for program in programs for message in inet_diag.dump(*arguments, program)
            ]
        except NetlinkError as error:
            # This kernel does not know an op of the filter, or this caller may not use it
            # (inet_diag_bc_audit): try a filter with fewer ops.
            if error.errno not in (errno.EINVAL, errno.EPERM) or not any(programs):
                raise
            refusal = error
            continue
        distinct = {message.cookie: message for message in messages}
        return [item for item in map(make, distinct.values()) if item is not None]
    raise refusal or AssertionError("there is a first attempt")


def _programs(
    selector: Selector, snapshot: Snapshot, protocol: str, family: str
) -> Iterator[list[bytes]]:
    """The filters to try, the most selective first.

    No filter comes last, unless the selector has a condition that only the kernel can test.
    """
    yield selector.programs(snapshot, protocol, family)
    yield selector.programs(snapshot, protocol, family, exact_ops=False)
    if not selector.kernel_decides:
        yield [b""]
