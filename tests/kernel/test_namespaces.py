# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network namespaces of the host: each is found once, entered in a thread, and released."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyroute2 import netns

from linuxnet_sockets.destroy.command import destroy
from linuxnet_sockets.destroy.model import DestroyOptions
from linuxnet_sockets.errors import NamespaceNotFound
from linuxnet_sockets.guard.options import Guard
from linuxnet_sockets.host import namespace_holders, namespaces
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


# A Python program that can move a thread; it prints a line and ends at the end of its input.
_MOVE = """
import ctypes, os, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
def unshare_network():
    assert libc.unshare(0x40000000) == 0, ctypes.get_errno()
def say(*words):
    print(*words, flush=True)
"""

# A thread in a namespace of its own.
_THREAD = f"""{_MOVE}
def enter():
    unshare_network()
    say(threading.get_native_id(), os.stat("/proc/thread-self/ns/net").st_ino)
    sys.stdin.read()
threading.Thread(target=enter).start()
"""

# The same; then the main thread ends, and its files in /proc with it.
_THREAD_ALONE = f"""{_MOVE}
def enter():
    unshare_network()
    while open(f"/proc/{{os.getpid()}}/stat").read().rpartition(")")[2].split()[0] != "Z":
        pass
    say(threading.get_native_id(), os.stat("/proc/thread-self/ns/net").st_ino)
    sys.stdin.read()
    os._exit(0)
threading.Thread(target=enter).start()
libc.syscall(60 if os.uname().machine == "x86_64" else 93, 0)
"""

# A descriptor of a namespace that nothing is in any more; the number is the highest of many.
_DESCRIPTOR = f"""{_MOVE}
opened = []
def enter():
    unshare_network()
    for _each in range(500):
        os.open("/dev/null", os.O_RDONLY)
    opened.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
thread = threading.Thread(target=enter)
thread.start()
thread.join()
# The kernel removes the thread from /proc a moment after join() has returned.
while len(os.listdir("/proc/self/task")) > 1:
    pass
say(opened[0], os.fstat(opened[0]).st_ino)
sys.stdin.read()
"""


@contextlib.contextmanager
def program(code: str) -> Iterator[tuple[int, int, int]]:
    """Run a program; its pid, and the two numbers of the line that it prints."""
    started = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert started.stdout is not None
        first, second = map(int, started.stdout.readline().split())
        yield started.pid, first, second
    finally:
        started.communicate(timeout=10)


def with_inode(inode: int) -> list[Namespace]:
    return [each for each in namespaces.resolve(["all"]) if each.identity[1] == inode]


@pytest.mark.usefixtures("whole_host")
@pytest.mark.parametrize("code", [_THREAD, _THREAD_ALONE], ids=["thread", "main thread ended"])
def test_namespace_of_a_thread(code: str) -> None:
    with program(code) as (pid, thread, inode):
        (namespace,) = with_inode(inode)
        path = f"/proc/{pid}/task/{thread}/ns/net"
        assert namespace == (f"pid:{thread}", path, identity(path), False)
        with namespaces.open_netlink(namespace, NETLINK_SOCK_DIAG) as sock:
            assert sock.getsockname()[0]
        # Its name can be given back.
        assert namespaces.resolve([namespace.name])[0].identity == namespace.identity
    assert with_inode(inode) == []


@pytest.mark.usefixtures("whole_host")
def test_namespace_of_a_descriptor() -> None:
    with program(_DESCRIPTOR) as (pid, number, inode):
        path = f"/proc/{pid}/fd/{number}"
        (namespace,) = with_inode(inode)
        assert namespace == (path, path, identity(path), False)
        with namespaces.open_netlink(namespace, NETLINK_SOCK_DIAG) as sock:
            assert sock.getsockname()[0]
        assert namespaces.resolve([namespace.name]) == [namespace._replace(explicit=True)]
    with pytest.raises(NamespaceNotFound):
        namespaces.open_netlink(namespace, NETLINK_SOCK_DIAG)


def test_walk_goes_on_inside_a_table_of_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespace_holders, "_IN_TOTAL", 100)
    walk = namespace_holders.HolderWalk()
    device = os.stat("/proc/self/ns/net").st_dev
    with program(_DESCRIPTOR) as (pid, number, inode):
        entry = namespace_holders.read_entry("/proc", pid)
        assert entry is not None
        for _round in range(7):
            walk.of_threads("/proc", [entry])
            found = walk.of_descriptors("/proc", [entry], device)
            if found:
                break
        assert found == {(device, inode): f"/proc/{pid}/fd/{number}"}
        assert _round >= 5


def test_replaced_descriptor_is_not_opened(tmp_path: Path) -> None:
    """Opening a device, or a FIFO without a reader, has effects or does not return."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    identities = [identity("/proc/self/ns/net"), (1, 1)]
    descriptor = os.open(fifo, os.O_PATH)
    try:
        for expected in identities:
            with pytest.raises(FileNotFoundError):
                namespaces.open_namespace_file(f"/proc/self/fd/{descriptor}", expected)
    finally:
        os.close(descriptor)
    with pytest.raises(NamespaceNotFound):
        namespaces.open_netlink(Namespace("x", str(fifo), (1, 1)), NETLINK_SOCK_DIAG)


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
