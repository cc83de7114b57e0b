# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of all unit tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from linuxnet_sockets.errors import NamespaceNotFound
from linuxnet_sockets.host.namespaces import Namespace
from tests.support.fake_kernel import FakeNetlinkSocket
from tests.support.fake_machine import FakeMachine

# Tests with hypothesis have no deadline: the machine may be busy.
settings.register_profile(
    "shared_machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("shared_machine")


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    """A new fake machine with a fake kernel and processes."""
    return FakeMachine(tmp_path)


@pytest.fixture
def spaces(machine: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> dict[str, Namespace]:
    """Namespaces of the fake machine, by name. Tests may add and remove some."""
    known = {"current": machine.namespace}

    def resolve(names: Sequence[str], **_paths: object) -> list[Namespace]:
        (name,) = names
        if name == "all":
            return [namespace._replace(explicit=False) for namespace in known.values()]
        if name not in known:
            raise NamespaceNotFound(name)
        return [known[name]]

    def open_netlink(namespace: Namespace, protocol: int) -> FakeNetlinkSocket:
        if namespace.name not in machine.kernel.namespaces:
            raise NamespaceNotFound(namespace.name)
        return machine.kernel.open(namespace, protocol)

    monkeypatch.setattr(machine, "open", open_netlink)
    monkeypatch.setattr("linuxnet_sockets.policy.evaluate.resolve", resolve)
    return known
