# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values as people write them at first: those without doubt are accepted, others name the form."""

from __future__ import annotations

from typing import Any

import pytest

from linuxnet_sockets.errors import InputError
from linuxnet_sockets.messages import describe
from linuxnet_sockets.policy.parse import AnyNames
from linuxnet_sockets.selector.parse import parse_selector
from linuxnet_sockets.selector.predicates.socket import IdleFor, StateIs
from linuxnet_sockets.selector.predicates.verdict import StrandedBy
from linuxnet_sockets.selector.tree import predicates
from tests.support.sample_sockets import SampleNames

PLACES = ("path", "value")
VERDICTS = "[zero_window, retransmitting, silent, close_wait, fin_wait, syn_sent, orphaned]"


def rejected(selector: Any, names: Any = None) -> InputError:
    with pytest.raises(InputError) as caught:
        parse_selector(selector, names=names or SampleNames())
    return caught.value


def written(selector: Any) -> list[Any]:
    """What the selector means, without paths and the values as written."""
    root = parse_selector(selector, names=SampleNames()).root
    return [
        {name: _plain(value) for name, value in vars(each).items() if name not in PLACES}
        for each in predicates(root)
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, tuple) and value and isinstance(value[0], StrandedBy):
        return [(each.verdict, each.to) for each in value]
    return value


@pytest.mark.parametrize(
    ("key", "value", "same"),
    [
        ("state", "close_wait", "close-wait"),
        ("state", "CLOSE-WAIT", "close-wait"),
        ("state", "TIME_WAIT", "time-wait"),
        ("state", "Close Wait", "close-wait"),
        ("state", "closewait", "close-wait"),
        ("state", "ESTAB", "established"),
        ("state", "LISTEN", "listening"),
        ("state", "UNCONN", "unconnected"),
        ("state", "FIN_WAIT1", "fin-wait-1"),
        ("state", "FIN-WAIT-2", "fin-wait-2"),
        ("state", "TCP_SYN_RECV", "syn-recv"),
        ("state", ["SYN_SENT", "last_ack"], ["syn-sent", "last-ack"]),
        ("expression", "state close_wait", "state close-wait"),
        ("stuck", "close-wait", "close_wait"),
        ("stuck", "CLOSE-WAIT", "close_wait"),
        ("stuck", "zero window", "zero_window"),
        ("stuck", {"verdict": "fin-wait", "for": "5min"}, {"verdict": "fin_wait", "for": "5m"}),
        ("stuck", {"verdict": "fin_wait", "for": ">=5m"}, {"verdict": "fin_wait", "for": "5m"}),
        ("stranded", "address-gone", "address_gone"),
        ("family", "ipv4", "inet"),
        ("family", "IPv6", "inet6"),
        ("family", 4, "inet"),
        ("family", "6", "inet6"),
        ("family", ["v4", "AF_INET6"], ["inet", "inet6"]),
        ("protocol", "UDP-Lite", "udplite"),
        ("idle", "5min", "5m"),
        ("idle", "5 minutes", "5m"),
        ("idle", "2hrs", "2h"),
        ("idle", "30sec", "30s"),
        ("idle", "90 Seconds", "90s"),
        ("idle", "1500msec", "1500ms"),
        ("idle", "1h30m", "90m"),
        ("idle", "1h 30min", "90m"),
        ("idle", "1w", "7d"),
        ("idle", ">=5m", "5m"),
        ("idle", "> 5m", "300001ms"),
        ("rtt", "> 200 msec", ">200ms"),
        ("send_queue", ">1 KiB", ">1k"),
        ("send_queue", "2MiB", "2M"),
        ("mark", "0x1/0xff", "1/255"),
    ],
)
def test_unambiguous_spelling_is_accepted(key: str, value: Any, same: Any) -> None:
    assert written({key: value}) == written({key: same})


def test_more_than_excludes_the_bound_itself() -> None:
    (idle,) = [
        each
        for each in predicates(parse_selector({"idle": ">5m"}, names=SampleNames()).root)
        if isinstance(each, IdleFor)
    ]
    assert idle.min_ms == 300_001


