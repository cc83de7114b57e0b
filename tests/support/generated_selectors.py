# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hypothesis strategies for sockets and selectors. Few distinct values, so that many match."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from tests.support.oracles.reference_selector import COMPARISONS, GROUPS, Expression
from tests.support.sample_sockets import INTERFACES, STATES, USERS, facts

V4 = ["10.0.0.1", "10.0.0.2", "10.1.0.1", "192.0.2.7", "127.0.0.1", "0.0.0.0"]
V6 = ["::", "::1", "2001:db8::1", "2001:db8:1::1", "fe80::1", "fe80::2"]
PORTS = [0, 22, 53, 80, 443, 8000, 8050, 32768, 40000, 60999, 65535]
_STREAM_STATES = [*STATES]
_NO_INFO = ("time-wait", "closed", "bound-inactive")
_NUMBERS = st.sampled_from([0, 1, 2, 3, 5, 10, 100, 1000, 200_000, 2**20, 2**32 - 1])
_BYTES = st.integers(0, 255)
_SMALL = st.integers(0, 3)


@st.composite
def _info(draw: st.DrawFn) -> dict[str, int]:
    fields = {
        name: draw(_NUMBERS)
        for name in (
            "rto",
            "unacked",
            "lost",
            "last_data_sent",
            "last_data_recv",
            "last_ack_recv",
            "rtt",
            "rttvar",
            "snd_cwnd",
            "total_retrans",
            "bytes_acked",
            "bytes_received",
            "notsent_bytes",
            "min_rtt",
            "bytes_sent",
        )
    }
    return {**fields, "probes": draw(_BYTES), "backoff": draw(_SMALL)}


@st.composite
def sockets(draw: st.DrawFn) -> dict[str, Any]:
    protocol = draw(st.sampled_from(["tcp", "tcp", "tcp", "udp", "udplite", "raw", "mptcp"]))
    family = draw(st.sampled_from(["inet", "inet6"]))
    addresses = V4 if family == "inet" else [*V6, *V4[:5]]
    remote = draw(st.sampled_from(addresses))
    remote_port = draw(st.sampled_from(PORTS))
    if protocol == "tcp":
        state = draw(st.sampled_from([state for state in _STREAM_STATES if state != "closed"]))
    elif protocol == "mptcp":
        state = draw(
            st.sampled_from([state for state in _STREAM_STATES if state != "bound-inactive"])
        )
    else:
        unconnected = remote in ("0.0.0.0", "::") and not remote_port
        state = "closed" if unconnected else "established"
    has_info = protocol == "tcp" and state not in _NO_INFO
    return facts(
        protocol=protocol,
        family=family,
        state=state,
        local=draw(st.sampled_from(addresses)),
        local_port=draw(st.sampled_from(PORTS)),
        remote=remote,
        remote_port=remote_port,
        ifindex=draw(st.sampled_from([0, 0, 2, 3])),
        uid=draw(st.sampled_from([0, 33, 1000, 1001, 70000])),
        inode=draw(st.sampled_from([0, 7])),
        retransmits=draw(_SMALL),
        send_queue=draw(_NUMBERS),
        recv_queue=draw(_NUMBERS),
        mark=draw(st.sampled_from([None, 0, 1, 0x10, 0x11])),
        cgroup=draw(st.sampled_from([None, 0, 1, 11, 12, 13, 99])),
        info=draw(st.none() | _info()) if has_info else None,
        congestion=draw(st.sampled_from([None, "cubic", "reno"])) if has_info else None,
        processes=draw(
            st.sampled_from([None, [(100, "nginx")], [(100, "nginx"), (200, "systemd-resolve")]])
        ),
        autobound=draw(st.booleans()),
    )


