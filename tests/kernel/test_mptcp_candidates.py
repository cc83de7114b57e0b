# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which sockets may be part of an MPTCP connection, according to their own messages."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from linuxnet_sockets.host import namespaces
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.netlink import inet_diag
from linuxnet_sockets.query import classify
from linuxnet_sockets.query.find import find
from linuxnet_sockets.selector.parse import parse_selector
from linuxnet_sockets.sockets.session import NamespaceSession
from tests.support.topologies import states
from tests.support.topologies.states import HeldSocket
from tests.support.topologies.topology import Pair

_INFO = inet_diag.extension_bits([inet_diag.INFO])


def _mptcp(pair: Pair) -> HeldSocket:
    try:
        return states.mptcp(pair)
    except (OSError, ValueError) as error:
        pytest.skip(f"this kernel has no MPTCP: {error}")


def _mptcp_listener(pair: Pair) -> HeldSocket:
    held = _mptcp(pair)
    return HeldSocket(pair.server, held.remote, ("0.0.0.0", 0), held.others[0])


@pytest.mark.parametrize("protocol", ["tcp", "mptcp"])
@pytest.mark.parametrize("extensions", [0, _INFO])
@pytest.mark.parametrize("hold", [_mptcp, _mptcp_listener])
def test_parts_of_connections_are_candidates(
    pair: Pair, hold: Callable[[Pair], HeldSocket], protocol: str, extensions: int
) -> None:
    assert _may_have_subflows(hold(pair), protocol, extensions)


@pytest.mark.parametrize(("extensions", "candidates"), [(0, True), (_INFO, False)])
@pytest.mark.parametrize("hold", [states.established, states.listening])
def test_other_sockets_are_none_if_the_kernel_named_their_upper_layer(
    pair: Pair, hold: Callable[[Pair], HeldSocket], extensions: int, candidates: bool
) -> None:
    _mptcp(pair)
    assert _may_have_subflows(hold(pair), "tcp", extensions) is candidates


def test_handshake_without_tcp_info_is_a_candidate(pair: Pair) -> None:
    assert _may_have_subflows(states.new_syn_recv(pair), "tcp", _INFO)


def _may_have_subflows(held: HeldSocket, protocol: str, extensions: int) -> bool:
    match = {"protocol": protocol, "local_port": held.local[1], "state": "all"}
    selector = parse_selector(match, names=Host())
    with NamespaceSession(Host(), *namespaces.resolve([held.where.name])) as session:
        found = find(session, selector, extensions=extensions)
    assert found
    return classify.may_have_subflows(found)
