# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Marks that the packet filter sets, where routing rules match marks."""

from __future__ import annotations

import contextlib
import subprocess
from typing import Any

import pytest

from linuxnet_sockets import api
from linuxnet_sockets.errors import PacketMarks
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.messages import describe_warning
from linuxnet_sockets.policy.reconcile import reconcile_once
from tests.kernel.stranded.connections import selected, strandings
from tests.kernel.stranded.test_policies import policy_for
from tests.support.topologies.networks import Uplinks, ip
from tests.support.topologies.topology import LabNamespace

REROUTED = {"stranded": {"verdict": "rerouted", "to": ["wlan0"]}}


def nft(where: LabNamespace, *commands: str) -> None:
    try:
        where.output("nft", "-f", "-", stdin="\n".join(commands))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no nftables")


@pytest.fixture
def marked(uplinks: Uplinks) -> Uplinks:
    """A host whose packets with mark 7 leave through wlan0."""
    nft(uplinks.host, "add table inet probe", "delete table inet probe")
    ip(uplinks.host, f"route add {uplinks.other4} table 77", "-4 rule add fwmark 7 table 77")
    return uplinks


def mark_packets(where: LabNamespace, family: str = "ip") -> None:
    nft(
        where,
        f"add table {family} marks",
        f"add chain {family} marks out {{ type route hook output priority mangle; }}",
        f"add rule {family} marks out meta l4proto {{ tcp, udp }} meta mark set 7",
    )


def test_rerouted_is_unknown(marked: Uplinks) -> None:
    host = marked.host
    connection = marked.tcp(marked.service4, marked.eth4)
    bound = marked.tcp(marked.service4, marked.eth4, device="eth0")
    six = marked.tcp(marked.service6, marked.eth6)
    everything = {connection.cookie, bound.cookie, six.cookie}
    assert everything <= selected(host, **{"not": {"stranded": "rerouted"}})
    mark_packets(host)
    # The kernel does send its packets through the other link.
    with contextlib.suppress(OSError):
        connection.sock.send(b"x")
    assert not selected(host, **REROUTED)
    known = selected(host, **{"not": {"stranded": "rerouted"}})
    assert known & everything == {bound.cookie, six.cookie}
    assert strandings(host)[connection.cookie] is None


@pytest.mark.parametrize(("command", "unknown"), [("iptables", True), ("ip6tables", False)])
def test_iptables_legacy(marked: Uplinks, command: str, unknown: bool) -> None:
    connection = marked.tcp(marked.service4, marked.eth4)

    def is_known() -> bool:
        return connection.cookie in selected(marked.host, **{"not": {"stranded": "rerouted"}})

    def change(*arguments: str) -> None:
        try:
            marked.host.output(f"{command}-legacy", "-t", "mangle", *arguments)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("no iptables-legacy")

    mark = ("-p", "tcp", "-j", "MARK", "--set-mark", "7")
    change("-A", "PREROUTING", *mark)
    assert is_known()
    change("-A", "OUTPUT", *mark)
    assert is_known() is not unknown
    change("-D", "OUTPUT", *mark)
    assert is_known()


@pytest.mark.parametrize("operation", ["find", "destroy", "drain"])
def test_every_operation_names_the_namespace(marked: Uplinks, operation: str) -> None:
    marked.tcp(marked.service4, marked.eth4)
    options: dict[str, Any] = {"namespaces": [marked.host.name]}
    if operation == "drain":
        options["grace"] = 0
    for match in (REROUTED, {"not": REROUTED, "remote_port": 1}):
        assert not getattr(api, operation)(match, **options).warnings
    mark_packets(marked.host)
    for match in (REROUTED, {"not": REROUTED, "remote_port": 1}):
        (warning,) = getattr(api, operation)(match, **options).warnings
        assert warning == PacketMarks((marked.host.name,))
    assert not getattr(api, operation)({"stranded": "address_gone"}, **options).warnings


@pytest.mark.parametrize("family", ["ip6", "inet"])
def test_family_of_the_chain(marked: Uplinks, family: str) -> None:
    connection = marked.tcp(marked.service4, marked.eth4)
    mark_packets(marked.host, family)
    known = selected(marked.host, **{"not": {"stranded": "rerouted"}})
    assert (connection.cookie in known) is (family == "ip6")


def test_other_chains_and_rules_without_marks_change_nothing(uplinks: Uplinks) -> None:
    connection = uplinks.tcp(uplinks.service4, uplinks.eth4)
    mark_packets(uplinks.host)
    assert connection.cookie in selected(uplinks.host, **{"not": {"stranded": "rerouted"}})
    nft(uplinks.host, "delete table ip marks")
    ip(uplinks.host, f"route add {uplinks.other4} table 77", "-4 rule add fwmark 7 table 77")
    nft(
        uplinks.host,
        "add table ip other",
        "add chain ip other out { type filter hook output priority 0; }",
        "add rule ip other out counter",
        "add chain ip other empty { type route hook output priority 0; }",
    )
    assert connection.cookie in selected(uplinks.host, **{"not": {"stranded": "rerouted"}})


def test_policy_names_the_namespace(marked: Uplinks) -> None:
    marked.tcp(marked.service4, marked.eth4)
    policy = policy_for(marked.host, {"name": "past", "match": REROUTED, "hold": 0})
    assert not any(each.packet_marks for each in reconcile_once(Host(), policy).evaluations)
    mark_packets(marked.host)
    assert all(each.packet_marks for each in reconcile_once(Host(), policy).evaluations)
    document = {
        "version": 1,
        "mode": "report",
        "namespaces": [marked.host.name],
        "limits": {"max_sockets": 1},
        "rules": [{"name": "past", "match": REROUTED, "hold": 0}],
    }
    (warning,) = [
        each
        for each in api.enforce_policy(document, check=True).warnings
        if isinstance(each, PacketMarks)
    ]
    assert warning.namespaces == (marked.host.name,)
    assert "packet filter" in describe_warning(warning)
