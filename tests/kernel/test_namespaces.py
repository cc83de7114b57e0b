# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network namespaces of the host: each is found once, entered in a thread, and released."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyroute2 import netns

from linuxnet_sockets.destroy.command import destroy
from linuxnet_sockets.destroy.model import DestroyOptions
from linuxnet_sockets.errors import NamespaceNotFound
from linuxnet_sockets.guard.options import Guard
from linuxnet_sockets.host import namespaces
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.host.namespaces import Namespace
from linuxnet_sockets.netlink.connection import NETLINK_SOCK_DIAG
from linuxnet_sockets.query.find import find
from linuxnet_sockets.selector.parse import parse_selector
from linuxnet_sockets.sockets.session import NamespaceSession
from tests.kernel.destroy_subprocess import destroy_in_subprocess
from tests.support.topologies import states
from tests.support.topologies.topology import Lab, LabNamespace
from tests.support.topologies.waiting import until


@pytest.fixture
def whole_host() -> None:
    """Only root of the initial user namespace sees the namespaces of all processes."""
    if Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]:
        pytest.skip("the namespaces of other users' processes may not be seen: not real root")


def identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def found(path: str) -> list[Namespace]:
    """The namespaces in `all` with the identity of this path."""
    expected = identity(path)
    return [
        namespace for namespace in namespaces.resolve(["all"]) if namespace.identity == expected
    ]


