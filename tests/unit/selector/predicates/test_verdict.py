# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parsing of stuck, stranded and superseded, and their rules for the whole selector."""

from __future__ import annotations

from typing import Any

import pytest

from linuxnet_sockets.errors import InputError
from linuxnet_sockets.messages import describe
from linuxnet_sockets.selector.parse import Selector, parse_selector
from linuxnet_sockets.sockets.needs import Need
from linuxnet_sockets.verdicts.stranded import STRANDED
from linuxnet_sockets.verdicts.stuck import STUCK
from tests.support.sample_sockets import SampleNames


def parse(selector: Any, role: str = "find") -> Selector:
    return parse_selector(selector, names=SampleNames(), role=role)


def rejected(selector: Any, role: str = "find") -> InputError:
    with pytest.raises(InputError) as caught:
        parse(selector, role)
    return caught.value


@pytest.mark.parametrize("name", STUCK)
def test_stuck_accepts_short_and_long_form(name: str) -> None:
    parse({"stuck": name})
    parse({"stuck": name.upper().replace("_", "-")})
    parse({"stuck": {"verdict": name}})
    parse({"stuck": [{"verdict": [name], "for": "5m"}, name]})


@pytest.mark.parametrize("name", STRANDED)
def test_stranded_accepts_short_and_long_form(name: str) -> None:
    parse({"stranded": name})
    parse({"stranded": [{"verdict": name}]})


@pytest.mark.parametrize(
    ("selector", "path", "problem"),
    [
        ({"stuck": {"for": "5m"}}, ("stuck",), "verdict"),
        ({"stuck": {"verdict": None}}, ("stuck", "verdict"), "null"),
        ({"stuck": {"verdict": []}}, ("stuck", "verdict"), "empty list"),
        ({"stuck": {"verdict": "x"}}, ("stuck", "verdict"), "verdict"),
        (
            {"stuck": [{"verdict": "close_wait", "for": None}]},
            ("stuck", 0, "for"),
            "null",
        ),
        (
            {"stuck": {"verdict": "close_wait", "for": "soon"}},
            ("stuck", "for"),
            "",
        ),
        (
            {"stuck": {"verdict": "close_wait", "for": "50d"}},
            ("stuck", "for"),
            "longer than",
        ),
        (
            {"stuck": {"verdict": "close_wait", "to": "wg0"}},
            ("stuck", "to"),
            "key",
        ),
        (
            {"stuck": {"verdict": "close_wait", "fro": "5m"}},
            ("stuck", "fro"),
            "for?",
        ),
        (
            {"stuck": {"verdict": "zero_window", "for": "14m"}},
            ("stuck", "for"),
            "zero_window",
        ),
        ({"stuck": [["close_wait"]]}, ("stuck", 0), "a list"),
        (
            {"stranded": {"verdict": "unroutable", "for": "5s"}},
            ("stranded", "for"),
            "stranded",
        ),
        (
            {"stranded": {"verdict": "unroutable", "to": ["wg0"]}},
            ("stranded", "to"),
            "unroutable",
        ),
        (
            {"stranded": [{"verdict": "rerouted", "to": []}]},
            ("stranded", 0, "to"),
            "empty",
        ),
        (
            {"stranded": {"verdict": "rerouted", "to": ["wg0", "a/b"]}},
            ("stranded", "to", 1),
            "cannot be",
        ),
        (
            {"local_port": 1, "superseded": {"silent": "5s"}},
            ("superseded", "silent"),
            "silent_for",
        ),
        ({"local_port": 1, "superseded": "30s"}, ("superseded",), "a string"),
        (
            {"local_port": 1, "superseded": {"silent_for": 0}},
            ("superseded", "silent_for"),
            "1 ms",
        ),
    ],
)
def test_invalid_verdict_is_rejected_with_its_path(selector: Any, path: Any, problem: str) -> None:
    error = rejected(selector)
    assert error.path == ("match", *path)
    assert problem in error.problem
    assert error.allowed or "(did you mean" in error.problem


def test_for_is_limited_to_provable_duration() -> None:
    parse({"stuck": {"verdict": "zero_window", "for": "13m"}})
    error = rejected({"stuck": {"verdict": "zero_window", "for": "1h"}})
    assert error.allowed == "at most 13m"
    parse({"stuck": {"verdict": "close_wait", "for": "1h"}})


@pytest.mark.parametrize(
    "selector",
    [
        {"stuck": "silent"},
        {"protocol": "tcp", "family": "inet", "stuck": {"verdict": "silent", "for": "1d"}},
        {"stuck": ["silent", "close_wait"]},
        {"any": [{"stuck": "close_wait"}, {"stuck": "silent"}]},
        {"stuck": "silent", "state": "established"},
        {"stuck": "silent", "not": {"stuck": "zero_window"}},
        {"any": [{"state": "close-wait"}, {"stuck": "silent"}]},
        {"not": {"not": {"stuck": "silent"}}},
    ],
)
def test_silent_alone_is_rejected_for_destroy(selector: Any) -> None:
    parse(selector)
    error = rejected(selector, "destroy")
    assert "silent" in error.problem
    assert error.path[-1] == "stuck"
    for beside in ({"remote": "10.0.0.1"}, {"local_port": 80}, {"user": "alice"}):
        parse({"all": [selector, beside]}, "destroy")