_ENDPOINTS = [
    *V4,
    *V6,
    "::ffff:10.0.0.1",
    "[::1]",
    "10.0.0.0/8",
    "10.0.0.0/24",
    "0.0.0.0/0",
    "0.0.0.0/1",
    "127.0.0.0/8",
    "::/0",
    "::/64",
    "::/96",
    "::ffff:0:0/96",
    "::fffe:0:0/95",
    "::ffff:10.0.0.0/104",
    "2001:db8::/32",
    "2001:db8::/48",
    "fe80::/10",
    "10.0.0.1:443",
    "10.0.0.0/8:80",
    "[2001:db8::1]:443",
    "[2001:db8::]/32:80",
    "[::ffff:10.0.0.1]:443",
    "fe80::1%eth0",
    "fe80::1%wg0",
    "fe80::1%nowhere0",
    "[fe80::1%eth0]:443",
    *(f"interface:{name}" for name in (*INTERFACES, "nowhere0")),
    "interface:eth0:443",
    "interface:nowhere0:443",
]
_PORT_VALUES = [*PORTS, "443", "0-1023", "22-22", "8000-8100", "32768-65535", "0-65535", "http"]
_PORT_VALUES += ["domain"]
_VALUES: dict[str, list[Any]] = {
    "protocol": ["tcp", "udp", "udplite", "raw", "mptcp"],
    "family": ["inet", "inet6"],
    "state": [*GROUPS],
    "local": _ENDPOINTS,
    "remote": _ENDPOINTS,
    "local_port": _PORT_VALUES,
    "remote_port": _PORT_VALUES,
    "local_state": ["deprecated", "temporary", "dadfailed", "tentative"],
    "device": ["eth0", "wg0", "nowhere0"],
    "mark": [0, 1, 16, "0x10", "17", "1/1", "0x10/0xf0", "0/0x1"],
    "user": [*USERS, 0, "33", 70000, "0-999", "1000-60000"],
    "cgroup": ["/", "/a", "a", "/a/", "/a/b", "/ab", "/nowhere"],
    "process": ["nginx", "sshd", "systemd-resolve", "systemd-resolved"],
    "pid": [100, "200", 300],
    "idle": [1, "1", "1s", "200s", "5m", "1ms", "0.5s", "1000000ms"],
    "congestion": ["cubic", "reno", "bbr"],
    "stuck": [
        "close_wait",
        "silent",
        {"verdict": "close_wait", "for": "1s"},
        {"verdict": "silent", "for": "200s"},
        {"verdict": "orphaned", "for": "0.2s"},
        {"verdict": "syn_sent", "for": 0},
        {"verdict": "orphaned", "for": 0},
    ],
    "stranded": ["address_gone", {"verdict": "rerouted", "to": ["wg0"]}],
    "superseded": [{"silent_for": "1s"}, {"silent_for": "5m"}],
}
_VERDICTS = ("stuck", "stranded", "superseded")
_SINGLE_VALUE_KEYS = ("idle", "superseded")
_DURATIONS = ["0", "1us", "3us", "0.2ms", "1ms", "100ms", "1s", "0.2s", "200", "5m", "1h"]
_SIZES = ["0", "1", "3", "1k", "1K", "1M", "0.5k", "1000", "200000", "4G"]
_COUNTS = ["0", "1", "2", "3", "5", "100", "200000"]
_TIMES = ("rtt", "rttvar", "min_rtt", "rto", "last_sent", "last_received", "last_ack")
_BYTE_KEYS = ("send_queue", "recv_queue", "notsent", "bytes_sent", "bytes_acked", "bytes_received")


def _one_or_more(values: Sequence[Any]) -> st.SearchStrategy[Any]:
    one = st.sampled_from(values)
    return one | st.lists(one, min_size=1, max_size=3)


@st.composite
def _comparison(draw: st.DrawFn, key: str) -> Any:
    values = _DURATIONS if key in _TIMES else _SIZES if key in _BYTE_KEYS else _COUNTS
    if draw(st.booleans()):
        sign = draw(st.sampled_from([">", ">=", "<=", "=", "==", "!=", ""]))
        space = draw(st.sampled_from(["", " "])) if sign else ""
        return sign + space + draw(st.sampled_from(values))
    low, high = draw(st.sampled_from([(values[1], values[-1]), (values[0], values[3])]))
    return draw(st.sampled_from([f">={low}<{high}", f"> {low} <= {high}", f"!= {low} >={low}"]))


def _terms(expressions: bool, verdicts: bool) -> st.SearchStrategy[dict[str, Any]]:
    def term(key: str) -> st.SearchStrategy[dict[str, Any]]:
        if key == "expression":
            value: st.SearchStrategy[Any] = filters()
        elif key in COMPARISONS:
            one = _comparison(key)
            value = one | st.lists(one, min_size=1, max_size=2)
        elif key in _SINGLE_VALUE_KEYS:
            value = st.sampled_from(_VALUES[key])
        else:
            value = _one_or_more(_VALUES[key])
        if key == "superseded":
            port = st.sampled_from(_PORT_VALUES)
            return st.fixed_dictionaries({key: value, "local_port": port})
        return st.fixed_dictionaries({key: value})

    keys = [*_VALUES, "local", "remote", "local", "remote", *COMPARISONS, "stuck", "stuck"]
    if not verdicts:
        keys = [key for key in keys if key not in _VERDICTS]
    if expressions:
        keys += ["expression"] * 4
    return st.sampled_from(keys).flatmap(term)


