# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which namespaces the agent hears of: those that are there, whatever was there before."""

from __future__ import annotations

from functools import partial

import pytest
from pyroute2 import netns

from linuxnet_sockets.agent.hearing import Hearing
from linuxnet_sockets.host import namespaces
from linuxnet_sockets.host.host import Host
from tests.support.topologies.topology import Lab

# The kernel takes the lowest number that is free; others may make namespaces meanwhile.
_ATTEMPTS = 200


def test_a_namespace_is_new_once(lab: Lab) -> None:
    own, others = lab.namespace("own"), [lab.namespace("one"), lab.namespace("two")]
    hearing = Hearing(Host())

    def admit(count: int) -> bool:
        return hearing.admit(namespaces.resolve([each.name for each in others[:count]]))

    assert own.run(lambda: admit(1))
    assert not own.run(lambda: admit(1))
    assert own.run(lambda: admit(2))
    assert not own.run(lambda: admit(2))
    assert not own.run(lambda: hearing.admit([]))


def test_a_new_namespace_with_the_number_of_one_that_is_gone(lab: Lab) -> None:
    """The kernel gives the numbers of inodes again, and nobody looked in between."""
    own, other = lab.namespace("own"), lab.namespace("other")
    hearing = Hearing(Host())
    (former,) = namespaces.resolve([other.name])
    assert own.run(lambda: hearing.admit([former]))
    for _attempt in range(_ATTEMPTS):
        other.close()
        netns.create(other.name)
        (anew,) = namespaces.resolve([other.name])
        if anew.identity == former.identity:
            assert own.run(partial(hearing.admit, [anew]))
            return
    pytest.skip("the number was not given again")
