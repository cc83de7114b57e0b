# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine that goes through the owner, on the fake kernel, with borrowing made up."""

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

UNGUARDED = {"listeners": False, "unconnected": False, "kernel": False}
ULP_INFO = 19


class Owners:
    """Processes of the fake machine that lend what their descriptors link to.

    before: called with each descriptor that is asked for. answers: by cookie, what disconnecting
    says; the last answer stands.
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
        # An MPTCP connection's subflows have its inode, and no descriptor of their own.
        for sock in sorted(self.machine.sockets.sockets, key=lambda each: -each.protocol):
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
                for each in list(space.sockets):
                    if each.inode == self._sock.inode:
                        space.remove(each)
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


def told(report: Report) -> dict[int, tuple[str, str | None, str | None]]:
    """(outcome, engine, rule) by cookie."""
    return {
        each.socket.cookie: (each.outcome, each.engine, each.reason and each.reason.rule)
        for each in report.results
    }


def both_ways(
    machine: FakeMachine, owners: Owners, engine: str, match: Any = None
) -> dict[int, tuple[str, str | None, str | None]]:
    """What check mode says, which touches nothing, and which then comes true."""
    predicted = told(run(machine, engine, match, check=True))
    assert owners.disconnected == []
    assert machine.sockets.destroyed == []
    assert told(run(machine, engine, match)) == predicted
    return predicted


def test_kernel_without_destroy(machine: FakeMachine, owners: Owners) -> None:
    machine.kernel.abilities.destroys = False
    held = machine.add(connection())
    orphan = machine.add(connection(local_port=2, inode=0))
    waits = machine.add(connection(local_port=3, state=TIME_WAIT))
    assert both_ways(machine, owners, "netlink") == {
        each.cookie: ("kernel_without_destroy", "netlink", None) for each in (held, orphan, waits)
    }
    assert both_ways(machine, owners, "auto") == {
        held.cookie: ("destroyed", "pidfd", None),
        # What netlink said stands, and why the other could not help.
        orphan.cookie: ("kernel_without_destroy", "netlink", "no_owner"),
        waits.cookie: ("kernel_without_destroy", "netlink", "no_owner"),
    }
    assert owners.disconnected == [held.cookie]


def test_pidfd_alone_names_what_has_no_owner(machine: FakeMachine, owners: Owners) -> None:
    orphan = machine.add(connection(inode=0))
    unseen = machine.add(connection(local_port=2), holder=None)
    assert both_ways(machine, owners, "pidfd") == {
        orphan.cookie: ("survived", None, "no_owner"),
        unseen.cookie: ("survived", None, "no_owner"),
    }


def test_auto_takes_netlink_where_it_can(machine: FakeMachine, owners: Owners) -> None:
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
def test_datagrams(machine: FakeMachine, owners: Owners, fields: Any, outcome: str) -> None:
    sock = machine.add(FakeSocket(local=LOCAL, local_port=9, **fields))
    assert both_ways(machine, owners, "pidfd")[sock.cookie][0] == outcome


@pytest.mark.parametrize("number", [errno.ESRCH, errno.EPERM, errno.EMFILE])
def test_next_holder_is_asked_where_one_is_gone_or_refuses(
    machine: FakeMachine, owners: Owners, number: int
) -> None:
    sock = machine.add(connection())
    machine.process(501)
    machine.hold(501, sock)

    def refuse(descriptor: Descriptor) -> None:
        if descriptor.pid == 500:
            raise OSError(number, os.strerror(number))

    owners.before = refuse
    assert told(run(machine, "pidfd"))[sock.cookie][0] == "destroyed"
    assert [each.pid for each in owners.lent] == [500, 501]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES])
def test_nobody_lends(machine: FakeMachine, owners: Owners, number: int) -> None:
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
def test_what_the_kernel_answers(
    machine: FakeMachine, owners: Owners, answers: list[int], outcome: str
) -> None:
    sock, other = machine.add(connection()), machine.add(connection(local_port=2))
    owners.answers[sock.cookie] = answers
    outcomes = told(run(machine, "pidfd"))
    assert outcomes[sock.cookie] == (outcome, "pidfd", None)
    assert outcomes[other.cookie] == ("destroyed", "pidfd", None)
    assert machine.now < 1


def test_many_that_are_busy_are_waited_for_together(machine: FakeMachine, owners: Owners) -> None:
    for port in range(1, 101):
        owners.answers[machine.add(connection(local_port=port)).cookie] = [errno.EBUSY]
    assert run(machine, "pidfd").counts == {"busy": 100}
    assert machine.now < 1


def test_another_remote_or_local_end_is_another_connection(
    machine: FakeMachine, owners: Owners
) -> None:
    changes: list[Callable[[FakeSocket], None]] = [
        lambda sock: setattr(sock, "remote_port", 444),
        lambda sock: setattr(sock, "dst", bytes([198, 51, 100, 8])),
        lambda sock: setattr(sock, "local_port", sock.local_port + 1),
        lambda sock: setattr(sock, "state", BOUND_INACTIVE),
    ]
    for change in changes:
        machine.sockets.sockets.clear()
        sock = machine.add(connection())

        def meanwhile(
            _descriptor: Descriptor,
            sock: FakeSocket = sock,
            change: Callable[[FakeSocket], None] = change,
        ) -> None:
            owners.before = lambda _descriptor: None
            change(sock)

        owners.before = meanwhile
        assert told(run(machine, "pidfd"))[sock.cookie][0] == "already_gone"
    assert owners.disconnected == []


def test_another_socket_with_the_same_ends(machine: FakeMachine, owners: Owners) -> None:
    """The owner connected anew, from the same port to the same server, under the same number."""
    sock = machine.add(connection())

    def meanwhile(descriptor: Descriptor) -> None:
        owners.before = lambda _descriptor: None
        machine.sockets.remove(sock)
        anew = machine.sockets.add(connection())
        link = machine.proc / str(descriptor.pid) / "fd" / str(descriptor.number)
        link.unlink()
        link.symlink_to(f"socket:[{anew.inode}]")

    owners.before = meanwhile
    assert told(run(machine, "pidfd")) == {sock.cookie: ("already_gone", "pidfd", None)}
    assert owners.disconnected == []


def test_raw_socket_that_was_connected_elsewhere(machine: FakeMachine, owners: Owners) -> None:
    machine.kernel.abilities.handlers |= {RAW}
    sock = machine.add(FakeSocket(protocol=RAW, local=LOCAL, remote=REMOTE, raw_protocol=1))
    match = {"protocol": "raw", "remote": REMOTE}
    assert both_ways(machine, owners, "pidfd", match)[sock.cookie][0] == "disconnected"
    again = machine.add(FakeSocket(protocol=RAW, local=LOCAL, remote=REMOTE, raw_protocol=1))
    looks = 0

    def meanwhile(kind: int, payload: bytes) -> None:
        nonlocal looks
        if kind == 20 and payload[1] == 255:
            looks += 1
            if looks == 2:
                again.dst = bytes([198, 51, 100, 8])

    machine.sockets.before_request = meanwhile
    assert told(run(machine, "pidfd", match))[again.cookie][0] == "already_gone"
    assert owners.disconnected == [sock.cookie]


def test_bound_and_inactive(machine: FakeMachine, owners: Owners) -> None:
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


def test_subflows_go_with_their_connection_and_never_alone(
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
        each.cookie: ("destroyed", "pidfd", None) for each in parts
    }
    assert owners.disconnected == [whole.cookie]
    assert machine.sockets.sockets == [other]


@pytest.mark.parametrize("engine", ["auto", "pidfd"])
def test_old_kernel_that_may_not_end_all_of_a_connection(
    machine: FakeMachine, owners: Owners, engine: str
) -> None:
    machine.release = "5.16.20"
    parts = [
        machine.add(_mptcp(7, inode=70)),
        machine.add(_subflow(7, inode=70), holder=None),
    ]
    told_of = both_ways(machine, owners, engine)
    assert {each.cookie for each in parts} == set(told_of)
    for outcome, taken_by, rule in told_of.values():
        assert (outcome, rule) == ("unsupported_protocol", "kernel_too_old")
        assert taken_by != "pidfd"
    assert owners.lent == []


def test_subflow_of_a_connection_that_is_not_listed(machine: FakeMachine, owners: Owners) -> None:
    machine.kernel.abilities.handlers -= {MPTCP}
    (machine.proc / "sys" / "net" / "mptcp").mkdir(parents=True)
    sock = machine.add(_subflow(7))
    for engine in ("pidfd", "auto"):
        assert both_ways(machine, owners, engine, {"remote_port": 443}) == {
            sock.cookie: ("unsupported_protocol", None, "subflow")
        }


@pytest.mark.parametrize("protocol", ["tcp", "mptcp"])
def test_connection_of_which_a_part_is_protected(
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


def test_joined_subflow_with_an_inode_of_its_own(machine: FakeMachine, owners: Owners) -> None:
    """Nobody holds it, and yet its connection is no kernel's."""
    whole = machine.add(_mptcp(7, inode=70))
    first = machine.add(_subflow(7, inode=70), holder=None)
    machine.add(_subflow(7, inode=71, local=SECOND_LOCAL), holder=None)
    match = {"local": LOCAL, "remote_port": 443}
    report = run(machine, "auto", match, protect={"kernel": True})
    assert told(report) == {first.cookie: ("destroyed", "pidfd", None)}
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


def test_no_such_engine() -> None:
    with pytest.raises(EngineUnavailable) as caught:
        registry.engines_named("magic")
    assert caught.value.engine == "magic"
    assert "auto, netlink, pidfd" in caught.value.reason


def test_engines_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "available", lambda: True)
    named = {name: [each.name for each in registry.engines_named(name)] for name in registry.NAMES}
    assert named == {"auto": ["netlink", "pidfd"], "netlink": ["netlink"], "pidfd": ["pidfd"]}
