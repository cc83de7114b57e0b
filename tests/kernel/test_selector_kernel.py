# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Selectors on the real kernel agree with the reference on an unfiltered dump, and with ss."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, assume, example, given, settings

from linuxnet_sockets.errors import HandlerMissing, InputError
from linuxnet_sockets.host import namespaces
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.netlink import constants, inet_diag
from linuxnet_sockets.query.find import find
from linuxnet_sockets.selector.parse import Selector, parse_selector
from linuxnet_sockets.sockets.session import NamespaceSession
from tests.kernel import selector_crowd
from tests.kernel.selector_crowd import Crowd
from tests.support import generated_selectors, sample_sockets
from tests.support.oracles import reference_selector
from tests.support.sample_sockets import SampleNames
from tests.support.topologies.topology import Lab, LabNamespace

_SLOW_FIXTURE = HealthCheck.function_scoped_fixture
_EXTENSIONS = inet_diag.extension_bits([inet_diag.INFO, inet_diag.CONG])
_REJECTED = ("means nothing for", "autobound")


@pytest.fixture(scope="module")
def crowd() -> Iterator[Crowd]:
    with Lab() as lab:
        made = Crowd(lab)
        with (
            patch.dict(sample_sockets.INTERFACES, made.interfaces(), clear=True),
            patch.dict(sample_sockets.CGROUPS, selector_crowd.cgroups(), clear=True),
        ):
            yield made


@pytest.fixture(scope="module")
def session(crowd: Crowd) -> Iterator[NamespaceSession]:
    (namespace,) = namespaces.resolve([crowd.host.name])
    with NamespaceSession(Host(), namespace) as opened:
        yield opened


def _parsed(selector: Mapping[str, Any]) -> Selector:
    try:
        return parse_selector(selector, names=SampleNames())
    except InputError as error:
        if error.problem.startswith(_REJECTED):
            assume(False)
        raise


def _unfiltered(session: NamespaceSession) -> dict[int, inet_diag.DiagMessage]:
    """Every socket of the namespace, by cookie."""
    socks: list[inet_diag.DiagMessage] = []
    for protocol in ("tcp", "udp", "udplite", "mptcp"):
        # A kernel may lack the last two protocols.
        with contextlib.suppress(HandlerMissing):
            for family in constants.FAMILIES.values():
                socks += inet_diag.dump(
                    session.diag, protocol, family, inet_diag.ANY_STATE, _EXTENSIONS
                )
    return {sock.cookie: sock for sock in socks}


def _true(selector: Mapping[str, Any], socks: Mapping[int, inet_diag.DiagMessage]) -> set[int]:
    own = selector_crowd.own_inodes()
    return {
        cookie
        for cookie, sock in socks.items()
        if reference_selector.truth(selector, selector_crowd.facts_of(sock, own)) is True
    }


def _found(session: NamespaceSession, selector: Selector) -> list[int]:
    try:
        return [decoded.cookie for decoded in find(session, selector)]
    except HandlerMissing:
        # The selector names a protocol that this kernel cannot dump.
        assume(False)
        raise


def test_crowd_has_enough_sockets(session: NamespaceSession) -> None:
    socks = _unfiltered(session)
    assert len(socks) >= 200
    kinds = {(sock.protocol, sock.family, sock.state) for sock in socks.values()}
    tcp4 = {state for protocol, family, state in kinds if (protocol, family) == ("tcp", 2)}
    assert tcp4 >= {1, 5, 6, 7, 8, 10}
    assert {("tcp", 10, 1), ("tcp", 10, 10), ("udp", 2, 7), ("udp", 10, 1)} <= kinds


@given(selector=generated_selectors.selectors(expressions=False, verdicts=False))
@settings(max_examples=120, deadline=None, suppress_health_check=[_SLOW_FIXTURE])
@example(selector={"remote": "0.0.0.0/0", "state": "all"})
@example(selector={"not": {"remote": "::/0"}, "state": "all"})
@example(selector={"local": ["interface:eth0", "interface:wg0"], "state": "all"})
@example(selector={"not": {"local": "interface:nowhere0"}})
@example(selector={"process": "pytest", "not": {"pid": os.getpid()}})
def test_find_agrees_with_reference(session: NamespaceSession, selector: dict[str, Any]) -> None:
    parsed = _parsed(selector)
    before = _unfiltered(session)
    found = _found(session, parsed)
    after = _unfiltered(session)
    assert len(found) == len(set(found))
    # Clocks advance, and TIME_WAIT ends: sockets that changed may have either result.
    sure = before.keys() & after.keys()
    one, other = _true(selector, before) & sure, _true(selector, after) & sure
    assert one & other <= set(found)
    assert set(found) & sure <= one | other


