# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SSH against a policy: sessions live, and connections that they forward for a user die."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kernel.threats import programs, ssh_server
from tests.kernel.threats.ssh_server import SSHD, SshServer, settings, wait_for_sshd
from tests.kernel.threats.vpn import VpnHost, protections, strict_policy, wait_for_reset
from tests.support.topologies.topology import LabNamespace
from tests.support.topologies.waiting import until
from tests.support.unit_agent import Adversary, UnitAgent, line_of

LISTEN = 7000
OWN_PORT = 2222


@pytest.fixture(autouse=True)
def _require_sshd() -> None:
    reason = ssh_server.unavailable_reason()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory of root alone."""
    with tempfile.TemporaryDirectory(prefix="lns-", dir="/run") as folder:
        yield Path(folder)


@pytest.fixture
def server(vpn: VpnHost, user: Adversary, folder: Path) -> SshServer:
    folder.chmod(0o755)
    return SshServer(vpn.host, user, folder)


@dataclass
class Session:
    """An interactive session: each line that is sent comes back."""

    process: subprocess.Popen[str]

    def echoes(self, line: str) -> bool:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline() == f"{line}\n"


def session(where: LabNamespace, words: list[str]) -> Session:
    """Log in from a namespace and run cat(1)."""
    process = where.spawn(*words, "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    started = Session(process)
    assert started.echoes("logged in")
    return started


def forward(
    vpn: VpnHost, user: Adversary, words: list[str], *, root: bool = False
) -> socket.socket:
    """Tunnel through a session. Returns the server's end of the connection.

    words: of ssh(1), without the forwarding. root: root runs it.
    """
    listening = vpn.listen()
    target = f"{LISTEN}:{vpn.server4}:{listening.getsockname()[1]}"
    words = [*words[:-1], "-N", "-L", target, words[-1]]
    if root:
        vpn.host.spawn(*words)
    else:
        user.start_command(*words)

    def listens() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", LISTEN)):
            return True
        return False

    # The probe is forwarded too.
    until(lambda: vpn.host.run(listens), "the forwarded port", seconds=10)
    vpn.accept(listening)
    connected = user.start(programs.PLAIN, "127.0.0.1", str(LISTEN))
    assert line_of(connected) == "connected"
    return vpn.accept(listening)


@pytest.mark.parametrize("root", [False, True], ids=["user", "root"])
def test_sessions_live(vpn: VpnHost, server: SshServer, user: Adversary, root: bool) -> None:
    """Over an ordinary link, and by a rule that matches their connections too."""
    with UnitAgent(vpn.host, strict_policy()) as agent:
        words = server.client(vpn.host4, root=root)
        through_link = session(vpn.server, words)
        listening = vpn.listen()
        process = user.start(programs.PLAIN, vpn.server4, str(listening.getsockname()[1]))
        assert line_of(process) == "connected"
        peer = vpn.accept(listening)
        wait_for_reset(peer, vpn.start_vpn())
        agent.wait_for_pass()
        assert through_link.echoes("still here")
        assert protections(agent) == {"ssh_sessions"}


def test_session_lives_after_sshd_was_stopped(vpn: VpnHost, server: SshServer) -> None:
    with UnitAgent(vpn.host, strict_policy()) as agent:
        lasting = session(vpn.server, server.client(vpn.host4))
        # Only the daemon, as systemd stops it with KillMode=process.
        server.process.terminate()
        server.process.wait()
        vpn.start_vpn()
        until(
            lambda: protections(agent) == {"ssh_sessions"}, "the session as a protected violation"
        )
        assert lasting.echoes("still here")


@pytest.mark.parametrize("root", [False, True], ids=["user", "root"])
def test_forwarded_connection_dies(
    vpn: VpnHost, server: SshServer, user: Adversary, root: bool
) -> None:
    """Also one that a session of root opened: the local port tells it from the session."""
    with UnitAgent(vpn.host, strict_policy()):
        remote = session(vpn.server, server.client(vpn.host4))
        peer = forward(vpn, user, server.client("127.0.0.1", root=root), root=root)
        wait_for_reset(peer, vpn.start_vpn())
        assert remote.echoes("still here")


def test_forwarded_connection_lives_where_the_policy_says_so(
    vpn: VpnHost, server: SshServer, user: Adversary
) -> None:
    protect = {"ssh_forwards": True}
    with UnitAgent(vpn.host, strict_policy(protect=protect)) as agent:
        peer = forward(vpn, user, server.client("127.0.0.1"))
        vpn.start_vpn()
        until(
            lambda: "ssh_forwards" in protections(agent), "the connection as a protected violation"
        )
        peer.sendall(b"still here")


def test_server_of_the_user_is_not_protected(
    vpn: VpnHost, server: SshServer, user: Adversary
) -> None:
    """Not even one that replaces the login shell, under a policy with ssh_forwards."""
    assert SSHD is not None
    config, pid_file = user.home / "sshd_config", user.home / "pid"
    config.write_text(settings(user.home / "host", server.keys, OWN_PORT, f"PidFile {pid_file}"))
    user.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(user.home / "host"))
    try:
        user.start_command(*server.client("127.0.0.1"), f"exec {SSHD} -D -f {config}")
        wait_for_sshd(vpn.host, OWN_PORT)
        protect = {"ssh_forwards": True}
        with UnitAgent(vpn.host, strict_policy(protect=protect)):
            peer = forward(vpn, user, server.client("127.0.0.1", port=OWN_PORT))
            wait_for_reset(peer, vpn.start_vpn())
    finally:
        # It outlives the session.
        if pid_file.exists():
            os.kill(int(pid_file.read_text()), signal.SIGTERM)
