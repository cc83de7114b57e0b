# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Superseded connections: the same peer and service received data on another connection since."""

from __future__ import annotations

from typing import Any

import pytest

from linuxnet_sockets.query import record
from linuxnet_sockets.query.find import find, load
from linuxnet_sockets.selector.parse import parse_selector
from linuxnet_sockets.sockets.session import NamespaceSession
from linuxnet_sockets.sockets.socket import Socket
from tests.support.fake_kernel import FakeSocket
from tests.support.fake_kernel.model import CLOSE_WAIT, ESTABLISHED, LISTEN
from tests.support.fake_machine import LOCAL, LOCAL6, REMOTE, REMOTE6, FakeMachine

MINUTE = 60_000
SILENT = {"last_data_recv": MINUTE, "last_ack_recv": MINUTE, "bytes_received": 5000}
RECEIVING = {"last_data_recv": 40, "last_ack_recv": 40, "bytes_received": 100}
DUMP = 18  # TCPDIAG_GETSOCK


def peer(port: int, info: dict[str, int], **fields: Any) -> FakeSocket:
    given = {"local": LOCAL, "local_port": 5000, "remote": REMOTE, **fields}
    return FakeSocket(remote_port=port, tcp_info=info, **given)


def found(machine: FakeMachine, **selector: Any) -> list[Socket]:
    written = {"local_port": 5000, "superseded": {"silent_for": "30s"}, **selector}
    parsed = parse_selector(written, names=machine.host, role="destroy")
    with NamespaceSession(machine.host, machine.namespace) as session:
        return find(session, parsed, extensions=record.extensions(("verdicts",)))


def found_ports(machine: FakeMachine, **selector: Any) -> list[int]:
    return [sock.remote_port for sock in found(machine, **selector)]


def test_silent_connection_is_superseded(
    machine: FakeMachine,
) -> None:
    old = machine.add(peer(1111, SILENT), holder=None)
    new = machine.add(peer(2222, RECEIVING), holder=None)

    (sock,) = found(machine)

    assert sock.cookie == old.cookie
    assert record.record(sock, ("verdicts",))["superseded"] == {
        "silent_ms": MINUTE - 10,
        "by": {"remote_port": 2222, "cookie": f"{new.cookie:x}", "last_received_ms": 40},
    }


@pytest.mark.parametrize(
    ("case", "other"),
    [
        ("another peer", {"remote": "198.51.100.8"}),
        ("another local address", {"local": "192.0.2.129"}),
        ("another port", {"local_port": 5001}),
        ("another interface", {"ifindex": 3}),
        ("no data yet", {"info": {"last_data_recv": 40, "last_ack_recv": 40}}),
        ("a FIN alone", {"info": {**RECEIVING, "bytes_received": 1}, "state": CLOSE_WAIT}),
        (
            "received data earlier",
            {"info": {**SILENT, "last_data_recv": 2 * MINUTE, "last_ack_recv": 20}},
        ),
        ("received data at the same time", {"info": SILENT}),
    ],
)
def test_connection_with_other_key_is_no_successor(
    machine: FakeMachine, case: str, other: dict[str, Any]
) -> None:
    machine.add(peer(1111, SILENT), holder=None)
    fields = {"info": RECEIVING, **other}
    machine.add(peer(2222, fields.pop("info"), **fields), holder=None)

    assert found(machine) == [], case


@pytest.mark.parametrize(
    "info",
    [
        {**SILENT, "last_data_recv": 20_000},
        # A download: only this side sends, and the peer acknowledges.
        {**SILENT, "last_ack_recv": 100},
        # This side sends keepalive probes, and the peer answers.
        {"last_data_recv": 9 * MINUTE, "last_ack_recv": 20_000},
    ],
)
def test_receiving_connection_is_not_superseded(machine: FakeMachine, info: dict[str, int]) -> None:
    machine.add(peer(1111, info), holder=None)
    machine.add(peer(2222, RECEIVING), holder=None)
    assert found(machine) == []


def test_single_connection_is_not_superseded(machine: FakeMachine) -> None:
    machine.add(peer(1111, SILENT), holder=None)
    assert found(machine) == []


def test_only_most_recent_of_several_is_not_superseded(machine: FakeMachine) -> None:
    for port, seconds in ((1, 300), (2, 200), (3, 100), (4, 40)):
        clocks = dict.fromkeys(("last_data_recv", "last_ack_recv"), seconds * 1000)
        machine.add(peer(port, {**clocks, "bytes_received": 9}), holder=None)
    assert found_ports(machine) == [1, 2, 3]


