# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ids and owners of other namespaces."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from pyroute2 import netns

from linuxnet_sockets.agent.nsids import assign_nsid
from linuxnet_sockets.host import namespace_owner, namespaces
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.host.namespace_owner import owner_uid
from tests.support.topologies.topology import Lab

# The kernel reuses the lowest free inode; others may create namespaces, too.
_ATTEMPTS = 200


def test_namespace_keeps_its_id(lab: Lab) -> None:
    own, others = lab.namespace("own"), [lab.namespace("first"), lab.namespace("second")]

    def assign(name: str) -> int | None:
        (namespace,) = namespaces.resolve([name])
        return assign_nsid(Host(), namespace)

    first, second = (own.run(partial(assign, other.name)) for other in others)
    assert first is not None
    assert second not in (None, first)
    assert own.run(partial(assign, others[0].name)) == first
    assert own.run(partial(assign, "current")) is None
    assert own.run(partial(assign, own.name)) is None


def test_new_namespace_with_a_reused_inode_gets_an_id(lab: Lab) -> None:
    own, other = lab.namespace("own"), lab.namespace("other")
    (former,) = namespaces.resolve([other.name])
    assert own.run(partial(assign_nsid, Host(), former)) is not None
    for _attempt in range(_ATTEMPTS):
        other.close()
        netns.create(other.name)
        (recreated,) = namespaces.resolve([other.name])
        if recreated.identity == former.identity:
            assert own.run(partial(assign_nsid, Host(), recreated)) is not None
            return
    pytest.skip("the kernel did not reuse the inode")


def test_namespace_that_ended_has_no_id(lab: Lab) -> None:
    own, other = lab.namespace("own"), lab.namespace("other")
    (former,) = namespaces.resolve([other.name])
    other.close()
    assert own.run(partial(assign_nsid, Host(), former)) is None
    assert owner_uid(former) == namespace_owner.UNKNOWN


@contextmanager
def _namespace_of(uid: int, levels: int) -> Iterator[namespaces.Namespace]:
    """A namespace in nested user namespaces of a user."""
    as_user = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups"]
    nested = ["unshare", "--user", "--map-root-user"] * levels
    command = [*as_user, *nested, "unshare", "--net", "sh", "-c", "echo ready; exec sleep 60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                pytest.skip("cannot create user namespaces as another user")
            (namespace,) = namespaces.resolve([f"pid:{process.pid}"])
            yield namespace
        finally:
            process.kill()


def test_owner_of_a_namespace(lab: Lab) -> None:
    (here,) = namespaces.resolve(["current"])
    (named,) = namespaces.resolve([lab.namespace("named").name])
    assert owner_uid(here) == owner_uid(named) == namespace_owner.ROOT


@pytest.mark.parametrize("levels", [1, 2, 5])
def test_outermost_user_namespace_counts(levels: int) -> None:
    with _namespace_of(1500, levels) as namespace:
        assert owner_uid(namespace) == 1500
