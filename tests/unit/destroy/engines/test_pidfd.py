# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine pidfd on the fake kernel, with fake descriptors."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from linuxnet_sockets.destroy.command import destroy
from linuxnet_sockets.destroy.engines import registry
from linuxnet_sockets.destroy.engines.pidfd import PidfdEngine
from linuxnet_sockets.destroy.engines.sock_destroy import NetlinkEngine
from linuxnet_sockets.destroy.model import DestroyOptions, Report
from linuxnet_sockets.errors import EngineUnavailable
from linuxnet_sockets.host.pidfd import Descriptor, End
from linuxnet_sockets.selector.parse import parse_selector
from tests.support.fake_kernel import FakeSocket
from tests.support.fake_kernel.model import (
    BOUND_INACTIVE,
    CLOSE,
    MPTCP,
    RAW,
    TIME_WAIT,
    UDP,
    UDPLITE,
)
from tests.support.fake_machine import LOCAL, REMOTE, SECOND_LOCAL, FakeMachine, connection

UNGUARDED = {"listeners": False, "unconnected": False, "shared_port": False, "kernel": False}
ULP_INFO = 19


class Owners:
    """Processes of the fake machine whose descriptors can be duplicated.

    before: called with each requested descriptor. answers: the errno values of disconnecting, by
    cookie; the last one repeats.
    """

    def __init__(self, machine: FakeMachine) -> None:
        self.machine = machine
        self.before: Callable[[Descriptor], None] = lambda _descriptor: None
        self.answers: dict[int, list[int]] = {}
        self.disconnected: list[int] = []
        self.lent: list[Descriptor] = []

    def borrow(self, descriptor: Descriptor) -> Any:
        self.lent.append(descriptor)
        self.before(descriptor)
        path = self.machine.proc / str(descriptor.pid) / "fd" / str(descriptor.number)
        try:
            link = os.readlink(path)
        except FileNotFoundError:
            raise OSError(errno.EBADF, "no such descriptor") from None
        # MPTCP subflows have the inode of their connection, and no descriptor.
        for sock in sorted(self.machine.sockets.sockets, key=lambda sock: -sock.protocol):
            if link == f"socket:[{sock.inode}]":
                return Lent(self, sock)
        raise OSError(errno.ENOTSOCK, "no socket")


class Lent:
    def __init__(self, owners: Owners, sock: FakeSocket) -> None:
        self._owners = owners
        self._sock = sock

    def __enter__(self) -> Lent:
        return self

    def __exit__(self, *_exception: object) -> None:
        pass

    def cookie(self) -> int:
        return self._sock.cookie

    def tcp_state(self) -> int:
        return CLOSE if self._sock.state == BOUND_INACTIVE else self._sock.state

    def local(self) -> End:
        return End(self._sock.src.ljust(16, b"\0"), self._sock.local_port)

    def remote(self, family: int) -> End | None:
        assert family == self._sock.family
        if not self._sock.remote_port:
            return None
        return End(self._sock.dst.ljust(16, b"\0"), self._sock.remote_port)

    def disconnect(self) -> int:
        answers = self._owners.answers.get(self._sock.cookie, [0])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer == 0:
            self._owners.disconnected.append(self._sock.cookie)
            space = self._owners.machine.sockets
            if self._sock.protocol in (UDP, UDPLITE, RAW) and self._sock.explicit_port:
                self._sock.state, self._sock.remote_port = CLOSE, 0
                self._sock.dst = bytes(len(self._sock.dst))
            else:
                for sock in list(space.sockets):
                    if sock.inode == self._sock.inode:
                        space.remove(sock)
        return answer


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    return FakeMachine(tmp_path)


