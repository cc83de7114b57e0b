# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Selectors without the sockets that the guard protects as `loopback`.

Any user can open tens of thousands of such sockets. Left out by the kernel's filter, they are
neither copied nor decoded.
"""

from __future__ import annotations

import functools
import socket

from ..selector.predicates.address import EndpointIn, EndpointPattern
from ..selector.prefixes import Prefix
from ..selector.selector import Selector
from ..selector.tree import All, Any, Node, Not
from ..sockets.snapshot import Snapshot

# For each socket, the kernel compares the addresses of the host one by one.
MAX_ADDRESSES = 256

_LOOPBACK = (
    Prefix(bytes([127, 0, 0, 0]), 8),
    Prefix(socket.inet_pton(socket.AF_INET6, "::1"), 128),
)


def without_loopback(selector: Selector, snapshot: Snapshot) -> Selector:
    """The selector, without sockets that GuardEvaluator protects as `loopback`.

    Connections between two addresses of the host remain if one is beyond its first MAX_ADDRESSES,
    and so does every socket if only the kernel can evaluate the selector. Raises what
    Connection.dump raises.
    """
    if selector.kernel_decides:
        # Its filter must not become too long.
        return selector
    held = sorted(snapshot.local_addresses, key=lambda address: (len(address), address))
    return _without(selector, tuple(held[:MAX_ADDRESSES]))


@functools.lru_cache(maxsize=64)
def _without(selector: Selector, held: tuple[bytes, ...]) -> Selector:
    excluded: list[Node] = [_end_in(_LOOPBACK, remote=remote) for remote in (False, True)]
    if held:
        prefixes = tuple(Prefix(address, 8 * len(address)) for address in held)
        excluded.append(All(tuple(_end_in(prefixes, remote=remote) for remote in (False, True))))
    return Selector(All((selector.root, Not(Any(tuple(excluded))))))


def _end_in(prefixes: tuple[Prefix, ...], *, remote: bool) -> EndpointIn:
    return EndpointIn((), None, remote=remote, patterns=map(EndpointPattern, prefixes))