@given(selector=generated_selectors.selectors(expressions=False, verdicts=False))
@settings(max_examples=60, deadline=None, suppress_health_check=[_SLOW_FIXTURE])
def test_result_does_not_depend_on_kernel_filter(
    session: NamespaceSession, selector: dict[str, Any]
) -> None:
    assume("idle" not in repr(selector))
    assume("last_" not in repr(selector))
    parsed = _parsed(selector)
    exact = set(_found(session, parsed))

    class EachFamily(Selector):
        def program_of_both(self, *_arguments: Any) -> None:
            return None

    class Older(EachFamily):
        def programs(self, *arguments: Any, **options: Any) -> list[bytes]:
            return super().programs(*arguments, **{**options, "exact_ops": False})

    class Unfiltered(EachFamily):
        def programs(self, *arguments: Any, **options: Any) -> list[bytes]:  # noqa: ARG002
            return [b""]

    assert set(_found(session, EachFamily(parsed.root))) == exact
    assert set(_found(session, Older(parsed.root))) == exact
    assert set(_found(session, Unfiltered(parsed.root))) == exact


def _ss(host: LabNamespace, *filter_words: str) -> set[int]:
    """The cookies of the TCP and UDP sockets that ss prints."""
    printed = host.output("ss", "-H", "-O", "-n", "-e", "-a", "-t", "-u", *filter_words)
    cookies = [
        word.removeprefix("sk:")
        for line in printed.splitlines()
        for word in line.split()
        if word.startswith("sk:")
    ]
    assert len(cookies) == len(printed.splitlines())
    return {int(cookie, 16) for cookie in cookies}


def _as_ss(
    session: NamespaceSession, host: LabNamespace, expression: reference_selector.Expression | str
) -> None:
    """Compare the result of an expression with ss, except sockets that ended."""
    selector: dict[str, Any] = {"expression": expression, "protocol": ["tcp", "udp"]}
    if not expression.startswith(("state", "excl")):
        selector["state"] = "all"
    parsed = parse_selector(selector, names=Host())
    before = _unfiltered(session)
    printed = _ss(host, *expression.split())
    found = set(_found(session, parsed))
    lasting = before.keys() & _unfiltered(session).keys()
    # With -a, ss 6.5 and later also lists sockets that are only bound; "all" does not include them.
    lasting -= {
        cookie for cookie, sock in before.items() if (sock.protocol, sock.state) == ("tcp", 7)
    }
    assert found & lasting == printed & lasting


@given(expression=generated_selectors.filters(exact=True))
@settings(max_examples=150, deadline=None, suppress_health_check=[_SLOW_FIXTURE])
def test_expression_agrees_with_ss(
    session: NamespaceSession, crowd: Crowd, expression: reference_selector.Expression
) -> None:
    # ss does not compile a filter with dev, so the kernel does not evaluate the rest of it. Where
    # the two filters of ss disagree in two ways, ss may show sockets that are neither true nor
    # false.
    assume("dev" not in expression)
    assume("autobound" not in expression or "/0" not in expression)
    # For an IPv6 socket, 0.0.0.0/0 is true in one filter of ss and false in the other. With its
    # negation beside it, both filters of ss accept the socket; for us it stays unknown.
    assume(expression.count("/0") < 2)
    _as_ss(session, crowd.host, expression)


@pytest.mark.parametrize(
    "expression",
    [
        "dev = eth0",
        "dev != eth0 and dport = :443",
        "dev wg0 or sport = :22",
        "fwmark = 0x10",
        "fwmark = 0x10/0x10",
        "not fwmark = 0/0x1",
        "fwmark != 020",
        "dst inet:10.0.0.2",
        "not dst inet:10.0.0.2",
        "src inet6:[2001:db8::1]",
        "dport inet:443",
        "autobound",
        "! autobound",
        "state connected exclude established",
        "state syn-sent state time-wait",
        "state all dport = :https",
        "exclude connected",
        "sport = :ssh",
        "dst 10/8 or dst 192.0.2.0/255.255.255.0 and dport = :80",
        "( dport > :80 and dport < 8000 ) or ! ( sport >= :1024 )",
        "dst [::]/0",
        "src [fe80::]/10",
    ],
)
def test_selected_expressions_agree_with_ss(
    session: NamespaceSession, crowd: Crowd, expression: str
) -> None:
    if expression.endswith(("/0", "/10")):
        # ss requires the length inside the brackets, or no brackets.
        expression = expression.replace("[", "").replace("]", "")
    _as_ss(session, crowd.host, expression)
    assert _ss(crowd.host, *expression.split()) or expression.startswith("state syn-sent")


