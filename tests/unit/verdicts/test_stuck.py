# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each stuck verdict: connections for which it is true, and similar ones for which it is false."""

from __future__ import annotations

from typing import Any

import pytest

from linuxnet_sockets.host.namespaces import Namespace
from linuxnet_sockets.netlink import inet_diag
from linuxnet_sockets.query import record
from linuxnet_sockets.query.find import find
from linuxnet_sockets.selector.parse import parse_selector
from linuxnet_sockets.sockets.session import NamespaceSession
from linuxnet_sockets.sockets.socket import Socket
from linuxnet_sockets.verdicts.stuck import DEFAULT_FOR_MS, STATES, STUCK, evaluate, verdicts
from tests.support.fake_kernel import FakeSocket
from tests.support.fake_kernel.model import (
    CLOSE_WAIT,
    CLOSING,
    ESTABLISHED,
    FIN_WAIT1,
    FIN_WAIT2,
    LAST_ACK,
    LISTEN,
    SYN_SENT,
    TIME_WAIT,
    UDP,
)
from tests.support.fake_machine import LOCAL, REMOTE, FakeMachine

RETRANSMISSION, KEEPALIVE, TIMEWAIT, PERSIST = 1, 2, 3, 4
MINUTE = 60_000
HOUR = 60 * MINUTE
INFO = inet_diag.extension_bits([inet_diag.INFO])


def fake(state: int, timer: int = 0, **fields: Any) -> FakeSocket:
    """Create a socket. Fields that FakeSocket does not have go into struct tcp_info."""
    given = {name: fields.pop(name) for name in list(fields) if name in _FAKE}
    quiet = dict.fromkeys(("last_data_recv", "last_ack_recv", "last_data_sent"), 5)
    info = {"rto": 204_000, "snd_wnd": 65536, "options": 1, **quiet, **fields}
    return FakeSocket(
        local=LOCAL,
        local_port=40_000,
        remote=REMOTE,
        remote_port=443,
        state=state,
        timer=timer,
        tcp_info=info,
        **given,
    )


_FAKE = ("inode", "wqueue", "rqueue", "expires", "ulp", "protocol")
_BUSY = {"busy_time": HOUR * 1000}
CLOSED_WINDOW = {
    "timer": PERSIST,
    "snd_wnd": 0,
    "backoff": 8,
    "last_data_sent": MINUTE,
    "rwnd_limited": MINUTE * 1000,
    "wqueue": 5000,
    "expires": 700,
}
LOST = {
    "timer": RETRANSMISSION,
    "retransmits": 7,
    "backoff": 7,
    "rto": 204_000 << 7,
    "unacked": 3,
    "wqueue": 5000,
    "total_rto_recoveries": 1,
    "total_rto_time": 26_000,
    **_BUSY,
}
LONG_LOST = {
    **LOST,
    "retransmits": 9,
    "backoff": 9,
    "rto": 204_000 << 9,
    "total_rto_time": 2 * MINUTE,
}
FIN_ALONE = {**LONG_LOST, "wqueue": 1}
LONG_CLOSED_WINDOW = {
    **CLOSED_WINDOW,
    "backoff": 10,
    "last_data_sent": HOUR,
    "rwnd_limited": HOUR * 1000,
}
FRESHLY_LOST = {
    **LOST,
    "retransmits": 1,
    "backoff": 1,
    "rto": 408_000,
    "total_rto_time": 30,
}
UNANSWERED = {
    "timer": RETRANSMISSION,
    "retransmits": 5,
    "backoff": 4,
    "rto": 16_000_000,
    "total_rto_recoveries": 1,
    "total_rto_time": 15_000,
    "snd_wnd": 0,
}
LEFT = {"timer": RETRANSMISSION, "unacked": 1, "backoff": 7, "rto": 26_112_000}
QUIET = {"last_data_recv": 3 * HOUR, "last_ack_recv": 3 * HOUR, "last_data_sent": 3 * HOUR}