@pytest.fixture
def owners(machine: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> Owners:
    owners = Owners(machine)
    engines = {
        "netlink": (NetlinkEngine(),),
        "pidfd": (PidfdEngine(owners.borrow),),
        "auto": (NetlinkEngine(), PidfdEngine(owners.borrow)),
    }
    monkeypatch.setattr(registry, "engines_named", engines.__getitem__)
    return owners


def run(
    machine: FakeMachine,
    engine: str,
    match: Any = None,
    *,
    protect: Any = None,
    check: bool = False,
) -> Report:
    match = match or {"protocol": ["tcp", "udp", "udplite", "mptcp"], "state": "all"}
    selector = parse_selector(match, names=machine.host, role="destroy")
    guard = machine.guard({**UNGUARDED, **(protect or {})})
    options = DestroyOptions(guard, engine=engine, check=check)
    return destroy(machine.host, selector, [machine.namespace], options)


def results_of(report: Report) -> dict[int, tuple[str, str | None, str | None]]:
    """(outcome, engine, rule) by cookie."""
    return {
        result.socket.cookie: (
            result.outcome,
            result.engine,
            result.reason and result.reason.rule,
        )
        for result in report.results
    }


def both_ways(
    machine: FakeMachine, owners: Owners, engine: str, match: Any = None
) -> dict[int, tuple[str, str | None, str | None]]:
    """Run in check mode, which must change nothing, then for real, with the same results."""
    predicted = results_of(run(machine, engine, match, check=True))
    assert owners.disconnected == []
    assert machine.sockets.destroyed == []
    assert results_of(run(machine, engine, match)) == predicted
    return predicted


def test_kernel_without_destroy(machine: FakeMachine, owners: Owners) -> None:
    machine.kernel.abilities.destroys = False
    held = machine.add(connection())
    orphan = machine.add(connection(local_port=2, inode=0))
    waits = machine.add(connection(local_port=3, state=TIME_WAIT))
    assert both_ways(machine, owners, "netlink") == {
        sock.cookie: ("kernel_without_destroy", "netlink", None) for sock in (held, orphan, waits)
    }
    assert both_ways(machine, owners, "auto") == {
        held.cookie: ("destroyed", "pidfd", None),
        # The outcome of netlink, with the reason of pidfd.
        orphan.cookie: ("kernel_without_destroy", "netlink", "no_owner"),
        waits.cookie: ("kernel_without_destroy", "netlink", "no_owner"),
    }
    assert owners.disconnected == [held.cookie]


def test_pidfd_alone_reports_sockets_without_holder(machine: FakeMachine, owners: Owners) -> None:
    orphan = machine.add(connection(inode=0))
    unseen = machine.add(connection(local_port=2), holder=None)
    assert both_ways(machine, owners, "pidfd") == {
        orphan.cookie: ("survived", None, "no_owner"),
        unseen.cookie: ("survived", None, "no_owner"),
    }


def test_auto_prefers_netlink(machine: FakeMachine, owners: Owners) -> None:
    held = machine.add(connection())
    assert both_ways(machine, owners, "auto") == {held.cookie: ("destroyed", "netlink", None)}
    assert owners.lent == []


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({"protocol": UDP, "remote": REMOTE, "remote_port": 53}, "disconnected"),
        (
            {"protocol": UDP, "remote": REMOTE, "remote_port": 53, "explicit_port": False},
            "destroyed",
        ),
        ({"protocol": UDPLITE, "remote": REMOTE, "remote_port": 53}, "disconnected"),
        ({"protocol": UDP, "state": CLOSE}, "already_gone"),
        ({"protocol": UDPLITE, "state": CLOSE}, "already_gone"),
    ],
    ids=["explicit", "autobound", "udplite", "no-remote", "udplite-no-remote"],
)
def test_datagram_sockets(machine: FakeMachine, owners: Owners, fields: Any, outcome: str) -> None:
    sock = machine.add(FakeSocket(local=LOCAL, local_port=9, **fields))
    assert both_ways(machine, owners, "pidfd")[sock.cookie][0] == outcome


@pytest.mark.parametrize("number", [errno.ESRCH, errno.EPERM, errno.EMFILE])
def test_next_holder_is_tried_after_a_failure(
    machine: FakeMachine, owners: Owners, number: int
) -> None:
    sock = machine.add(connection())
    machine.process(501)
    machine.hold(501, sock)

    def refuse(descriptor: Descriptor) -> None:
        if descriptor.pid == 500:
            raise OSError(number, os.strerror(number))

    owners.before = refuse
    assert results_of(run(machine, "pidfd"))[sock.cookie][0] == "destroyed"
    assert [descriptor.pid for descriptor in owners.lent] == [500, 501]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES])
def test_descriptor_that_cannot_be_duplicated(
    machine: FakeMachine, owners: Owners, number: int
) -> None:
    sock = machine.add(connection())

    def refuse(_descriptor: Descriptor) -> None:
        raise OSError(number, os.strerror(number))

    owners.before = refuse
    assert both_ways(machine, owners, "pidfd") == {sock.cookie: ("not_permitted", "pidfd", None)}


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ([errno.EBUSY], "busy"),
        ([errno.EBUSY, errno.EBUSY, 0], "destroyed"),
        ([errno.EACCES], "not_permitted"),
        ([errno.EOPNOTSUPP], "unsupported_protocol"),
        ([errno.EINVAL], "survived"),
    ],
)
def test_answers_of_the_kernel(
    machine: FakeMachine, owners: Owners, answers: list[int], outcome: str
) -> None:
    sock, other = machine.add(connection()), machine.add(connection(local_port=2))
    owners.answers[sock.cookie] = answers
    outcomes = results_of(run(machine, "pidfd"))
    assert outcomes[sock.cookie] == (outcome, "pidfd", None)
    assert outcomes[other.cookie] == ("destroyed", "pidfd", None)
    assert machine.now < 1


