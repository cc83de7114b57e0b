# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules through Ansible itself, on the real kernel, in namespaces of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.integration.actor import Actor
from tests.integration.controller import Controller
from tests.support.topologies import topology
from tests.support.topologies.topology import Lab, LabNamespace, Pair


@pytest.fixture(scope="session")
def _possible() -> None:
    reason = topology.unavailable_reason()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def lab(_possible: None) -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def pair(lab: Lab) -> Pair:
    """Ansible and the sockets under test are in pair.client; the other ends in pair.server."""
    return Pair(lab)


StartActor = Callable[..., Actor]


@pytest.fixture(scope="module")
def start_actor() -> StartActor:
    """Start an actor in a namespace; more words are a command that runs it."""

    def start(where: LabNamespace, *prefix: str) -> Actor:
        return Actor(where.spawn, *prefix)

    return start


@pytest.fixture(scope="module")
def client(pair: Pair, start_actor: StartActor) -> Actor:
    return start_actor(pair.client)


@pytest.fixture(scope="module")
def server(pair: Pair, start_actor: StartActor) -> Actor:
    return start_actor(pair.server)


@pytest.fixture(scope="module")
def controller(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Controller:
    return Controller(pair.client, tmp_path_factory.mktemp("controller"))