def decode(machine: FakeMachine, sock: FakeSocket) -> Socket:
    machine.add(sock, holder=None)
    selector = parse_selector({"state": "all"}, names=machine.host, role="protect")
    with NamespaceSession(machine.host, machine.namespace) as session:
        (decoded,) = find(session, selector, extensions=INFO)
    return decoded


STUCK_SOCKETS: list[tuple[str, FakeSocket]] = [
    ("zero_window", fake(ESTABLISHED, **CLOSED_WINDOW)),
    ("zero_window", fake(CLOSE_WAIT, **CLOSED_WINDOW)),
    (
        "zero_window",
        fake(
            ESTABLISHED,
            RETRANSMISSION,
            snd_wnd=0,
            backoff=6,
            rto=204_000 << 6,
            unacked=2,
            **_BUSY,
        ),
    ),
    ("retransmitting", fake(ESTABLISHED, **LOST)),
    ("retransmitting", fake(CLOSE_WAIT, **LOST)),
    ("silent", fake(ESTABLISHED, **QUIET)),
    ("close_wait", fake(CLOSE_WAIT, **QUIET)),
    ("fin_wait", fake(FIN_WAIT1, **LONG_LOST)),
    ("fin_wait", fake(LAST_ACK, **FIN_ALONE)),
    ("fin_wait", fake(CLOSING, **FIN_ALONE)),
    ("fin_wait", fake(FIN_WAIT2, **QUIET)),
    ("fin_wait", fake(FIN_WAIT2, KEEPALIVE, **QUIET)),
    ("fin_wait", fake(FIN_WAIT1, **LONG_CLOSED_WINDOW)),
    ("syn_sent", fake(SYN_SENT, **UNANSWERED)),
    ("orphaned", fake(FIN_WAIT2, inode=0, **QUIET)),
    ("orphaned", fake(FIN_WAIT1, inode=0, **LONG_CLOSED_WINDOW)),
]


@pytest.mark.parametrize(("name", "sock"), STUCK_SOCKETS)
def test_verdict_is_true_with_evidence(machine: FakeMachine, name: str, sock: FakeSocket) -> None:
    decoded = decode(machine, sock)

    assert evaluate(decoded, name) is True
    assert evaluate(decoded, name, 0) is True
    found = {verdict.verdict: verdict for verdict in verdicts(decoded) or []}
    proven = found[name].for_ms
    assert proven is not None
    assert proven >= DEFAULT_FOR_MS[name]
    assert evaluate(decoded, name, proven) is True
    assert evaluate(decoded, name, proven + 1) is False
    assert all(isinstance(each, int) for each in found[name].evidence.values())


