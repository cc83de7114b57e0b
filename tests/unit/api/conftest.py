# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from linuxnet_sockets.api import namespaces
from linuxnet_sockets.api.task import OperationResult
from linuxnet_sockets.errors import NamespaceNotFound
from linuxnet_sockets.host.namespaces import Namespace
from linuxnet_sockets.messages import describe_failure, describe_warning
from tests.support.fake_kernel import FakeNetlinkSocket
from tests.support.fake_machine import FakeMachine


class PlainResult(NamedTuple):
    """A result as users see it: data, and failures and warnings as text."""

    result: dict[str, Any]
    failure: str | None
    warnings: list[str]


def plain_result(result: OperationResult) -> PlainResult:
    return PlainResult(
        result.to_dict(),
        " ".join(map(describe_failure, result.failures)) or None,
        list(map(describe_warning, result.warnings)),
    )


class Target(FakeMachine):
    """A fake machine on which operations run."""

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        own = self.proc / "thread-self" / "ns"
        own.mkdir(parents=True)
        (own / "net").write_text("")

    def task(self, operation: Callable[..., OperationResult], **arguments: Any) -> PlainResult:
        """Run an operation, which must close its netlink sockets, and return its result."""
        result = plain_result(operation(**arguments, host=self.host))
        assert [sock for sock in self.kernel.opened if not sock.closed] == []
        return result


def numbers(text: str | None) -> list[int]:
    """Return the integers in a message, in order."""
    assert text is not None
    return [int(number) for number in re.findall(r"\b\d+\b", text)]


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(tmp_path)


@pytest.fixture
def target_with_removed_namespace(target: Target, monkeypatch: pytest.MonkeyPatch) -> Target:
    """A target on which a namespace is removed between its discovery and the snapshot."""
    container = target.kernel.namespace("container")
    found = [target.namespace, Namespace("pid:7", "/nowhere", container.identity, explicit=False)]
    monkeypatch.setattr(namespaces, "resolve", lambda _names, **_places: found)

    def open_netlink(namespace: Namespace, protocol: int) -> FakeNetlinkSocket:
        if namespace.name != "current":
            raise NamespaceNotFound(namespace.name)
        return target.kernel.open(namespace, protocol)

    monkeypatch.setattr(target, "open", open_netlink)
    return target
