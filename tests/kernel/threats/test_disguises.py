# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No disguise and no hiding place of a user keeps a connection that a policy forbids."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.kernel.threats import programs
from tests.kernel.threats.vpn import VpnHost, policy, wait_for_reset
from tests.support.topologies.topology import Lab
from tests.support.topologies.waiting import until
from tests.support.unit_agent import Adversary, UnitAgent, line_of

# The interpreter of the system: a copy of it runs without its virtual environment.
PYTHON = os.path.realpath("/usr/bin/python3")
SSHD = "/usr/sbin/sshd"


def copied_to(user: Adversary, name: str) -> str:
    """A copy of Python in the user's directory."""
    target = user.home / name
    shutil.copy(PYTHON, target)
    os.chown(target, user.uid, user.uid)
    return str(target)


def as_root_of_a_namespace(user: Adversary, script: str = f'exec {PYTHON} "$@"') -> tuple[str, ...]:
    """Words that run Python as root of a user namespace, with a mount namespace."""
    words = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh")
    try:
        user.run(*words, "-c", "pass")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"users cannot make namespaces here: {error.stderr}")
    return words


def mounted_over_sshd(user: Adversary) -> tuple[str, ...]:
    """Words that run Python with the path of sshd, in a mount namespace of the user."""
    if not Path(SSHD).exists():
        pytest.skip("needs sshd")
    return as_root_of_a_namespace(user, f'mount --bind {PYTHON} {SSHD} && exec {SSHD} "$@"')


Python = Callable[[Adversary], tuple[str, ...]]


@dataclass(frozen=True)
class Way:
    """A way to keep a connection.

    port: of the server. local_port: of the user. python: the words that run Python.
    """

    program: str = programs.PLAIN
    port: int = 0
    local_port: int = 0
    python: Python = lambda _user: (PYTHON, "-I")

    def start(self, vpn: VpnHost, user: Adversary) -> socket.socket:
        """Connect, and return the server's end."""
        listening = vpn.listen(self.port)
        words = [vpn.server4, str(listening.getsockname()[1])]
        if self.local_port:
            words.append(str(self.local_port))
        process = user.start(self.program, *words, python=self.python(user))
        line = line_of(process)
        if line.startswith("skip: "):
            pytest.skip(line.removeprefix("skip: "))
        assert line == "connected"
        return vpn.accept(listening)


WAYS = {
    "no way": Way(),
    "command name sshd": Way(programs.NAMED_SSHD),
    "copied program named sshd": Way(python=lambda user: (copied_to(user, "sshd"), "-I")),
    "copied program": Way(programs.NAMED_SSHD, python=lambda user: (copied_to(user, "p"), "-I")),
    "path of sshd": Way(python=mounted_over_sshd),
    "root of a user namespace": Way(programs.NAMED_SSHD, python=as_root_of_a_namespace),
    "given to root": Way(programs.GIVEN_TO_ROOT),
    "given to root of a user namespace": Way(programs.GIVEN_TO_ROOT, python=as_root_of_a_namespace),
    "not dumpable": Way(programs.NOT_DUMPABLE),
    "local port 4505": Way(local_port=4505),
    "remote port 4505": Way(port=4505),
    "remote port 4506": Way(port=4506),
    "own descriptor table": Way(programs.OWN_TABLE),
    "exited leader": Way(programs.EXITED_LEADER),
    "in flight": Way(programs.IN_FLIGHT),
    "io_uring": Way(programs.IO_URING),
}


@dataclass
class Attempts:
    """One connection of a user past the VPN for each way.

    peers: the server's ends. ports: the local ports of the user. skipped: why this machine does not
    allow a way. started: when the VPN came up (time.monotonic).
    """

    agent: UnitAgent
    peers: dict[str, socket.socket] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    started: float = 0


@pytest.fixture(scope="module")
def attempts() -> Iterator[Attempts]:
    """The VPN comes up when all connections are established."""
    with contextlib.ExitStack() as stack:
        vpn = stack.enter_context(contextlib.closing(VpnHost(stack.enter_context(Lab()))))
        user = stack.enter_context(Adversary(vpn.host))
        found = Attempts(stack.enter_context(UnitAgent(vpn.host, policy())))
        for name, way in WAYS.items():
            try:
                found.peers[name] = way.start(vpn, user)
                found.ports[name] = found.peers[name].getpeername()[1]
            except pytest.skip.Exception as reason:
                found.skipped[name] = str(reason)
        found.started = vpn.start_vpn()
        yield found


@pytest.mark.parametrize("way", WAYS)
def test_connection_past_the_vpn_dies(attempts: Attempts, way: str) -> None:
    if way in attempts.skipped:
        pytest.skip(attempts.skipped[way])
    wait_for_reset(attempts.peers[way], attempts.started)


@pytest.mark.parametrize("way", ["own descriptor table", "exited leader"])
def test_log_names_the_process_of_a_socket_of_a_thread(attempts: Attempts, way: str) -> None:
    """The agent, with the rights of its unit, compares the descriptor tables of threads."""
    local = f"local={VpnHost.host4}:{attempts.ports[way]}"
    (line,) = until(lambda: attempts.agent.log_lines("destroyed ", local), "the line in the log")
    assert " pid=" in line