NOT_STUCK: list[tuple[str, FakeSocket]] = [
    # A slow reader: each opening of the window restarts the count of probes.
    ("zero_window", fake(ESTABLISHED, **{**CLOSED_WINDOW, "backoff": 2})),
    # The window was closed for long earlier, and data was sent since.
    ("zero_window", fake(ESTABLISHED, **{**CLOSED_WINDOW, "last_data_sent": 900})),
    # The timer runs because the device is down, or the queue of the host was full.
    ("zero_window", fake(ESTABLISHED, **{**CLOSED_WINDOW, "snd_wnd": 65536})),
    ("zero_window", fake(ESTABLISHED, KEEPALIVE, snd_wnd=0)),
    ("zero_window", fake(SYN_SENT, RETRANSMISSION, snd_wnd=0, backoff=6)),
    # Busy and healthy: one timeout, or a running timer.
    ("retransmitting", fake(ESTABLISHED, **FRESHLY_LOST)),
    ("retransmitting", fake(ESTABLISHED, RETRANSMISSION, unacked=10, last_data_sent=1, **_BUSY)),
    # Long idle, then one segment; backoff is left over from an earlier loss.
    ("retransmitting", fake(ESTABLISHED, **LEFT, **QUIET)),
    ("retransmitting", fake(ESTABLISHED, KEEPALIVE, retransmits=7, **QUIET)),
    ("silent", fake(ESTABLISHED, KEEPALIVE, **QUIET)),
    ("silent", fake(ESTABLISHED, **{**QUIET, "last_data_recv": MINUTE})),
    # It only sends, and the data is acknowledged.
    ("silent", fake(ESTABLISHED, **{**QUIET, "last_ack_recv": 20})),
    ("silent", fake(CLOSE_WAIT, **QUIET)),
    ("silent", fake(FIN_WAIT2, **QUIET)),
    # Half-closed, and the peer still receives data.
    ("close_wait", fake(CLOSE_WAIT, last_data_recv=HOUR, last_ack_recv=20)),
    ("close_wait", fake(ESTABLISHED, **QUIET)),
    # Half-closed, and the peer still sends.
    ("fin_wait", fake(FIN_WAIT2, last_data_recv=20, last_ack_recv=HOUR)),
    ("fin_wait", fake(FIN_WAIT1, RETRANSMISSION, wqueue=1, **_BUSY)),
    ("fin_wait", fake(CLOSE_WAIT, **QUIET)),
    ("fin_wait", fake(TIME_WAIT, TIMEWAIT, expires=HOUR)),
    ("syn_sent", fake(SYN_SENT, RETRANSMISSION, last_data_recv=HOUR, last_ack_recv=HOUR)),
    ("syn_sent", fake(SYN_SENT, RETRANSMISSION, retransmits=2, backoff=2, rto=4_000_000)),
    ("orphaned", fake(TIME_WAIT, TIMEWAIT)),
    ("orphaned", fake(FIN_WAIT2, **QUIET)),
    # In the accept queue of a listener.
    ("orphaned", fake(ESTABLISHED, inode=0, **QUIET)),
    ("orphaned", fake(CLOSE_WAIT, inode=0, **QUIET)),
    ("orphaned", fake(FIN_WAIT1, inode=0, wqueue=90_000, timer=RETRANSMISSION, **_BUSY)),
]


@pytest.mark.parametrize(("name", "sock"), NOT_STUCK)
def test_verdict_is_false(machine: FakeMachine, name: str, sock: FakeSocket) -> None:
    decoded = decode(machine, sock)

    assert evaluate(decoded, name) is False
    assert name not in {each.verdict for each in verdicts(decoded) or []}


def test_fin_wait_2_of_closed_connection_is_not_stuck(machine: FakeMachine) -> None:
    """It has the timer of TIME_WAIT and no tcp_info (inet_twsk_diag_fill)."""
    sock = fake(FIN_WAIT2, TIMEWAIT, inode=0, expires=59_000)
    machine.kernel.abilities.info_size = 0
    decoded = decode(machine, sock)

    assert {evaluate(decoded, name, 0) for name in STUCK} == {False}
    assert verdicts(decoded) == []


@pytest.mark.parametrize("name", STUCK)
def test_listener_and_time_wait_are_not_stuck(machine: FakeMachine, name: str) -> None:
    for state in (LISTEN, TIME_WAIT):
        sock = fake(state, TIMEWAIT if state == TIME_WAIT else 0)
        decoded = decode(machine, sock)
        assert evaluate(decoded, name, 0) is False
        assert verdicts(decoded) == []
        machine.sockets.remove(sock)


def test_other_protocols_are_unknown(machine: FakeMachine) -> None:
    sock = FakeSocket(protocol=UDP, local=LOCAL, local_port=53, remote=REMOTE, remote_port=53)
    decoded = decode(machine, sock)
    assert evaluate(decoded, "close_wait") is None
    assert verdicts(decoded) is None


