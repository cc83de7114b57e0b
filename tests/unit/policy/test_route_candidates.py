# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Selection of the route that the kernel uses."""

from __future__ import annotations

import socket

import pytest

from linuxnet_sockets.policy.route_candidates import Egress, RouteCandidate, select
from linuxnet_sockets.selector.prefixes import Prefix

DEFAULT4, DEFAULT6 = Prefix(bytes(4), 0), Prefix(bytes(16), 0)
OTHER6 = Prefix(socket.inet_pton(socket.AF_INET6, "2001:db8::"), 32)
WAN, LTE = frozenset({2}), frozenset({3})
REFUSES: frozenset[int] = frozenset()


def via4(egress: Egress, metric: int = 0, *, by_gateway: bool = True) -> RouteCandidate:
    return RouteCandidate(DEFAULT4, egress, metric, 254, by_gateway=by_gateway)


def via6(
    egress: Egress, metric: int, preference: int = 0, *, answers: bool = True
) -> RouteCandidate:
    return RouteCandidate(DEFAULT6, egress, metric, 254, preference, True, answers)


@pytest.mark.parametrize(
    ("candidates", "egress"),
    [
        ([via4(LTE, 200), via4(WAN, 100)], WAN),
        ([via4(WAN, 100), via4(REFUSES, 50)], REFUSES),
        ([via4(WAN, 50), via4(REFUSES, 100)], WAN),
        # The states of the gateways decide.
        ([via4(WAN), via4(LTE)], None),
        ([via4(WAN), via4(WAN)], WAN),
        ([via4(WAN, by_gateway=False), via4(LTE)], WAN),
        ([via6(WAN, 1024), via6(LTE, 1024)], WAN),
        ([via6(WAN, 1024, -1), via6(LTE, 1024)], LTE),
        ([via6(WAN, 1024, 1), via6(LTE, 1024)], WAN),
        ([via6(WAN, 512, -1), via6(LTE, 1024, 1)], WAN),
        ([via6(WAN, 512, answers=False), via6(LTE, 1024)], LTE),
        ([via6(WAN, 512, answers=False), via6(LTE, 1024, answers=False)], WAN),
        ([via4(None)], None),
    ],
)
def test_selected_route(candidates: list[RouteCandidate], egress: Egress) -> None:
    (found,) = select(candidates).values()
    assert found == egress


def test_shorter_prefix_may_replace_failed_gateways() -> None:
    candidate = RouteCandidate(OTHER6, WAN, 1024, 254, 0, True, False)
    assert select([candidate]) == {(OTHER6, 254): None}


def test_tables_are_selected_separately() -> None:
    other = via4(LTE)._replace(table=100)
    assert select([via4(WAN), other]) == {(DEFAULT4, 254): WAN, (DEFAULT4, 100): LTE}