@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        ([{"remote": "10.0.0.1"}], "{any: [...]}"),
        (["dst 10.0.0.1"], "{any: [...]}"),
        ("dst 10.0.0.1", '{expression: "dst 10.0.0.1"}'),
        ("state established", '{expression: "state established"}'),
        ("remote=10.0.0.1 state=close-wait", "{remote: 10.0.0.1, state: close-wait}"),
        ("established", "{state: established}"),
        ("10.0.0.1", "{remote: 10.0.0.1}"),
        ("nginx.service", "{unit: nginx.service}"),
        ("any old text", '{expression: "dst 10.0.0.1"}'),
        (443, "{remote_port: 443}"),
    ],
)
def test_selector_of_another_type_names_the_right_form(value: Any, allowed: str) -> None:
    for selector, path in ((value, "match"), ({"not": value}, "match.not")):
        text = describe(rejected(selector))
        assert text.startswith(f"{path}: ")
        assert allowed in text
        assert "local_state" not in text


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("state", "established,syn-sent", "[established, syn-sent]"),
        ("state", "established or syn-sent", "[established, syn-sent]"),
        ("state", "!listening", "{not: {state: listening}}"),
        ("state", "any", "all"),
        ("protocol", "tcp4", "tcp, with family: inet"),
        ("protocol", "udp6", "udp, with family: inet6"),
        ("protocol", "tcp,udp", "[tcp, udp]"),
        ("protocol", "tcp/udp", "[tcp, udp]"),
        ("protocol", "any", "[tcp, udp, udplite, raw, mptcp]"),
        ("protocol", "icmp", "raw, the sockets of programs that send ICMP"),
        ("family", "ipv4, ipv6", "[ipv4, ipv6]"),
        ("remote_port", "80,443", "[80, 443]"),
        ("remote_port", "80 443", "[80, 443]"),
        ("remote_port", "80:90", "80-90"),
        ("remote_port", "80..90", "80-90"),
        ("remote_port", ">1024", "1025-65535"),
        ("remote_port", "<= 1023", "0-1023"),
        ("remote_port", "1024-", "1024-65535"),
        ("remote_port", "!22", "{not: {remote_port: 22}}"),
        ("local_port", "any", "no local_port, to select any port"),
        ("local_port", "443/tcp", "443, with protocol: tcp"),
        ("remote", "10.0.0.1,10.0.0.2", "[10.0.0.1, 10.0.0.2]"),
        ("remote", "10.0.0.1 10.0.0.2", "[10.0.0.1, 10.0.0.2]"),
        ("remote", "!10.0.0.0/8", "{not: {remote: 10.0.0.0/8}}"),
        ("remote", "10.0.0.0-10.0.0.255", "10.0.0.0/24"),
        ("remote", "10.0.0.1-10.0.0.3", "[10.0.0.1, 10.0.0.2/31]"),
        ("remote", "10.0.0.0/255.0.0.0", "10.0.0.0/8"),
        ("remote", "10.0.*", "10.0.0.0/16"),
        ("remote", "10/8", "10.0.0.0/8"),
        ("remote", "10.0.0.1:80,443", "remote: 10.0.0.1 and remote_port: [80,443]"),
        ("remote", "10.0.0.1:80-90", "remote: 10.0.0.1 and remote_port: 80-90"),
        ("remote", "10.0.0.1 443", "10.0.0.1:443"),
        ("remote", "2001:db8::1 443", "[2001:db8::1]:443"),
        ("remote", "10.0.0.1:*", "10.0.0.1"),
        ("remote", "*:443", "remote_port: 443"),
        ("local", ":443", "local_port: 443"),
        ("remote", "any", "no remote, to select any address"),
        ("remote", "*", "no remote, to select any address"),
        ("local", "v0", "interface:v0 for the addresses of an interface"),
        ("local", "eth0.100", "interface:eth0.100 for the addresses of an interface"),
        ("local", "dev:eth0", "interface:eth0"),
        ("local", "@eth0", "interface:eth0"),
        ("remote", "db.example.com", "host names are not resolved"),
        ("remote", "db1:5432", "host names are not resolved"),
        ("remote", "localhost", "127.0.0.0/8"),
        ("remote", "http://10.0.0.1:80/", "10.0.0.1:80"),
        ("device", "interface:eth0", "eth0"),
        ("user", "alice,1000", "[alice, 1000]"),
        ("user", "1000:2000", "1000-2000"),
        ("user", "!alice", "{not: {user: alice}}"),
        ("mark", "0x1,0x2", "[0x1, 0x2]"),
        ("mark", "!=0", "{not: {mark: 0}}"),
        ("pid", "123,456", "[123, 456]"),
        ("pid", "nginx", "process"),
        ("idle", "<5m", "idle: 5m"),
        ("idle", "5 months", "5m"),
        ("send_queue", ">1KB", "1k for powers of 1024"),
        ("send_queue", ">0, <5", '">0 <5"'),
        ("rtt", "200ms..1s", '">=200ms <=1s"'),
        ("stuck", "close_wait:10m", "{verdict: close_wait, for: 10m}"),
        ("stuck", "close-wait > 10m", "{verdict: close_wait, for: 10m}"),
        ("stuck", {"close_wait": "10m"}, "{verdict: close_wait, for: 10m}"),
        ("stuck", "close_wait,silent", "[close_wait, silent]"),
        ("stuck", "all", VERDICTS),
        ("stuck", True, VERDICTS),
        ("stranded", "rerouted:wg0", "{verdict: rerouted, to: [wg0]}"),
        ("stranded", {"rerouted": "wg0"}, "{verdict: rerouted, to: [wg0]}"),
        ("superseded", "30s", "{silent_for: 30s}"),
        ("any", {"remote": "10.0.0.1", "local_port": 22}, "[{remote: ...}, {local_port: ...}]"),
    ],
)
def test_other_forms_name_the_right_one(key: str, value: Any, allowed: str) -> None:
    error = rejected({key: value})
    assert error.path[:2] == ("match", key)
    assert allowed in error.allowed


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("established", "state established, before other conditions"),
        ("dst 10.0.0.1 CLOSE_WAIT", "state CLOSE_WAIT, before other conditions"),
        ("tcp", "the key protocol: tcp"),
        ("10.0.0.1", "dst 10.0.0.1, or src 10.0.0.1"),
        (":443", "dport = :443, or sport = :443"),
        ("dport=443", "dport = 443"),
        ("sport>=1024", "sport >= 1024"),
    ],
)
def test_word_alone_in_an_expression_names_the_condition(expression: str, allowed: str) -> None:
    assert rejected({"expression": expression}).allowed == allowed