def selectors(expressions: bool = True, verdicts: bool = True) -> st.SearchStrategy[dict[str, Any]]:
    """Selectors of several keys, nested by not, any and all."""

    def nested(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
        listed = st.lists(inner, min_size=1, max_size=3)
        return st.one_of(
            st.builds(_merged, inner, inner),
            st.fixed_dictionaries({"not": inner}),
            st.fixed_dictionaries({"any": listed}),
            st.fixed_dictionaries({"all": listed}),
        )

    return st.recursive(_terms(expressions, verdicts), nested, max_leaves=6)


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    return {**first, **second}


# Terms of the filter language of ss(8), and their meaning.
_EQUAL, _UNEQUAL = ["=", "==", "eq", ""], ["!=", "ne", "neq"]
_SIGNS = {
    "=": _EQUAL,
    "!=": _UNEQUAL,
    ">": [">", "gt"],
    "<": ["<", "lt"],
    ">=": [">=", "ge", "geq"],
    "<=": ["<=", "le", "leq"],
}
_HOSTS: dict[str, tuple[str | None, int | None]] = {
    "*": (None, None),
    "any": (None, None),
    "*:443": (None, 443),
    ":443": (None, 443),
    "10.0.0.1": ("10.0.0.1", None),
    "10.0.0.1:443": ("10.0.0.1", 443),
    "10.0.0.1:*": ("10.0.0.1", None),
    "10/8": ("10.0.0.0/8", None),
    "10.0.0.7/24": ("10.0.0.0/24", None),
    "127.0.0.0/255.0.0.0": ("127.0.0.0/8", None),
    "192.0.2.0/24:443": ("192.0.2.0/24", 443),
    "0.0.0.0/0": ("0.0.0.0/0", None),
    "[::1]": ("::1", None),
    "[2001:db8::1]:443": ("2001:db8::1", 443),
    "2001:db8::/32": ("2001:db8::/32", None),
    "[2001:db8::/32]:80": ("2001:db8::/32", 80),
    "::/0": ("::/0", None),
    "[::/64]": ("::/64", None),
    "[::ffff:10.0.0.1]": ("::ffff:10.0.0.1", None),
    "::ffff:0:0/96": ("::ffff:0:0/96", None),
}
_PORT_WORDS = {":443": 443, "443": 443, ":0x50": 80, ":http": 80, ":22": 22, ":32768": 32768}


@st.composite
def _predicate(draw: st.DrawFn, exact: bool) -> tuple[list[str], Any]:
    names = ["dst", "src", "dport", "sport", "dev", "autobound"]
    name = draw(st.sampled_from(names if exact else [*names, "fwmark", "cgroup"]))
    if name == "autobound":
        return [name], (name,)
    if name in ("dst", "src"):
        host = draw(st.sampled_from(list(_HOSTS)))
        return [name, draw(st.sampled_from(_EQUAL)), host], (name, *_HOSTS[host])
    if name in ("dport", "sport"):
        sign = draw(st.sampled_from(list(_SIGNS)))
        port = draw(st.sampled_from(list(_PORT_WORDS)))
        return [name, draw(st.sampled_from(_SIGNS[sign])), port], (name, sign, _PORT_WORDS[port])
    sign = draw(st.sampled_from(["=", "!="]))
    values = {
        "dev": ["eth0", "wg0", "nowhere0"],
        "fwmark": ["0x10", "1", "0x10/0xf0", "020", "0/1"],
        "cgroup": ["/a", "/a/b", "/nowhere"],
    }[name]
    value = draw(st.sampled_from(values))
    meaning = {"020": "16"}.get(value, value)
    return [name, draw(st.sampled_from(_SIGNS[sign])), value], (name, sign, meaning)


@st.composite
def _conditions(draw: st.DrawFn, depth: int, exact: bool) -> tuple[list[str], Any]:
    shape = draw(st.sampled_from(["plain", "plain", "not", "group"])) if depth else "plain"
    if shape == "not":
        words, meaning = draw(_conditions(depth - 1, exact))
        return [draw(st.sampled_from(["not", "!"])), *words], ("not", meaning)
    if shape == "group":
        words, items = draw(_item_lists(depth - 1, exact))
        return ["(", *words, ")"], ("(", items)
    return draw(_predicate(exact))


@st.composite
def _item_lists(draw: st.DrawFn, depth: int, exact: bool) -> tuple[list[str], Any]:
    written: list[str] = []
    items: list[Any] = []
    for number in range(draw(st.integers(1, 3))):
        joined = draw(st.sampled_from(["and", "&", "&&", "or", "|", "||", ""])) if number else ""
        words, meaning = draw(_conditions(depth, exact))
        written += [joined, *words]
        items.append((joined, meaning))
    return written, items


@st.composite
def filters(draw: st.DrawFn, exact: bool = False) -> Expression:
    """Filters of ss(8). exact: only conditions that the kernel itself can evaluate."""
    words = draw(
        st.sampled_from(
            [
                (),
                (),
                (("state", "established"),),
                (("state", "listening"), ("state", "time-wait")),
                (("exclude", "listening"), ("exclude", "closed")),
                (("state", "connected"), ("exclude", "syn-sent")),
                (("state", "all"),),
            ]
        )
    )
    written = [part for word in words for part in word]
    items: Any = []
    if not words or draw(st.booleans()):
        more, items = draw(_item_lists(2, exact))
        written += more
    return Expression(" ".join(filter(None, written)), ("filter", words, items))
