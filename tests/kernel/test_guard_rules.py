# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guard rules on the running kernel, evaluated in a subprocess."""

from __future__ import annotations

import os

import pytest

from linuxnet_sockets import api
from tests.kernel.destroy_subprocess import destroy_in_subprocess
from tests.kernel.holder import Holder, holder, program_of_root
from tests.kernel.releases import release
from tests.support.topologies import states
from tests.support.topologies.topology import Lab, Pair

ALL_OFF = dict.fromkeys(
    (
        "control_connection",
        "ssh_sessions",
        "ssh_forwards",
        "loopback",
        "listeners",
        "unconnected",
        "shared_port",
        "kernel",
    ),
    False,
)


def only(*switches: str) -> dict[str, bool]:
    return ALL_OFF | dict.fromkeys(switches, True)


def ssh_environment(pair: Pair, held: Holder) -> dict[str, str]:
    """Environment that sshd would set if it were the server of this connection."""
    return {"SSH_CONNECTION": f"{pair.client4} {held.port} {pair.server4} {held.remote_port}"}


def test_unrelated_process_destroyed(pair: Pair) -> None:
    with holder(pair) as held:
        result = destroy_in_subprocess({"state": "established"}, [pair.client.name])
        assert result == {"outcomes": {held.cookie: "destroyed"}, "rules": {}}
        assert not held.alive()


def test_ancestor_sockets_protected(pair: Pair) -> None:
    # The test is the parent of the process that runs destroy().
    held = states.established(pair)
    assert held.target is not None
    match = {"state": "established"}
    result = destroy_in_subprocess(match, [held.where.name])
    assert result["rules"] == {held.cookie: "control_connection"}
    held.target.sendall(b"x")
    result = destroy_in_subprocess(match, [held.where.name], protect={"control_connection": False})
    assert result["outcomes"] == {held.cookie: "destroyed"}


def test_ssh_connection_protected(pair: Pair) -> None:
    with holder(pair) as held:
        protect = only("control_connection")
        environ = ssh_environment(pair, held)
        result = destroy_in_subprocess(
            {"state": "established"}, [pair.client.name], protect=protect, environ=environ
        )
        assert result["rules"] == {held.cookie: "control_connection"}
        assert held.alive()


def test_ssh_connection_other_port_destroyed(pair: Pair) -> None:
    with holder(pair) as held:
        environ = ssh_environment(pair, held._replace(port=held.port ^ 1))
        result = destroy_in_subprocess(
            {"state": "established"}, [pair.client.name], environ=environ
        )
        assert result["outcomes"] == {held.cookie: "destroyed"}


@pytest.mark.parametrize("name", ["sshd", "sshd-session", "dropbear"])
def test_ssh_daemon_sockets_protected(pair: Pair, name: str) -> None:
    with program_of_root(name) as program, holder(pair, python=program) as held:
        match = {"remote_port": held.remote_port}
        assert destroy_in_subprocess(match, [pair.client.name])["rules"] == {
            held.cookie: "ssh_sessions"
        }
        result = destroy_in_subprocess(match, [pair.client.name], protect={"ssh_sessions": False})
        assert result["outcomes"] == {held.cookie: "destroyed"}
        assert not held.alive()


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_program_that_others_may_write_is_not_ssh(pair: Pair, mode: int) -> None:
    with program_of_root("sshd") as program, holder(pair, python=program) as held:
        os.chmod(program, mode)
        result = destroy_in_subprocess({"state": "established"}, [pair.client.name])
        assert result["outcomes"] == {held.cookie: "destroyed"}


def test_command_name_of_ssh_protects_nothing(pair: Pair) -> None:
    with holder(pair, name="sshd") as held:
        result = destroy_in_subprocess({"state": "established"}, [pair.client.name])
        assert result["outcomes"] == {held.cookie: "destroyed"}


def test_unreadable_owner_protected(pair: Pair) -> None:
    # Root with CAP_NET_ADMIN but without CAP_SYS_PTRACE cannot read the owner.
    with holder(pair) as held:
        match = {"state": "established"}
        result = destroy_in_subprocess(match, [pair.client.name], without=["sys_ptrace"])
        assert result["rules"] == {held.cookie: "owner_unreadable"}
        assert held.alive()


def test_unreadable_owner_without_owner_rules(pair: Pair) -> None:
    with holder(pair) as held:
        match = {"state": "established"}
        where = [pair.client.name]
        # No visible process holds it, so the kernel may.
        result = destroy_in_subprocess(
            match, where, protect={"ssh_sessions": False}, without=["sys_ptrace"]
        )
        assert result["rules"] == {held.cookie: "kernel"}
        off = {"ssh_sessions": False, "kernel": False}
        result = destroy_in_subprocess(match, where, protect=off, without=["sys_ptrace"])
        assert result["outcomes"] == {held.cookie: "destroyed"}


def test_kernel_socket_protected(lab: Lab) -> None:
    where = lab.namespace("vxlan")
    with where.route() as route:
        route.link("add", ifname="vx0", kind="vxlan", vxlan_id=7, vxlan_port=4789)
        route.link("set", index=route.link_lookup(ifname="vx0")[0], state="up")
    where.delete_link_at_end("vx0")
    match = {"protocol": "udp", "local_port": 4789, "state": "all"}
    # Even root may be unable to read some processes. In a new PID namespace there are none.
    for switches, rule in (({}, "owner_unreadable"), ({"ssh_sessions": False}, "kernel")):
        protect = {"unconnected": False, **switches}
        result = destroy_in_subprocess(match, [where.path], protect=protect, new_pid_namespace=True)
        assert set(result["rules"].values()) == {rule}
    result = destroy_in_subprocess(
        match, [where.path], protect=ALL_OFF, new_pid_namespace=True, check=True
    )
    assert result["rules"] == {}
    assert result["outcomes"]


