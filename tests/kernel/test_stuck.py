# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stuck verdicts on real connections: who gets them, and that durations are never too long.

All connections are sampled together, for every verdict, and compared with the true duration.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from linuxnet_sockets.verdicts import stuck
from tests.kernel.stuck_cases import Case, StuckCases, bounds, dump_sockets
from tests.support.topologies import stuck as lab_stuck
from tests.support.topologies.connection_factory import KINDS, ConnectionFactory
from tests.support.topologies.states import listener
from tests.support.topologies.stuck import StuckScenario
from tests.support.topologies.topology import Lab
from tests.support.topologies.waiting import until

# Seconds between the early and the late steps, and seconds of sampling.
_AGE, _WATCHED = 1.0, 2.6
# The verdicts with the shortest default duration.
_SHORT = ("zero_window", "retransmitting", "syn_sent")


class _Expected(NamedTuple):
    """The verdicts that a case may have, each with the step since when it is true.

    Steps: connected, early, late; repeated: the last progress of its traffic.
    gone: the kernel ends the connection during sampling. passing: the verdict may be absent at
    times. plain: created in the plain pair of StuckCases.
    """

    make: Callable[[ConnectionFactory], StuckScenario]
    since: Mapping[str, str]
    kinds: tuple[str, ...] = KINDS
    gone: bool = False
    plain: bool = False
    passing: bool = False


_UNMAPPED = ("inet", "inet6")

_EXPECTED: dict[str, _Expected] = {
    "zero_window": _Expected(lab_stuck.zero_window, {"zero_window": "late"}),
    "zero_window_before_data": _Expected(
        lab_stuck.zero_window_before_data, {"zero_window": "late"}
    ),
    "zero_window_then_closed": _Expected(
        lab_stuck.zero_window_then_closed,
        {"zero_window": "early", "fin_wait": "early", "orphaned": "early"},
    ),
    "zero_window_both_done": _Expected(
        lab_stuck.zero_window_both_done,
        {"zero_window": "early", "fin_wait": "early", "orphaned": "early"},
    ),
    "lost": _Expected(lab_stuck.lost, {"retransmitting": "late"}),
    "lost_again": _Expected(lab_stuck.lost_again, {"retransmitting": "late"}),
    "lost_again_without_timestamps": _Expected(
        lab_stuck.lost_again, {"retransmitting": "late"}, kinds=_UNMAPPED, plain=True, passing=True
    ),
    "lost_then_closed": _Expected(
        lab_stuck.lost_then_closed,
        {"retransmitting": "early", "fin_wait": "early", "orphaned": "early"},
    ),
    "fin_lost": _Expected(
        lab_stuck.fin_lost, {"retransmitting": "late", "fin_wait": "late", "orphaned": "late"}
    ),
    "lost_for_a_moment": _Expected(lab_stuck.lost_for_a_moment, {"silent": "early"}),
    "syn_lost": _Expected(lab_stuck.syn_lost, {"syn_sent": "late"}),
    "syn_lost_evenly": _Expected(
        lab_stuck.syn_lost, {"syn_sent": "late"}, kinds=_UNMAPPED, plain=True
    ),
    "not_closed": _Expected(lab_stuck.not_closed, {"close_wait": "late"}),
    "not_closed_but_sends": _Expected(
        lab_stuck.not_closed_but_sends, {"close_wait": "late"}, passing=True
    ),
    "half_closed": _Expected(lab_stuck.half_closed, {"fin_wait": "late"}),
    "half_closed_but_receives": _Expected(
        lab_stuck.half_closed_but_receives, {"fin_wait": "repeated"}, passing=True
    ),
    "peer_open": _Expected(lab_stuck.peer_open, {}),
    "idle": _Expected(lab_stuck.idle, {"silent": "connected"}),
    # The kernel keeps no time of keepalive probes that it receives.
    "peer_keepalive": _Expected(lab_stuck.peer_keepalive, {"silent": "connected"}),
    "idle_with_keepalive": _Expected(lab_stuck.idle_with_keepalive, {}),
    "keepalive_answered": _Expected(lab_stuck.keepalive_answered, {}),
    "request_and_response": _Expected(
        lab_stuck.request_and_response, {"silent": "repeated"}, passing=True
    ),
    "sending_only": _Expected(lab_stuck.sending_only, {"silent": "repeated"}, passing=True),
    "slow_reader": _Expected(
        lab_stuck.slow_reader, {"zero_window": "repeated", "silent": "late"}, passing=True
    ),
    # On a slow machine there may be nothing to send at times.
    "bulk": _Expected(lab_stuck.bulk, {"zero_window": "repeated", "silent": "late"}, passing=True),
    "not_accepted": _Expected(lab_stuck.not_accepted, {"silent": "connected"}),
    "not_accepted_and_done": _Expected(lab_stuck.not_accepted_and_done, {"close_wait": "late"}),
    "half_open": _Expected(lab_stuck.half_open, {}, kinds=_UNMAPPED),
    "time_wait": _Expected(lab_stuck.time_wait, {}, kinds=_UNMAPPED),
    "listening": _Expected(lab_stuck.listening, {}, kinds=_UNMAPPED),
    # Last, because they end soon after the late step.
    "lost_with_user_timeout": _Expected(
        lab_stuck.lost_with_user_timeout, {"retransmitting": "late"}, gone=True
    ),
    "fin_lost_with_user_timeout": _Expected(
        lab_stuck.fin_lost_with_user_timeout,
        {"retransmitting": "late", "fin_wait": "late", "orphaned": "late"},
        gone=True,
    ),
    "zero_window_again_with_user_timeout": _Expected(
        lab_stuck.zero_window_again_with_user_timeout, {"zero_window": "late"}, gone=True
    ),
    "syn_lost_with_user_timeout": _Expected(
        lab_stuck.syn_lost_with_user_timeout, {"syn_sent": "late"}, gone=True
    ),
}
_CASES: dict[str, _Expected] = {
    f"{name}-{kind}": expected for name, expected in _EXPECTED.items() for kind in expected.kinds
}