def test_busy_sockets_are_retried_together(machine: FakeMachine, owners: Owners) -> None:
    for port in range(1, 101):
        owners.answers[machine.add(connection(local_port=port)).cookie] = [errno.EBUSY]
    assert run(machine, "pidfd").counts == {"busy": 100}
    assert machine.now < 1


def test_changed_endpoint_is_another_connection(machine: FakeMachine, owners: Owners) -> None:
    changes: list[Callable[[FakeSocket], None]] = [
        lambda sock: setattr(sock, "remote_port", 444),
        lambda sock: setattr(sock, "dst", bytes([198, 51, 100, 8])),
        lambda sock: setattr(sock, "local_port", sock.local_port + 1),
        lambda sock: setattr(sock, "state", BOUND_INACTIVE),
    ]
    for change in changes:
        machine.sockets.sockets.clear()
        sock = machine.add(connection())

        def change_socket(
            _descriptor: Descriptor,
            sock: FakeSocket = sock,
            change: Callable[[FakeSocket], None] = change,
        ) -> None:
            owners.before = lambda _descriptor: None
            change(sock)

        owners.before = change_socket
        assert results_of(run(machine, "pidfd"))[sock.cookie][0] == "already_gone"
    assert owners.disconnected == []


def test_another_socket_with_the_same_endpoints(machine: FakeMachine, owners: Owners) -> None:
    """The holder reconnected from the same port to the same server; the number is the same."""
    sock = machine.add(connection())

    def change_socket(descriptor: Descriptor) -> None:
        owners.before = lambda _descriptor: None
        machine.sockets.remove(sock)
        successor = machine.sockets.add(connection())
        link = machine.proc / str(descriptor.pid) / "fd" / str(descriptor.number)
        link.unlink()
        link.symlink_to(f"socket:[{successor.inode}]")

    owners.before = change_socket
    assert results_of(run(machine, "pidfd")) == {sock.cookie: ("already_gone", "pidfd", None)}
    assert owners.disconnected == []


def test_raw_socket_that_connects_elsewhere(machine: FakeMachine, owners: Owners) -> None:
    machine.kernel.abilities.handlers |= {RAW}
    sock = machine.add(FakeSocket(protocol=RAW, local=LOCAL, remote=REMOTE, raw_protocol=1))
    match = {"protocol": "raw", "remote": REMOTE}
    assert both_ways(machine, owners, "pidfd", match)[sock.cookie][0] == "disconnected"
    again = machine.add(FakeSocket(protocol=RAW, local=LOCAL, remote=REMOTE, raw_protocol=1))
    dumps = 0

    def change_socket(kind: int, payload: bytes) -> None:
        nonlocal dumps
        if kind == 20 and payload[1] == 255:
            dumps += 1
            if dumps == 2:
                again.dst = bytes([198, 51, 100, 8])

    machine.sockets.before_request = change_socket
    assert results_of(run(machine, "pidfd", match))[again.cookie][0] == "already_gone"
    assert owners.disconnected == [sock.cookie]


def test_bound_inactive_socket(machine: FakeMachine, owners: Owners) -> None:
    sock = machine.add(FakeSocket(local=LOCAL, local_port=5, state=BOUND_INACTIVE))
    assert both_ways(machine, owners, "pidfd", {"state": "bound-inactive"}) == {
        sock.cookie: ("survived", None, "no_connection")
    }


# MPTCP.


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", len(value) + 4, kind) + value + bytes(-len(value) % 4)


def _subflow(token: int, **fields: Any) -> FakeSocket:
    """INET_ULP_INFO_NAME, INET_ULP_INFO_MPTCP with MPTCP_SUBFLOW_ATTR_TOKEN_LOC."""
    ulp = _attribute(1, b"mptcp\0") + _attribute(3, _attribute(2, struct.pack("=I", token)))
    return connection(ulp="mptcp", attributes={ULP_INFO: ulp}, **fields)


def _mptcp(token: int, **fields: Any) -> FakeSocket:
    """struct mptcp_info: six bytes, two of padding, flags, token."""
    info = bytes(8) + struct.pack("=II", 0, token)
    return connection(protocol=MPTCP, attributes={2: info}, **fields)


