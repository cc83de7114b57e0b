# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel filters accept every matching socket, also if they are split or widened."""

from __future__ import annotations

import ipaddress
import random
import socket
import timeit
from collections.abc import Callable
from typing import Any

import pytest

from linuxnet_sockets.errors import BytecodeTooLong
from linuxnet_sockets.netlink.bytecode import MAX_LENGTH
from linuxnet_sockets.selector.kernel_filter import MAX_PROGRAMS
from linuxnet_sockets.selector.parse import parse_selector
from linuxnet_sockets.sockets.socket import Socket
from tests.support.fake_kernel import bytecode
from tests.support.sample_sockets import (
    SampleNames,
    SampleSnapshot,
    decoded,
    facts,
    inet_diag_address,
)


def _programs(selector: Any, protocol: str = "tcp", family: str = "inet", **options: Any) -> Any:
    snapshot: Any = SampleSnapshot()
    return parse_selector(selector, names=SampleNames()).programs(
        snapshot, protocol, family, **options
    )


def _entry(remote: str, port: int = 443, local: str = "10.0.0.1") -> bytecode.Entry:
    return bytecode.Entry(
        int(socket.AF_INET),
        inet_diag_address("inet", local),
        inet_diag_address("inet", remote),
        40000,
        port,
    )


def _accepted(programs: list[bytes], entry: bytecode.Entry) -> bool:
    return any(bytecode.run(program, entry) for program in programs)


def _hosts(count: int) -> list[str]:
    return [str(ipaddress.IPv4Address(0x0B000000 + 3 * number)) for number in range(count)]