def test_missing_tcp_info_is_unknown(machine: FakeMachine) -> None:
    machine.add(fake(CLOSE_WAIT, **QUIET), holder=None)
    selector = parse_selector({"local_port": 40_000}, names=machine.host)
    with NamespaceSession(machine.host, machine.namespace) as session:
        (decoded,) = find(session, selector)
    assert evaluate(decoded, "close_wait") is None
    assert evaluate(decoded, "syn_sent") is False
    assert verdicts(decoded) is None


def test_missing_field_makes_its_verdict_unknown(machine: FakeMachine) -> None:
    # Linux 5.3: up to reord_seen, without snd_wnd.
    machine.kernel.abilities.info_size = 224
    shut = decode(machine, fake(ESTABLISHED, **CLOSED_WINDOW))
    assert evaluate(shut, "zero_window") is None
    assert evaluate(shut, "retransmitting") is False
    assert verdicts(shut) == []


def test_rto_max_of_namespace_is_used(machine: FakeMachine) -> None:
    """net.ipv4.tcp_rto_max_ms, Linux 6.15."""
    settings = machine.proc / "sys" / "net" / "ipv4"
    settings.mkdir(parents=True)
    (machine.proc / "thread-self" / "ns").mkdir(parents=True)
    (machine.proc / "thread-self" / "ns" / "net").write_text("")
    (settings / "tcp_rto_max_ms").write_text("1000\n")

    shut = fake(ESTABLISHED, **{**LONG_CLOSED_WINDOW, "backoff": 14})
    (verdict,) = verdicts(decode(machine, shut)) or []

    # The last answer to a probe came 5 ms ago, and one tick is subtracted.
    assert verdict.for_ms == 204 + 408 + 816 + 11 * 1000 + 5 - 10


@pytest.mark.parametrize("explicit", [False, True])
def test_record_after_namespace_is_gone(machine: FakeMachine, explicit: bool) -> None:
    decoded = decode(machine, fake(ESTABLISHED, **CLOSED_WINDOW))
    nowhere = str(machine.proc / "nowhere")
    decoded.snapshot.namespace = Namespace("gone", nowhere, (1, 1), explicit=explicit)

    (entry,) = record.record(decoded, ("verdicts",))["stuck"]

    assert entry["verdict"] == "zero_window"
    assert decoded.snapshot.local_port_range is None


def test_subflow_without_inode_is_not_orphaned(machine: FakeMachine) -> None:
    decoded = decode(machine, fake(FIN_WAIT2, inode=0, ulp="mptcp", **QUIET))
    assert evaluate(decoded, "orphaned") is None
    assert evaluate(decoded, "fin_wait") is True


def test_record_has_verdict_that_selector_requested(machine: FakeMachine) -> None:
    machine.add(fake(CLOSE_WAIT, last_data_recv=5010, last_ack_recv=5010), holder=None)
    for written, expected in (
        ({"verdict": "close_wait", "for": "5s"}, [("close_wait", 5000)]),
        ({"verdict": "close_wait", "for": "2h"}, None),
    ):
        selector = parse_selector({"stuck": written}, names=machine.host)
        with NamespaceSession(machine.host, machine.namespace) as session:
            found = find(session, selector, extensions=record.extensions(("verdicts",)))
        assert bool(found) is (expected is not None)
        for decoded in found:
            entry = record.record(decoded)
            assert entry == record.record(decoded, ("verdicts",))
            assert [(each["verdict"], each["for_ms"]) for each in entry["stuck"]] == expected
            assert entry["stuck"][0]["evidence"]["last_ack_ms"] == 5010
    plain = parse_selector({"state": "close-wait"}, names=machine.host)
    with NamespaceSession(machine.host, machine.namespace) as session:
        (decoded,) = find(session, plain, extensions=INFO)
    assert record.record(decoded, ("verdicts",))["stuck"] == []
    assert record.record(decoded)["stuck"] is None


def test_each_verdict_has_meaning_duration_and_states() -> None:
    assert set(STUCK) == set(DEFAULT_FOR_MS) == set(STATES)
    assert all(STUCK.values())
    assert all(DEFAULT_FOR_MS.values())
