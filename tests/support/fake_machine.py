# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fake machine: sockets of the fake kernel, and a /proc with the processes that own them."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from linuxnet_sockets.guard.options import Guard, parse_guard
from linuxnet_sockets.guard.reason import Reason
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.host.namespaces import Namespace
from linuxnet_sockets.netlink import inet_diag
from linuxnet_sockets.query.find import load
from linuxnet_sockets.sockets.session import NamespaceSession
from linuxnet_sockets.sockets.socket import Socket
from tests.support.fake_bpf import FakeBpf
from tests.support.fake_kernel import FakeKernel, FakeNetlinkSocket, FakeSocket

LOCAL = "192.0.2.1"
SECOND_LOCAL = "192.0.2.129"
REMOTE = "198.51.100.7"
LOCAL6 = "2001:db8::1"
REMOTE6 = "2001:db8:1::7"

# The process that runs the operation, and its parent shell.
CALLER_PID, SHELL_PID = 900, 800

_PF_FORKNOEXEC = 0x40  # include/linux/sched.h


class FakeMachine:
    """A fake kernel and a fake /proc. By default, process 500 holds each added socket."""

    def __init__(self, base: Path) -> None:
        self.kernel = FakeKernel()
        self.bpf = FakeBpf(self.kernel)
        self.sockets = self.kernel.current
        self.sockets.link(2, "eth0", f"{LOCAL}/25", f"{LOCAL6}/64")
        self.sockets.link(3, "eth1", f"{SECOND_LOCAL}/25")
        self.proc = base / "proc"
        self.root = base / "root"
        self.files = base / "protect.d"
        self.environ: dict[str, str] = {}
        self.release = "6.18.0"
        # The mode and the owner of a file, by its path below /proc: 600/exe, 600/root/usr/sbin.
        self.file_owners: dict[str, tuple[int, int]] = {}
        self.now = 0.0
        self.process(1, comm="systemd")
        self.process(SHELL_PID, comm="bash")
        self.process(CALLER_PID, comm="python3", parent=SHELL_PID)
        self.process(500, comm="app")

    @property
    def host(self) -> Host:
        return Host(
            proc=str(self.proc),
            root=str(self.root),
            protect_directory=str(self.files),
            environ=self.environ,
            pid=CALLER_PID,
            release=self.release,
            open_netlink=self.open,
            stat=self.stat,
            monotonic=lambda: self.now,
            sleep=self.sleep,
            probe_bpf=self.bpf.probe,
            destroy_by_bpf=self.bpf.destroy,
        )

    @property
    def namespace(self) -> Namespace:
        return Namespace("current", None, self.sockets.identity)

    def open(self, namespace: Namespace, protocol: int) -> FakeNetlinkSocket:
        return self.kernel.open(namespace, protocol)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def stat(self, path: str) -> os.stat_result:
        """The status of a file below /proc: it belongs to root, unless file_owners has it."""
        name = os.path.relpath(path, self.proc)
        kind = stat.S_IFREG if name.endswith("/exe") else stat.S_IFDIR
        mode, user = self.file_owners.get(name, (0o755, 0))
        return os.stat_result((kind | mode, 1, 1, 1, user, 0, 0, 0, 0, 0))

    def process(
        self,
        pid: int,
        *,
        comm: str = "app",
        program: str | None = None,
        parent: int = 1,
        environ: Mapping[str, str] | None = None,
        user: int = 0,
        is_fork: bool = False,
    ) -> None:
        """Add a process. is_fork: it runs the program of its parent since it was forked."""
        base = self.proc / str(pid)
        (base / "fd").mkdir(parents=True)
        (base / "comm").write_text(f"{comm}\n")
        parent = parent if pid > 1 else 0
        flags = _PF_FORKNOEXEC if is_fork else 0
        (base / "stat").write_text(f"{pid} ({comm}) S {parent} 1 1 0 -1 {flags} 0\n")
        users = "\t".join([str(user)] * 4)
        (base / "status").write_text(f"Name:\t{comm}\nUid:\t{users}\nGid:\t0\n")
        variables = [f"{name}={value}" for name, value in (environ or {}).items()]
        (base / "environ").write_text("\0".join(variables))
        (base / "exe").symlink_to(program or f"/usr/bin/{comm}")

    def hold(self, pid: int, *sockets: FakeSocket) -> None:
        """Give a process a descriptor of each socket."""
        for sock in sockets:
            directory = self.proc / str(pid) / "fd"
            (directory / str(len(list(directory.iterdir())))).symlink_to(f"socket:[{sock.inode}]")

    def add(self, sock: FakeSocket, holder: int | None = 500) -> FakeSocket:
        self.sockets.add(sock)
        if holder is not None and sock.inode:
            self.hold(holder, sock)
        return sock

    def guard(self, value: object = None) -> Guard:
        return parse_guard(value, names=self.host, files=str(self.files))

    def reasons(self, guard: Guard, *sockets: FakeSocket) -> list[Reason | None]:
        """The reasons for which the guard protects these sockets, from one snapshot."""
        with NamespaceSession(self.host, self.namespace) as session:
            snapshot = session.snapshot()
            listed = {
                sock.cookie: Socket(sock, snapshot)
                for protocol in ("tcp", "udp", "udplite", "mptcp")
                for family in (2, 10)
                for sock in inet_diag.dump(
                    session.diag, protocol, family, extensions=guard.extensions
                )
            }
            decoded = [listed[sock.cookie] for sock in sockets]
            load(session, snapshot, guard.needs, decoded)
            return guard.evaluator(snapshot).evaluate(decoded)

    def reason(self, guard: Guard, sock: FakeSocket) -> Reason | None:
        return self.reasons(guard, sock)[0]

    def rule(self, sock: FakeSocket, **switches: bool) -> str | None:
        """The rule that protects a socket, under a guard with these switches."""
        reason = self.reason(self.guard(switches), sock)
        return None if reason is None else reason.rule


def connection(
    local: str = LOCAL,
    local_port: int = 40_000,
    remote: str = REMOTE,
    remote_port: int = 443,
    **fields: int,
) -> FakeSocket:
    """An established TCP connection that no rule protects. fields override its defaults."""
    return FakeSocket(
        local=local, local_port=local_port, remote=remote, remote_port=remote_port, **fields
    )
