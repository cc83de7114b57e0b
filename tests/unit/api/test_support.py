# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from linuxnet_sockets import api
from linuxnet_sockets.errors import InputError
from linuxnet_sockets.netlink.constants import PROTOCOLS
from tests.unit.api.conftest import Target


def test_support_names_every_protocol(target: Target) -> None:
    found = api.support(host=target.host)
    assert set(found.protocols) == set(PROTOCOLS)
    assert found.protocols["tcp"].verdict == "supported"
    assert found.may_destroy


def test_support_is_part_of_the_facts(target: Target) -> None:
    support = api.support(host=target.host).to_dict()
    facts = api.facts(host=target.host).to_dict()
    assert {key: facts[key] for key in support} == support


def test_namespace_must_be_a_name(target: Target) -> None:
    with pytest.raises(InputError) as caught:
        api.support(namespace="", host=target.host)
    assert caught.value.path == ("namespaces", 0)
