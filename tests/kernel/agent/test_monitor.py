# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Assigning ids to other namespaces, to receive their events."""

from __future__ import annotations

from functools import partial

import pytest
from pyroute2 import netns

from linuxnet_sockets.agent.monitor import NamespaceTracker
from linuxnet_sockets.host import namespaces
from linuxnet_sockets.host.host import Host
from tests.support.topologies.topology import Lab

# The kernel reuses the lowest free inode; others may create namespaces, too.
_ATTEMPTS = 200


def test_namespace_is_new_once(lab: Lab) -> None:
    own, others = lab.namespace("own"), [lab.namespace("first"), lab.namespace("second")]
    tracker = NamespaceTracker(Host())

    def track(count: int) -> bool:
        return tracker.track(namespaces.resolve([other.name for other in others[:count]]))

    assert own.run(lambda: track(1))
    assert not own.run(lambda: track(1))
    assert own.run(lambda: track(2))
    assert not own.run(lambda: track(2))
    assert not own.run(lambda: tracker.track([]))


def test_new_namespace_with_a_reused_inode_is_new(lab: Lab) -> None:
    own, other = lab.namespace("own"), lab.namespace("other")
    tracker = NamespaceTracker(Host())
    (former,) = namespaces.resolve([other.name])
    assert own.run(lambda: tracker.track([former]))
    for _attempt in range(_ATTEMPTS):
        other.close()
        netns.create(other.name)
        (recreated,) = namespaces.resolve([other.name])
        if recreated.identity == former.identity:
            assert own.run(partial(tracker.track, [recreated]))
            return
    pytest.skip("the kernel did not reuse the inode")