def test_data_before_fin_counts(machine: FakeMachine) -> None:
    machine.add(peer(1111, SILENT), holder=None)
    machine.add(peer(2222, {**RECEIVING, "bytes_received": 2}, state=CLOSE_WAIT), holder=None)
    assert found_ports(machine) == [1111]


def test_ipv6_and_mapped_peers_are_distinct(
    machine: FakeMachine,
) -> None:
    machine.add(peer(1, SILENT, local=LOCAL6, remote=REMOTE6), holder=None)
    machine.add(peer(2, RECEIVING, local=LOCAL6, remote=REMOTE6), holder=None)
    machine.add(peer(3, SILENT), holder=None)
    mapped = {"local": f"::ffff:{LOCAL}", "remote": f"::ffff:{REMOTE}"}
    machine.add(peer(4, RECEIVING, **mapped), holder=None)
    assert sorted(found_ports(machine)) == [1, 3]


def test_successor_need_not_be_selected(machine: FakeMachine) -> None:
    machine.add(peer(1111, SILENT, uid=1000), holder=None)
    machine.add(peer(2222, RECEIVING, uid=33), holder=None)
    assert found_ports(machine, user=1000) == [1111]
    assert found_ports(machine, remote_port=1111) == [1111]
    assert found_ports(machine, **{"not": {"remote_port": 1111}}) == []


def test_missing_clocks_are_unknown(machine: FakeMachine) -> None:
    machine.kernel.abilities.info_size = 40
    machine.add(peer(1111, {}), holder=None)
    machine.add(peer(2222, {}), holder=None)
    for written in ({"superseded": {"silent_for": 1}}, {"not": {"superseded": {"silent_for": 1}}}):
        selector = parse_selector({"local_port": 5000, **written}, names=machine.host)
        with NamespaceSession(machine.host, machine.namespace) as session:
            assert find(session, selector) == []


def test_load_filters_by_port(machine: FakeMachine) -> None:
    for number in range(20):
        machine.add(peer(number + 1, RECEIVING, local_port=6000), holder=None)
    machine.add(peer(1111, SILENT), holder=None)
    found(machine)
    dumps = [payload for kind, payload in machine.sockets.requests if kind == DUMP]
    # The first dump selects, the second loads the peer activity.
    _select, load_activity = dumps
    assert len(load_activity) > 60


def test_load_dumps_nothing_without_candidates(machine: FakeMachine) -> None:
    machine.add(peer(1111, RECEIVING), holder=None)
    found(machine)
    assert len([1 for kind, _payload in machine.sockets.requests if kind == DUMP]) == 1


def recorded(machine: FakeMachine, **selector: Any) -> dict[int, Any]:
    """The superseded field of records whose selector does not request it, by remote port."""
    parsed = parse_selector({"state": "established", **selector}, names=machine.host)
    with NamespaceSession(machine.host, machine.namespace) as session:
        snapshot = session.snapshot()
        bits = record.extensions(("verdicts",))
        sockets = find(session, parsed, extensions=bits, snapshot=snapshot)
        load(session, snapshot, record.VERDICT_NEEDS, sockets)
        return {
            sock.remote_port: record.record(sock, ("verdicts",))["superseded"] for sock in sockets
        }


def test_record_has_evidence_at_service_port(machine: FakeMachine) -> None:
    machine.add(peer(1111, SILENT), holder=None)
    machine.add(peer(2222, RECEIVING), holder=None)
    settings = machine.proc / "sys" / "net" / "ipv4"
    settings.mkdir(parents=True)
    (machine.proc / "thread-self" / "ns").mkdir(parents=True)
    (machine.proc / "thread-self" / "ns" / "net").write_text("")
    (settings / "ip_local_port_range").write_text("4000 6000\n")

    # Outgoing connections may use one local port for two services of a host.
    assert recorded(machine) == {1111: False, 2222: False}

    (settings / "ip_local_port_range").write_text("32768 60999\n")
    assert {port: bool(each) for port, each in recorded(machine).items()} == {
        1111: True,
        2222: False,
    }

    (settings / "ip_local_port_range").write_text("4000 6000\n")
    machine.add(FakeSocket(local=LOCAL, local_port=5000, state=LISTEN), holder=None)
    assert {port: bool(each) for port, each in recorded(machine).items()} == {
        1111: True,
        2222: False,
    }


def test_record_without_load_is_null(machine: FakeMachine) -> None:
    machine.add(peer(1111, SILENT, state=ESTABLISHED), holder=None)
    parsed = parse_selector({}, names=machine.host)
    with NamespaceSession(machine.host, machine.namespace) as session:
        (sock,) = find(session, parsed, extensions=record.extensions(("verdicts",)))
    entry = record.record(sock, ("verdicts",))
    assert (entry["stuck"], entry["stranded"], entry["superseded"]) == ([], None, None)