@pytest.mark.parametrize(
    ("value", "near"),
    [
        ({"stuck": {"verdict": "close_wait", "since": "10m"}}, "for"),
        ({"stranded": {"verdict": "rerouted", "via": "wg0"}}, "to"),
        ({"superseded": {"silent": "30s"}}, "silent_for"),
    ],
)
def test_key_of_a_verdict_is_suggested(value: Any, near: str) -> None:
    assert rejected(value).problem == f"no such key (did you mean {near}?)"


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("remote_port", "80,443", "[80, 443]"),
        ("remote_port", "80:90", "80-90"),
        ("user", "root,www", "[root, www]"),
        ("user", "1:2", "1-2"),
    ],
)
def test_controller_that_resolves_no_names_rejects_these_too(
    key: str, value: str, allowed: str
) -> None:
    assert rejected({key: value}, AnyNames()).allowed == allowed


@pytest.mark.parametrize("word", ["e-stablished", "close--wa\u0131t", "\u212alosing", "clos ing"])
def test_other_spellings_are_no_states(word: str) -> None:
    assert rejected({"state": word}).path == ("match", "state")


def test_both_spellings_are_one_state() -> None:
    root = parse_selector({"state": ["close_wait", "close-wait"]}, names=SampleNames()).root
    states = [each.states for each in predicates(root) if isinstance(each, StateIs)]
    assert [len(each) for each in states] == [1]