@pytest.fixture(scope="module")
def stuck_cases() -> Iterator[StuckCases]:
    with Lab() as lab:
        made = StuckCases(lab)
        made.create(
            {
                name: (expected.make, name.rpartition("-")[2], expected.plain)
                for name, expected in _CASES.items()
            },
            _AGE,
        )
        made.sample(_WATCHED, 0.05)
        yield made
        made.release()


def _truth_ms(case: Case, verdict: str, before: float, after: float) -> float:
    """The longest true duration for a dump between two moments, in milliseconds."""
    moment = _CASES[case.name].since[verdict]
    if moment == "repeated":
        assert case.live is not None
        progress = case.live.last_start(before)
        earliest = case.late.earliest if progress is None else progress
    else:
        earliest = getattr(case, moment).earliest
    return (after - earliest) * 1000


def _lasting(verdict: str) -> list[str]:
    """The cases for which a verdict is true soon after the late step."""
    return [
        name
        for name, expected in _CASES.items()
        if verdict in expected.since and not expected.gone and not expected.passing
    ]


@pytest.mark.parametrize("name", _CASES)
def test_proven_duration_never_exceeds_true_duration(stuck_cases: StuckCases, name: str) -> None:
    case = stuck_cases.cases[name]
    if _CASES[name].gone and not case.samples:
        pytest.skip("the kernel had given it up before this slow machine looked")
    assert case.samples
    for sample in case.samples:
        for verdict, bound in sample.bounds.items():
            if bound is not None:
                assert verdict in _CASES[name].since, sample.socket.tcp_info
                truth = _truth_ms(case, verdict, sample.before, sample.after)
                assert bound <= truth, (verdict, sample.socket.message, sample.socket.tcp_info)


@pytest.mark.parametrize("verdict", stuck.STUCK)
def test_proven_duration_is_close_to_true_duration(stuck_cases: StuckCases, verdict: str) -> None:
    assert _lasting(verdict)
    for name in _lasting(verdict):
        sample, late = stuck_cases.cases[name].samples[-1], stuck_cases.cases[name].late
        bound = sample.bounds[verdict]
        assert bound is not None, (name, sample.socket.tcp_info)
        assert bound > (sample.before - late.latest) * 300, (name, sample.socket.tcp_info)