def test_other_stuck_verdicts_are_accepted_for_destroy() -> None:
    for name in STUCK.keys() - {"silent"}:
        parse({"stuck": name}, "destroy")


@pytest.mark.parametrize(
    "selector",
    [
        {"not": {"stuck": "zero_window"}},
        {"not": {"stranded": ["address_gone", "rerouted"]}},
        {"any": [{"user": "alice"}, {"not": {"stuck": "silent"}}]},
    ],
)
def test_negated_verdict_does_not_restrict(selector: Any) -> None:
    parse(selector)
    error = rejected(selector, "destroy")
    assert error.path == ("match",)
    assert {"protocol", "family"} <= set(error.problem.split())
    parse({**selector, "remote": "10.0.0.1"}, "destroy")
    parse({**selector, "state": "all"}, "destroy")


@pytest.mark.parametrize(
    "selector",
    [
        {"stranded": "rerouted"},
        {"stranded": ["address_gone", {"verdict": "rerouted"}]},
        {"remote": "10.0.0.0/8", "any": [{"user": "alice"}, {"stranded": "rerouted"}]},
        {"not": {"not": {"stranded": "rerouted"}}, "user": "alice"},
    ],
)
def test_rerouted_without_to_is_rejected_for_destroy(selector: Any) -> None:
    parse(selector)
    parse(selector, "protect")
    error = rejected(selector, "destroy")
    assert "stranded" in error.path
    assert "rerouted" in error.problem
    assert "to: [" in error.allowed


@pytest.mark.parametrize(
    "selector",
    [
        {"stranded": {"verdict": "rerouted", "to": "wg0"}},
        {"stranded": ["address_gone", "unroutable", "no_carrier"]},
        {"user": "alice", "not": {"stranded": "rerouted"}},
    ],
)
def test_stranded_is_accepted_for_destroy(selector: Any) -> None:
    parse(selector, "destroy")


_SILENT = {"silent_for": "5s"}


@pytest.mark.parametrize(
    "selector",
    [
        {"superseded": _SILENT},
        {"remote_port": 5000, "superseded": _SILENT},
        {"any": [{"local_port": 5000}, {"superseded": _SILENT}]},
        {"not": {"local_port": 5000}, "superseded": _SILENT},
        {
            "superseded": _SILENT,
            "any": [{"local_port": 5000}, {"user": "alice"}],
        },
        {"not": {"local_port": 5000, "superseded": _SILENT}},
    ],
)
@pytest.mark.parametrize("role", ["find", "destroy", "protect"])
def test_superseded_without_local_port_is_rejected(selector: Any, role: str) -> None:
    error = rejected(selector, role)
    assert error.path[-1] == "superseded"
    assert "local_port" in error.problem


@pytest.mark.parametrize(
    "selector",
    [
        {"local_port": 5000, "superseded": _SILENT},
        {"local_port": ["5000-5010", "http"], "any": [{"superseded": _SILENT}, {"idle": "5m"}]},
        {"any": [{"local_port": 1}, {"local_port": 2}], "superseded": _SILENT},
        {"local_port": 5000, "not": {"superseded": _SILENT}},
        {"expression": "sport = :5000", "superseded": _SILENT},
    ],
)
def test_superseded_with_local_port_is_accepted(selector: Any) -> None:
    parse(selector, "destroy")


@pytest.mark.parametrize("key", ["stuck", "superseded"])
def test_tcp_verdict_is_rejected_for_udp(key: str) -> None:
    value: Any = "close_wait" if key == "stuck" else _SILENT
    error = rejected({"protocol": "udp", "local_port": 53, key: value})
    assert error.path == ("match", key)
    assert "udp" in error.problem
    parse({"protocol": "udp", "stranded": "address_gone"})
    assert "mptcp" in rejected({"protocol": "mptcp", "stranded": "unroutable"}).problem


def test_dump_has_only_states_of_the_verdict() -> None:
    assert parse({"stuck": "close_wait"}).states("tcp") == 1 << 8
    assert parse({"stuck": ["close_wait", "syn_sent"]}).states("tcp") == 1 << 8 | 1 << 2
    assert parse({"state": "all", "stuck": "fin_wait"}).states("tcp") == (
        1 << 4 | 1 << 5 | 1 << 9 | 1 << 11
    )
    assert parse({"state": "all", "stranded": "unroutable"}).states("tcp") & 1 << 10 == 0
    assert parse({"state": "all", "not": {"stuck": "close_wait"}}).states("tcp") & 1 << 10


def test_needs_of_each_verdict() -> None:
    assert parse({"stuck": "close_wait"}).needs == frozenset()
    assert parse({"stranded": "unroutable"}).needs == {
        Need.ADDRESSES,
        Need.LINKS,
        Need.ROUTES,
        Need.RULES,
    }
    assert parse({"local_port": 1, "superseded": _SILENT}).needs == {Need.PEERS}
    assert parse({"stuck": "close_wait"}).extensions == 1 << (2 - 1)


def test_error_message() -> None:
    text = describe(rejected({"stranded": ["address_gone", "rerouted"]}, "destroy"))
    assert text.startswith("match.stranded[1]: 'rerouted': ")
    assert "asymmetric routing" in text
    assert "{verdict: rerouted, to: [INTERFACE, ...]}" in text
