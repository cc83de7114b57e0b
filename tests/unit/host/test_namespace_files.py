# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of namespaces whose place a user controls, as in a mount namespace of their own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from linuxnet_sockets.agent import nsids
from linuxnet_sockets.errors import NamespaceNotFound
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.host.namespace_owner import UNKNOWN, owner_uid
from linuxnet_sockets.host.namespaces import Namespace, open_netlink
from linuxnet_sockets.netlink.connection import NETLINK_ROUTE


def _in_time(work: Callable[[], object]) -> object:
    """The result of the work, or its NamespaceNotFound. Fails if it blocks."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(work())
        except NamespaceNotFound:
            results.append(NamespaceNotFound)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(5)
    assert results, "blocked"
    return results[0]


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (owner_uid, UNKNOWN),
        (lambda namespace: nsids.assign_nsid(Host(), namespace), None),
        (lambda namespace: open_netlink(namespace, NETLINK_ROUTE), NamespaceNotFound),
    ],
    ids=["owner", "nsid", "netlink"],
)
def test_named_pipe_in_place_of_a_namespace_does_not_block(
    tmp_path: Path, work: Callable[[Namespace], object], expected: object
) -> None:
    pipe = tmp_path / "mount-point"
    os.mkfifo(pipe)
    namespace = Namespace(str(pipe), str(pipe), (4, 4026539999), explicit=False)
    assert _in_time(lambda: work(namespace)) == expected