def test_owner_outside_pid_namespace_protected(pair: Pair) -> None:
    with holder(pair) as held:
        for protect in ({}, {"kernel": False}):
            result = destroy_in_subprocess(
                {"state": "established"},
                [pair.client.path],
                protect=protect,
                new_pid_namespace=True,
            )
            assert result["rules"] == {held.cookie: "owner_unreadable"}
        assert held.alive()


@pytest.mark.parametrize("options", ["hidepid=1", "hidepid=2", "subset=pid"])
def test_owner_hidden_by_proc_options_protected(pair: Pair, options: str) -> None:
    """A process that /proc does not show may be sshd."""
    with holder(pair) as held:
        for engine in ("netlink", "pidfd"):
            result = destroy_in_subprocess(
                {"state": "established"},
                [pair.client.path],
                protect={"kernel": False},
                proc_options=options,
                without=["sys_ptrace"],
                engine=engine,
            )
            assert result["rules"] == {held.cookie: "owner_unreadable"}
        assert held.alive()


def test_hidepid_hides_nothing_from_root(pair: Pair) -> None:
    with holder(pair) as held:
        result = destroy_in_subprocess(
            {"state": "established"}, [pair.client.path], proc_options="hidepid=2"
        )
        assert result["outcomes"] == {held.cookie: "destroyed"}


@pytest.mark.parametrize("threads", ["exited", "own-table"])
@pytest.mark.parametrize("engine", ["netlink", "pidfd"])
def test_socket_of_thread_is_not_the_kernels(pair: Pair, threads: str, engine: str) -> None:
    """/proc/PID/fd of the process does not show it."""
    match = {"state": "established"}
    with holder(pair, threads=threads) as held:
        found = api.find(match, namespaces=[pair.client.name], details=["process"])
        assert [record["processes"][0]["pid"] for record in found.sockets] == [held.pid]
        if engine == "pidfd" and release() < (6, 9):
            pytest.skip("this kernel has no pidfd of a thread")
        for check in (True, False):
            result = destroy_in_subprocess(match, [pair.client.name], check=check, engine=engine)
            assert result == {"outcomes": {held.cookie: "destroyed"}, "rules": {}}
        assert not held.alive()


def test_ssh_daemon_with_ended_main_thread_protected(pair: Pair) -> None:
    with (
        program_of_root("sshd") as program,
        holder(pair, python=program, threads="exited") as held,
    ):
        result = destroy_in_subprocess({"state": "established"}, [pair.client.name])
        assert result["rules"] == {held.cookie: "ssh_sessions"}
        assert held.alive()


def test_loopback_and_listeners_protected(lab: Lab) -> None:
    where = lab.namespace("lo")
    listening = states.listener(where, "127.0.0.1")
    client = where.socket()
    client.connect(listening.getsockname())
    match = {"state": "all"}
    by_default = destroy_in_subprocess(match, [where.name])["rules"]
    assert set(by_default.values()) == {"loopback"}
    assert len(by_default) == 3
    cookie = states.cookie_of(listening)
    rules = destroy_in_subprocess(match, [where.name], protect=only("listeners"), check=True)[
        "rules"
    ]
    assert rules == {cookie: "listeners"}


def test_both_ends_local_protected(pair: Pair) -> None:
    listening = states.listener(pair.server, pair.server4)
    client = pair.server.socket()
    client.connect(listening.getsockname())
    result = destroy_in_subprocess(
        {"state": "established"}, [pair.server.name], protect=only("loopback")
    )
    assert set(result["rules"].values()) == {"loopback"}
    assert len(result["rules"]) == 2


def test_unconnected_udp_protected(pair: Pair) -> None:
    bound, connected = states.udp_unconnected(pair), states.udp_explicit(pair)
    match = {"protocol": "udp", "state": "all"}
    result = destroy_in_subprocess(match, [pair.client.name], protect=only("unconnected"))
    assert result["rules"] == {bound.cookie: "unconnected"}
    assert result["outcomes"] == {bound.cookie: "protected", connected.cookie: "disconnected"}


def test_disconnected_udp_protected(pair: Pair) -> None:
    # The kernel still reports the remote address of an IPv6 socket.
    held = states.udp_explicit(pair, v6=True)
    match = {"protocol": "udp", "state": "all"}
    protect = only("unconnected")
    assert destroy_in_subprocess(match, [pair.client.name], protect=protect)["outcomes"] == {
        held.cookie: "disconnected"
    }
    assert destroy_in_subprocess(match, [pair.client.name], protect=protect)["rules"] == {
        held.cookie: "unconnected"
    }


def test_protect_selector_by_pid(pair: Pair) -> None:
    with holder(pair) as held:
        protect = {"selectors": [{"pid": held.pid}]}
        result = destroy_in_subprocess(
            {"state": "established"}, [pair.client.name], protect=protect
        )
        assert result["rules"] == {held.cookie: "selector"}
        assert held.alive()