@contextlib.contextmanager
def process(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process that prints when it is ready, and ends at the end of its input."""
    script = "echo ready; read _line"
    started = subprocess.Popen(
        [*words, "/bin/sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        yield started
    finally:
        if started.poll() is None:
            started.communicate(timeout=10)


def test_named_namespace(lab: Lab) -> None:
    where = lab.namespace("named")
    (namespace,) = namespaces.resolve([where.name])
    assert namespace == (where.name, where.path, identity(where.path), True)


@pytest.mark.usefixtures("whole_host")
def test_all_has_no_duplicates(lab: Lab) -> None:
    where = lab.namespace("named")
    with process(*where.command("env")), process("unshare", "--net") as container:
        everything = namespaces.resolve(["all"])
        identities = [namespace.identity for namespace in everything]
        assert len(identities) == len(set(identities))
        assert everything[0] == ("current", None, identity("/proc/self/ns/net"), True)
        assert [namespace.name for namespace in found(where.path)] == [where.name]
        label = f"pid:{container.pid}"
        assert [namespace.name for namespace in found(f"/proc/{container.pid}/ns/net")] == [label]


@pytest.mark.usefixtures("whole_host")
def test_container_with_own_mounts_and_pids() -> None:
    with process("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child") as container:
        child = Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text().split()[0]
        (namespace,) = found(f"/proc/{child}/ns/net")
        assert namespace.name == f"pid:{container.pid}"
        with namespaces.open_netlink(namespace, NETLINK_SOCK_DIAG) as sock:
            assert sock.getsockname()[0]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Bind-mount a namespace to a file of the test, as container engines do."""
    with contextlib.ExitStack() as stack:

        def mount(source: str) -> Path:
            at = tmp_path / "bound here"
            at.touch()
            subprocess.run(["mount", "--bind", source, str(at)], check=True)
            stack.callback(subprocess.run, ["umount", str(at)], check=True)
            return at

        yield mount


@pytest.mark.usefixtures("whole_host")
def test_mount_without_a_process(mounted: Callable[[str], Path]) -> None:
    with process("unshare", "--net") as container:
        at = mounted(f"/proc/{container.pid}/ns/net")
    (namespace,) = found(str(at))
    assert namespace == (str(at), str(at), identity(str(at)), False)
    assert namespaces.resolve([str(at)]) == [namespace._replace(explicit=True)]


@pytest.mark.usefixtures("whole_host")
def test_mount_in_another_mount_namespace(tmp_path: Path) -> None:
    at = tmp_path / "inner"
    at.touch()
    script = (
        f"unshare --net sh -c 'mount --bind /proc/self/ns/net {at}'; stat -L -c '%d %i' {at}; "
        "read _line"
    )
    with subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as engine:
        try:
            assert engine.stdout is not None
            device, inode = map(int, engine.stdout.readline().split())
            (namespace,) = [
                namespace
                for namespace in namespaces.resolve(["all"])
                if namespace.identity == (device, inode)
            ]
            assert str(namespace.path).endswith(f"/root{at}")
            with namespaces.open_netlink(namespace, NETLINK_SOCK_DIAG) as sock:
                assert sock.getsockname()[0]
        finally:
            engine.communicate("\n", timeout=10)


@pytest.mark.usefixtures("whole_host")
def test_container_whose_first_process_ends(lab: Lab) -> None:
    where = lab.namespace("shared")
    with process("unshare", "--net") as first:
        entered = ("nsenter", f"--net=/proc/{first.pid}/ns/net")
        with process(*entered) as second:
            (namespace,) = found(f"/proc/{second.pid}/ns/net")
            lowest = min(first, second, key=lambda child: child.pid)
            assert namespace.name == f"pid:{lowest.pid}"
            lowest.communicate(timeout=10)
            # The other process is still in it.
            with namespaces.open_netlink(namespace, NETLINK_SOCK_DIAG) as sock:
                assert sock.getsockname()[0]
            with pytest.raises(NamespaceNotFound):
                namespaces.open_netlink(namespace._replace(explicit=True), NETLINK_SOCK_DIAG)
    # No process is in it any more, so `all` skips it.
    with pytest.raises(NamespaceNotFound):
        namespaces.open_netlink(namespace, NETLINK_SOCK_DIAG)
    host = Host()
    selector = parse_selector({"state": "all"}, names=host, role="destroy")
    spaces = [namespace, *namespaces.resolve([where.name])]
    assert destroy(host, selector, spaces, DestroyOptions(Guard())).results == []


@pytest.mark.usefixtures("whole_host")
def test_all_excludes_other_types() -> None:
    with process("unshare", "--uts", "--ipc") as other:
        kinds = {identity(f"/proc/{other.pid}/ns/{kind}") for kind in ("uts", "ipc", "mnt")}
        assert kinds.isdisjoint(namespace.identity for namespace in namespaces.resolve(["all"]))


def test_session_does_not_move_caller(lab: Lab) -> None:
    where = lab.namespace("elsewhere")
    listens = states.listener(where, "127.0.0.1")
    before = identity("/proc/thread-self/ns/net")
    threads = threading.active_count()
    with NamespaceSession(Host(), *namespaces.resolve([where.name])) as session:
        selector = parse_selector({"state": "listening"}, names=session.host)
        cookies = [decoded.cookie for decoded in find(session, selector)]
    assert cookies == [states.cookie_of(listens)]
    assert identity("/proc/thread-self/ns/net") == before
    assert threading.active_count() == threads


def test_deleted_namespace_is_not_pinned(lab: Lab) -> None:
    stays = lab.namespace("stays")
    goes = LabNamespace("goes")
    try:
        ifname, _peer = lab.connect(stays, goes)
        (namespace,) = namespaces.resolve([goes.name])
        with NamespaceSession(Host(), namespace) as session:
            find(session, parse_selector({"state": "all"}, names=session.host))
            assert session.snapshot().local_addresses
    finally:
        goes.close()
    with stays.route() as route:
        # The kernel takes a veth pair down with the namespace of its other end.
        until(lambda: not route.link_lookup(ifname=ifname), "the other end of the wire to go")
    with pytest.raises(NamespaceNotFound):
        namespaces.open_netlink(namespace, NETLINK_SOCK_DIAG)


def test_reused_name_is_not_found(lab: Lab) -> None:
    name = lab.namespace("keeps-pyroute2-busy").name + "-again"
    netns.create(name)
    try:
        (first,) = namespaces.resolve([name])
        # Something else keeps the first alive, so that the second cannot get its number.
        pin = os.open(str(first.path), os.O_RDONLY)
        try:
            netns.remove(name)
            netns.create(name)
            with pytest.raises(NamespaceNotFound):
                namespaces.open_netlink(first, NETLINK_SOCK_DIAG)
        finally:
            os.close(pin)
    finally:
        netns.remove(name)


def test_other_files_are_not_found(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    for name in (str(plain), "/proc/self/ns/mnt", "lns-never-made", "pid:4194305"):
        with pytest.raises(NamespaceNotFound):
            namespaces.resolve([name])


def test_entering_without_privilege_is_denied(lab: Lab) -> None:
    where = lab.namespace("closed")
    answer = destroy_in_subprocess({"state": "all"}, [where.name], without=["sys_admin"])
    assert answer["error"] == "NamespaceDenied"
    assert answer["arguments"][0] == where.name


def test_all_without_ptrace_is_denied() -> None:
    with process("unshare", "--net"):
        assert (
            destroy_in_subprocess(None, ["all"], without=["sys_ptrace"])["error"]
            == "NamespaceDenied"
        )


def test_own_namespace_needs_no_privilege() -> None:
    own = f"pid:{os.getpid()}"
    (namespace,) = namespaces.resolve([own])
    with namespaces.open_netlink(namespace, socket.NETLINK_ROUTE) as sock:
        assert sock.getsockname()[0]
