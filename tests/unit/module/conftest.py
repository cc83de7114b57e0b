# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils._core.errors import NamespaceNotFound
from plugins.module_utils._core.host.namespaces import Namespace
from plugins.module_utils._module import facts, info
from plugins.module_utils._module.run import Answer, Request, Work
from tests.support.fake_kernel import FakeNetlinkSocket
from tests.support.fake_machine import Machine


class Target(Machine):
    """A made-up machine on which modules do their work; a task gives what it would return."""

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        own = self.proc / "thread-self" / "ns"
        own.mkdir(parents=True)
        (own / "net").write_text("")

    def task(
        self, work: Work, defaults: dict[str, Any], *, check: bool = False, diff: bool = False
    ) -> Answer:
        answer = work(Request(defaults, check, diff), self.host)
        assert [each for each in self.kernel.opened if not each.closed] == []
        return answer


def numbers(text: str | None) -> list[int]:
    """The whole numbers in a message, in order."""
    assert text is not None
    return [int(number) for number in re.findall(r"\b\d+\b", text)]


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(tmp_path)


@pytest.fixture
def target_with_vanished(target: Target, monkeypatch: pytest.MonkeyPatch) -> Target:
    """`all` found a container's namespace beside the current one; it is gone by the look."""
    container = target.kernel.namespace("container")
    found = [target.namespace, Namespace("pid:7", "/nowhere", container.identity, explicit=False)]
    for module in (info, facts):
        monkeypatch.setattr(module, "resolve", lambda _names, **_places: found)

    def open_netlink(namespace: Namespace, protocol: int) -> FakeNetlinkSocket:
        if namespace.name != "current":
            raise NamespaceNotFound(namespace.name)
        return target.kernel.open(namespace, protocol)

    monkeypatch.setattr(target, "open", open_netlink)
    return target
