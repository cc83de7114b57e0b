# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connections of a Salt minion and a Salt master are protected, not those to their ports."""

from __future__ import annotations

import pytest

from linuxnet_sockets.host.host import Host
from tests.support.fake_kernel import FakeSocket
from tests.support.fake_kernel.model import ESTABLISHED, LISTEN, TIME_WAIT, UDP
from tests.support.fake_machine import LOCAL, REMOTE, FakeMachine, connection

USER, SALT = 1500, 450


@pytest.fixture(autouse=True)
def _user_salt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Host, "user_id", lambda _host, name: {"salt": SALT}.get(name))


@pytest.mark.parametrize("ports", [(40_000, 4505), (40_000, 4506), (4506, 40_000)])
@pytest.mark.parametrize("user", [0, SALT])
def test_salt_is_protected(machine: FakeMachine, ports: tuple[int, int], user: int) -> None:
    local_port, remote_port = ports
    sock = machine.add(connection(LOCAL, local_port, REMOTE, remote_port, uid=user))
    reason = machine.reason(machine.guard(), sock)
    assert reason is not None
    assert reason.rule == "control_connection"
    assert str(min(ports)) in str(reason.detail)
    assert machine.rule(sock, control_connection=False) is None


def test_listening_socket_of_a_master_is_protected(machine: FakeMachine) -> None:
    sock = machine.add(connection(LOCAL, 4505, "0.0.0.0", 0, uid=SALT, state=LISTEN))
    assert machine.rule(sock, listeners=False) == "control_connection"


@pytest.mark.parametrize("ports", [(40_000, 4505), (40_000, 4506), (4505, 443)])
def test_port_alone_protects_nothing(machine: FakeMachine, ports: tuple[int, int]) -> None:
    local_port, remote_port = ports
    sock = machine.add(connection(LOCAL, local_port, REMOTE, remote_port, uid=USER))
    assert machine.rule(sock) is None


def test_other_ports_and_protocols_are_not_salt(machine: FakeMachine) -> None:
    assert machine.rule(machine.add(connection(remote_port=4507))) is None
    udp = FakeSocket(protocol=UDP, local=LOCAL, local_port=9, remote=REMOTE, remote_port=4505)
    assert machine.rule(machine.add(udp)) is None


def test_socket_without_owner_is_not_salt(machine: FakeMachine) -> None:
    """The kernel reports it as root's, whose ever it was: TIME_WAIT, and orphans before 6.18."""
    for state in (TIME_WAIT, ESTABLISHED):
        sock = machine.add(connection(remote_port=4505, inode=0, state=state), holder=None)
        assert machine.rule(sock) is None


def test_forwarded_connection_is_not_salt(machine: FakeMachine) -> None:
    """A session of root, or of an old dropbear, opened it for its user."""
    machine.process(600, program="/usr/sbin/sshd")
    machine.add(connection(LOCAL, 22, "0.0.0.0", 0, state=LISTEN), holder=600)
    machine.process(601, program="/usr/sbin/sshd", parent=600)
    machine.add(connection(LOCAL, 22, REMOTE, 50_000), holder=601)
    sock = machine.add(connection(remote_port=4506), holder=601)
    assert machine.rule(sock) == "ssh_forwards"
    assert machine.rule(sock, ssh_forwards=False) is None
    assert machine.rule(sock, ssh_forwards=False, ssh_sessions=False) is None


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("minion", "# master_port: 1\nmaster_port: 5506\n"),
        ("minion.d/ports.conf", "publish_port:  5506\n"),
        ("master", "ret_port: 5506 # of clients\n"),
    ],
)
def test_configured_ports(machine: FakeMachine, file: str, text: str) -> None:
    sock = machine.add(connection(remote_port=5506))
    assert machine.rule(sock) is None
    path = machine.root / "etc" / "salt" / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert machine.rule(sock) == "control_connection"
    assert machine.rule(machine.add(connection(remote_port=1))) is None
    assert machine.rule(machine.add(connection(remote_port=4505))) == "control_connection"
    assert machine.rule(machine.add(connection(local_port=2, remote_port=5506, uid=USER))) is None