@pytest.mark.parametrize("verdict", stuck.STUCK)
def test_selector_with_minimum_duration(stuck_cases: StuckCases, verdict: str) -> None:
    before = time.monotonic()
    found = stuck_cases.matching({"stuck": {"verdict": verdict, "for": "500ms"}})
    after = time.monotonic()

    assert set(_lasting(verdict)) <= found
    for name in found:
        assert verdict in _CASES[name].since
        assert _truth_ms(stuck_cases.cases[name], verdict, before, after) >= 500


@pytest.mark.parametrize("verdict", stuck.STUCK)
def test_nothing_matches_ten_minutes(stuck_cases: StuckCases, verdict: str) -> None:
    """Also not with the kernel clocks that count from boot."""
    assert not stuck_cases.matching({"stuck": {"verdict": verdict, "for": "10m"}})


def test_record_and_short_form_use_default_duration(stuck_cases: StuckCases) -> None:
    expected = {name for verdict in _SHORT for name in _lasting(verdict)}

    def complete_records() -> dict[str, dict[str, Any]]:
        records = stuck_cases.records()
        slow = [name for name in expected if not records[name]["stuck"]]
        return {} if slow else records

    before = time.monotonic()
    records = until(complete_records, "the records have all verdicts", seconds=20)
    after = time.monotonic()

    with_verdicts = {name for name, record in records.items() if record["stuck"]}
    assert expected <= with_verdicts
    assert with_verdicts <= stuck_cases.matching({"stuck": list(stuck.STUCK)})
    for name in with_verdicts:
        for each in records[name]["stuck"]:
            verdict, bound = each["verdict"], each["for_ms"]
            assert stuck.DEFAULT_FOR_MS[verdict] <= bound
            assert bound <= _truth_ms(stuck_cases.cases[name], verdict, before, after)
            assert all(isinstance(number, int) for number in each["evidence"].values())


def test_evidence_has_the_values_of_the_verdict(stuck_cases: StuckCases) -> None:
    until(
        lambda: stuck_cases.records()["zero_window-inet"]["stuck"], "the default time", seconds=20
    )
    records = stuck_cases.records()

    (shut,) = records["zero_window-inet"]["stuck"]
    assert shut["evidence"]["peer_window_bytes"] == 0
    assert shut["evidence"]["send_queue_bytes"] == records["zero_window-inet"]["send_queue"]
    (lost,) = until(
        lambda: stuck_cases.records()["lost-inet"]["stuck"], "the default time", seconds=20
    )
    assert lost["evidence"]["retransmits"] >= 4
    assert lost["evidence"]["send_queue_bytes"] == 1


def test_peer_host_gone(lab: Lab) -> None:
    """A router reports the host as unreachable, so TCP retransmits more often."""
    client, router, server = map(lab.namespace, ("client", "router", "server"))
    router.sysctl("ipv4/ip_forward", 1)
    lab.connect(client, router, ["192.0.2.1/24"], ["192.0.2.254/24"])
    far, _near = lab.connect(router, server, ["198.51.100.254/24"], ["198.51.100.1/24"])
    for where, gateway in ((client, "192.0.2.254"), (server, "198.51.100.254")):
        with where.route() as route:
            route.route("add", dst="default", gateway=gateway)
    listens = listener(server, "198.51.100.1")
    target = client.socket(socket.AF_INET, socket.SOCK_STREAM)
    target.connect(listens.getsockname())
    with router.route() as route:
        (index,) = route.link_lookup(ifname=far)
        route.link("del", index=index)
    server.close()

    began = time.monotonic()
    target.sendall(b"x")

    proven = 0
    while proven < 600:
        (decoded,) = dump_sockets(client, {"remote": "198.51.100.1"})
        truth = (time.monotonic() - began) * 1000
        proven = bounds(decoded)["retransmitting"] or 0
        assert proven <= truth < 10_000, decoded.tcp_info
        time.sleep(0.05)