@pytest.mark.parametrize("count", [1, 100, 3270, 3500, 10_000])
def test_thousands_of_addresses_are_split_into_programs(count: int) -> None:
    hosts = _hosts(count)
    programs = _programs({"remote": hosts, "remote_port": 443})
    assert len(programs) == -(-count * 20 // MAX_LENGTH)
    for program in programs:
        assert len(program) <= MAX_LENGTH
        assert bytecode.audit(program, privileged=False) == 0
    for host in random.Random(7).sample(hosts, min(count, 20)):
        assert _accepted(programs, _entry(host))
        assert not _accepted(programs, _entry(host, port=444))
    assert not _accepted(programs, _entry("11.255.0.1"))


def test_too_many_addresses_are_not_filtered() -> None:
    assert _programs({"remote": _hosts(MAX_PROGRAMS * 3500)}) == [b""]


def test_thousands_of_addresses_under_not_accept_more() -> None:
    hosts = _hosts(5000)
    programs = _programs({"not": {"remote": hosts}, "local": "10.0.0.0/8"})
    assert [bytecode.audit(program, privileged=False) for program in programs] == [0]
    assert _accepted(programs, _entry("11.255.0.1"))
    assert not _accepted(programs, _entry("11.255.0.1", local="12.0.0.1"))
    snapshot: Any = SampleSnapshot()
    test = parse_selector({"not": {"remote": hosts}}, names=SampleNames()).bind(snapshot)
    for host in hosts[::100]:
        assert test(decoded(facts(remote=host), snapshot)) is False


def test_autobound_is_never_widened() -> None:
    assert len(_programs({"remote": _hosts(3000), "expression": "autobound"})) == 1
    with pytest.raises(BytecodeTooLong):
        _programs({"remote": _hosts(4000), "expression": "autobound"})


def test_programs_that_reject_or_accept_all() -> None:
    assert _programs({"protocol": "udp"}) == []
    assert _programs({"remote": "2001:db8::/32"}) == []
    assert _programs({"local": "interface:nowhere0"}) == []
    assert _programs({}) == [b""]
    assert _programs({"user": "alice"}) == [b""]
    assert _programs({"local_port": "0-65535"}) == [b""]
    assert _programs({"any": [{"user": "alice"}, {"local_port": 22}]}) == [b""]


def test_old_kernels_get_no_exact_ops() -> None:
    selector = {"local_port": [22, "80-90"], "remote_port": 443, "cgroup": "/a"}
    new = {bytecode.S_EQ, bytecode.D_EQ, bytecode.CGROUP_COND}
    (newest,) = _programs(selector)
    assert bytecode.audit(newest, privileged=False) == 0
    assert bytecode.audit(newest, privileged=False, unknown=frozenset(new)) != 0
    (older,) = _programs(selector, exact_ops=False)
    assert bytecode.audit(older, privileged=False, unknown=frozenset(new)) == 0


def test_address_gone_filters_assigned_addresses() -> None:
    (program,) = _programs({"stranded": "address_gone"})
    assert bytecode.audit(program, privileged=False) == 0
    assert [
        bytecode.run(program, _entry("11.0.0.1", local=local))
        for local in ("10.0.0.1", "10.1.0.1", "127.0.0.1", "10.0.0.2")
    ] == [False, False, False, True]
    (program,) = _programs({"stranded": "address_gone"}, family="inet6")
    assert bytecode.audit(program, privileged=False) == 0
    held = ("2001:db8::1", "10.0.0.1")
    gone = ("2001:db8::2", "10.0.0.2", "fe80::1")
    sources = [inet_diag_address("inet6", each) for each in (*held, *gone)]
    entries = [
        bytecode.Entry(
            int(socket.AF_INET6), source, inet_diag_address("inet6", "2001:db8::9"), 40000, 443
        )
        for source in sources
    ]
    assert [bytecode.run(program, each) for each in entries] == [False, False, True, True, True]


def _of_both(selector: Any) -> bytes | None:
    snapshot: Any = SampleSnapshot()
    return parse_selector(selector, names=SampleNames()).program_of_both(snapshot, "tcp")


def test_filter_of_both_families_equals_filter_of_each() -> None:
    program = _of_both({"stranded": "address_gone"})
    assert program
    for family, ends, sent in (
        ("inet", ("10.0.0.1", "10.0.0.2"), [False, True]),
        ("inet6", ("10.0.0.1", "2001:db8::1", "10.0.0.2", "2001:db8::2"), [False] * 2 + [True] * 2),
    ):
        number = int(socket.AF_INET if family == "inet" else socket.AF_INET6)
        remote = inet_diag_address(family, "10.0.0.9")
        entries = [
            bytecode.Entry(number, inet_diag_address(family, local), remote, 40000, 443)
            for local in ends
        ]
        assert [bytecode.run(program, each) for each in entries] == sent


def test_when_one_filter_serves_both_families() -> None:
    assert _of_both({}) == b""
    assert _of_both({"remote_port": 443}) == _programs({"remote_port": 443})[0]
    assert _of_both({"family": "inet6"}) is None
    assert _of_both({"remote": "2001:db8::/32"}) is None
    assert _of_both({"local": "interface:nowhere0"}) is None
    assert _of_both({"expression": "autobound"}) is None
    assert _of_both({"remote": _hosts(4000)}) is None


@pytest.mark.parametrize(
    "selector",
    [
        {"stranded": ["address_gone", "unroutable"]},
        {"not": {"stranded": "address_gone"}},
        {"any": [{"stranded": "address_gone"}, {"user": "alice"}]},
    ],
)
def test_other_verdicts_do_not_filter_by_address(selector: Any) -> None:
    assert _programs(selector) == [b""]


def test_many_local_addresses_are_not_filtered(monkeypatch: pytest.MonkeyPatch) -> None:
    many = frozenset(ipaddress.ip_address(each).packed for each in _hosts(65))
    monkeypatch.setattr(SampleSnapshot, "local_addresses", many)
    assert _programs({"stranded": "address_gone"}) == [b""]


def test_large_address_set_is_hashed() -> None:
    snapshot: Any = SampleSnapshot()
    hosts = _hosts(20_000)
    large = parse_selector({"remote": [*hosts, "192.0.2.0/24"]}, names=SampleNames()).bind(snapshot)
    small = parse_selector({"remote": ["10.9.9.9", "192.0.2.0/24"]}, names=SampleNames()).bind(
        snapshot
    )
    found, absent = (decoded(facts(remote=each), snapshot) for each in (hosts[-1], "192.0.3.9"))
    assert large(found) is True
    assert large(decoded(facts(remote="192.0.2.9"), snapshot)) is True
    assert large(absent) is False
    # A linear search would take thousands of times as long.
    assert _seconds(large, absent) < 50 * _seconds(small, absent)


def _seconds(test: Callable[[Socket], object], sock: Socket) -> float:
    return min(timeit.repeat(lambda: test(sock), number=200, repeat=5))