def test_unknown_interface_under_not_finds_nothing(session: NamespaceSession) -> None:
    for wrong in (
        {"local": "interface:eth00"},
        {"device": "eth00"},
        {"remote": "interface:eth00:443"},
        {"local": "fe80::1%eth00"},
        {"cgroup": "/no/such"},
    ):
        assert (
            _found(session, parse_selector({"not": wrong, "state": "all"}, names=SampleNames()))
            == []
        )


def test_interface_without_address_is_unknown(session: NamespaceSession) -> None:
    for selector in ({"local": "interface:tun0"}, {"not": {"local": "interface:tun0"}}):
        assert _found(session, parse_selector(selector, names=SampleNames())) == []


def test_interface_address_is_resolved_per_snapshot(
    session: NamespaceSession, crowd: Crowd
) -> None:
    selector = parse_selector({"local": "interface:tun0"}, names=SampleNames())
    assert _found(session, selector) == []
    crowd.host.address("tun0", "10.0.0.1/32")
    with crowd.host.route() as route:
        (index,) = route.link_lookup(ifname="tun0")
        try:
            assert _found(session, selector)
        finally:
            route.addr("del", index=index, address="10.0.0.1", prefixlen=32)
    assert _found(session, selector) == []


def test_thousands_of_addresses_are_split_and_found(session: NamespaceSession) -> None:
    hosts = [f"11.{high}.{low}.1" for high in range(40) for low in range(250)]
    wanted = parse_selector({"remote": [*hosts, "10.0.0.2"]}, names=SampleNames())
    plain = parse_selector({"remote": "10.0.0.2"}, names=SampleNames())
    view_environment = session.snapshot()
    assert len(wanted.programs(view_environment, "tcp", "inet")) == 4
    found = _found(session, wanted)
    assert found
    assert sorted(found) == sorted(_found(session, plain))
    protected = _found(
        session, parse_selector({"not": {"remote": [*hosts, "10.0.0.2"]}}, names=SampleNames())
    )
    rest = _found(session, parse_selector({"not": {"remote": "10.0.0.2"}}, names=SampleNames()))
    assert sorted(protected) == sorted(rest)


@pytest.mark.needs_root
def test_cgroup_is_the_one_at_creation(session: NamespaceSession, crowd: Crowd) -> None:
    with open("/proc/self/mountinfo", encoding="ascii") as lines:
        mounts = [line.split()[4] for line in lines if " - cgroup2 " in line]
    if not mounts:
        pytest.skip("no cgroup v2 mount here")
    with open("/proc/self/cgroup", encoding="ascii") as lines:
        (home,) = [line.strip()[3:] for line in lines if line.startswith("0::")]
    name = f"lns-{os.getpid()}"
    outer = Path(mounts[0], name)
    inner = outer / "inner"
    made: dict[str, socket.socket] = {}
    try:
        inner.mkdir(parents=True)
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    try:
        for where in (outer, inner):
            (where / "cgroup.procs").write_text(str(os.getpid()))
            made[where.name], _other = crowd.connect(("10.0.0.2", 443))
    finally:
        Path(mounts[0] + home, "cgroup.procs").write_text(str(os.getpid()))
    cookies = {key: _cookie(sock) for key, sock in made.items()}
    both = set(cookies.values())

    def found(selector: Mapping[str, Any]) -> set[int]:
        return set(_found(session, parse_selector(selector, names=SampleNames()))) & both

    assert found({"cgroup": f"/{name}"}) == both
    assert found({"cgroup": f"{name}/inner/"}) == {cookies["inner"]}
    assert found({"cgroup": str(inner)}) == {cookies["inner"]}
    assert found({"not": {"cgroup": f"/{name}/inner"}}) == {cookies[name]}
    assert found({"expression": f"cgroup = /{name}"}) == {cookies[name]}
    assert found({"expression": f"cgroup != /{name}"}) == {cookies["inner"]}
    assert found({"cgroup": f"/{name}/nowhere"}) == set()
    assert found({"expression": f"cgroup {outer}"}) == {cookies[name]}
    assert _ss(crowd.host, "cgroup", f"/{name}") & both == {cookies[name]}
    assert _ss(crowd.host, "cgroup", str(outer)) & both == {cookies[name]}
    inner.rmdir()
    # The path of a removed cgroup is unknown.
    assert found({"cgroup": f"/{name}"}) == {cookies[name]}
    assert found({"not": {"cgroup": f"/{name}"}}) == set()
    outer.rmdir()
    assert found({"not": {"cgroup": "/"}}) == set()


def _cookie(sock: socket.socket) -> int:
    raw = sock.getsockopt(socket.SOL_SOCKET, 57, 8)  # SO_COOKIE
    return int(struct.unpack("=Q", raw)[0])
