# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the tests that run modules with Ansible on the running kernel, in namespaces."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest

from tests.integration import browser as headless
from tests.integration.browser import Browser
from tests.integration.controller import Controller
from tests.integration.socket_process import SocketProcess
from tests.support.topologies import topology
from tests.support.topologies.topology import Lab, LabNamespace, Pair


@pytest.fixture(scope="session")
def _require_namespaces() -> None:
    reason = topology.unavailable_reason()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def lab(_require_namespaces: None) -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def pair(lab: Lab) -> Pair:
    """Ansible and the sockets under test are in pair.client; the other ends in pair.server."""
    return Pair(lab)


StartProcess = Callable[..., SocketProcess]


@pytest.fixture(scope="module")
def start_process() -> StartProcess:
    """Start a socket process in a namespace. prefix: a command that runs it."""

    def start(where: LabNamespace, *prefix: str) -> SocketProcess:
        return SocketProcess(where.spawn, *prefix)

    return start


@pytest.fixture(scope="module")
def client(pair: Pair, start_process: StartProcess) -> SocketProcess:
    return start_process(pair.client)


@pytest.fixture(scope="module")
def server(pair: Pair, start_process: StartProcess) -> SocketProcess:
    return start_process(pair.server)


@pytest.fixture(scope="module")
def controller(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Controller:
    return Controller(pair.client, tmp_path_factory.mktemp("controller"))


@pytest.fixture(scope="module")
def browser(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Start a browser in a namespace without a network."""
    if shutil.which(headless.PROGRAM) is None:
        pytest.skip(f"needs {headless.PROGRAM}")
    isolated = lab.namespace("browser")
    with Browser(tmp_path_factory.mktemp("browser") / "profile", isolated.command) as browser:
        yield browser