def test_subflows_are_destroyed_with_their_connection_only(
    machine: FakeMachine, owners: Owners
) -> None:
    whole = machine.add(_mptcp(7, inode=70))
    parts = [
        machine.add(_subflow(7, inode=70, local_port=port), holder=None) for port in (40_000, 2)
    ]
    other = machine.add(_mptcp(8, inode=80, local_port=3, remote_port=80))
    match = {"remote_port": 443}
    assert set(both_ways(machine, owners, "netlink", match).values()) == {
        ("unsupported_protocol", None, None)
    }
    assert both_ways(machine, owners, "auto", match) == {
        part.cookie: ("destroyed", "pidfd", None) for part in parts
    }
    assert owners.disconnected == [whole.cookie]
    assert machine.sockets.sockets == [other]


@pytest.mark.parametrize("engine", ["auto", "pidfd"])
def test_old_kernel_that_may_leave_subflows(
    machine: FakeMachine, owners: Owners, engine: str
) -> None:
    machine.release = "5.16.20"
    parts = [
        machine.add(_mptcp(7, inode=70)),
        machine.add(_subflow(7, inode=70), holder=None),
    ]
    results = both_ways(machine, owners, engine)
    assert {part.cookie for part in parts} == set(results)
    for outcome, handled_by, rule in results.values():
        assert (outcome, rule) == ("unsupported_protocol", "kernel_too_old")
        assert handled_by != "pidfd"
    assert owners.lent == []


def test_subflow_without_a_listed_connection(machine: FakeMachine, owners: Owners) -> None:
    machine.kernel.abilities.handlers -= {MPTCP}
    (machine.proc / "sys" / "net" / "mptcp").mkdir(parents=True)
    sock = machine.add(_subflow(7))
    for engine in ("pidfd", "auto"):
        assert both_ways(machine, owners, engine, {"remote_port": 443}) == {
            sock.cookie: ("unsupported_protocol", None, "subflow")
        }


@pytest.mark.parametrize("protocol", ["tcp", "mptcp"])
def test_connection_with_a_protected_part_is_protected(
    machine: FakeMachine, owners: Owners, protocol: str
) -> None:
    machine.add(_mptcp(7, inode=70))
    machine.add(_subflow(7, inode=70), holder=None)
    machine.add(_subflow(7, inode=70, local=SECOND_LOCAL, local_port=2), holder=None)
    protect = {"selectors": [{"local": SECOND_LOCAL}]}
    match = {"protocol": protocol, "local": LOCAL, "remote_port": 443}
    for engine in ("pidfd", "auto"):
        (result,) = run(machine, engine, match, protect=protect).results
        assert result.outcome == "protected"
        assert result.reason is not None
        assert result.reason.rule == "selector"
    assert owners.lent == []


def test_joined_subflow_with_its_own_inode(machine: FakeMachine, owners: Owners) -> None:
    """No process holds the subflow, but its connection is not the kernel's."""
    whole = machine.add(_mptcp(7, inode=70))
    first = machine.add(_subflow(7, inode=70), holder=None)
    joined = machine.add(_subflow(7, inode=71, local=SECOND_LOCAL), holder=None)
    report = run(machine, "auto", {"remote_port": 443}, protect={"kernel": True})
    assert results_of(report) == {
        first.cookie: ("destroyed", "pidfd", None),
        joined.cookie: ("protected", None, "kernel"),
    }
    assert owners.disconnected == [whole.cookie]


# The registry.


def test_kernel_without_pidfd_getfd(monkeypatch: pytest.MonkeyPatch, machine: FakeMachine) -> None:
    monkeypatch.setattr(registry, "available", lambda: False)
    machine.add(connection())
    with pytest.raises(EngineUnavailable) as caught:
        run(machine, "pidfd")
    assert caught.value.engine == "pidfd"
    assert len(machine.sockets.sockets) == 1
    report = run(machine, "auto")
    assert (report.counts, report.engines) == ({"destroyed": 1}, ("netlink",))


def test_unknown_engine_raises() -> None:
    with pytest.raises(EngineUnavailable) as caught:
        registry.engines_named("magic")
    assert caught.value.engine == "magic"
    assert "auto, netlink, bpf, pidfd" in caught.value.reason


def test_engines_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "available", lambda: True)
    named = {
        name: [engine.name for engine in registry.engines_named(name)] for name in registry.NAMES
    }
    assert named == {
        "auto": ["netlink", "bpf", "pidfd"],
        "netlink": ["netlink"],
        "bpf": ["bpf"],
        "pidfd": ["pidfd"],
    }
