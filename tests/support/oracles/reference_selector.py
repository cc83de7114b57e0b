# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A simple evaluation of selectors, to compare the real one with.

Selectors and sockets are plain mappings. True is 1, false is 0 and unknown is 0.5. In Kleene's
logic, any is then the maximum, all the minimum, and not the difference from 1. Nothing here uses
the tested code.
"""

from __future__ import annotations

import ipaddress
import operator
import re
from collections.abc import Mapping
from typing import Any

from tests.support.sample_sockets import (
    ADDRESS_FLAGS,
    CGROUPS,
    INTERFACES,
    PORT_RANGE,
    SERVICES,
    STATES,
    USERS,
)

UNKNOWN = 0.5
ALL = set(STATES) - {"bound-inactive"}
GROUPS = {
    "all": ALL,
    "connected": ALL - {"listening", "closed"},
    "synchronized": ALL - {"listening", "closed", "syn-sent"},
    "bucket": {"syn-recv", "time-wait"},
    "big": ALL - {"syn-recv", "time-wait"},
    "close": {"closed"},
    "unconnected": {"closed"},
    "syn-rcv": {"syn-recv"},
    **{name: {name} for name in STATES},
}
PLAIN_SS = ALL - {"listening", "closed", "time-wait", "syn-recv"}
_TCP_ONLY = {
    "total_retransmits": "total_retrans",
    "unacked": "unacked",
    "lost": "lost",
    "backoff": "backoff",
    "probes": "probes",
    "cwnd": "snd_cwnd",
    "notsent": "notsent_bytes",
    "bytes_sent": "bytes_sent",
    "bytes_acked": "bytes_acked",
    "bytes_received": "bytes_received",
    "rtt": "rtt",
    "rttvar": "rttvar",
    "min_rtt": "min_rtt",
    "rto": "rto",
    "last_sent": "last_data_sent",
    "last_received": "last_data_recv",
    "last_ack": "last_ack_recv",
}
_TIMES = {"rtt", "rttvar", "min_rtt", "rto", "last_sent", "last_received", "last_ack"}
_LAST = {"last_sent", "last_received", "last_ack"}
COMPARISONS = ("send_queue", "recv_queue", "retransmits", *_TCP_ONLY)
_US = {"": 10**6, "us": 1, "ms": 10**3, "s": 10**6, "m": 60 * 10**6, "h": 3600 * 10**6}
_SIZES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_OPERATORS = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    "==": operator.eq,
    "": operator.eq,
    "!=": operator.ne,
}


class Expression(str):
    """A filter of ss(8) with the structure that it was written from.

    ast: ("filter", state words, items); items: [("and" | "or" | "", condition), ...], which bind
    from left to right; a condition is ("not", condition), ("(", items) or (predicate, ...).
    """

    ast: Any

    def __new__(cls, text: str, ast: Any) -> Expression:
        made = super().__new__(cls, text)
        made.ast = ast
        return made


def truth(
    selector: Mapping[str, Any], facts: Mapping[str, Any], defaults: bool = True
) -> bool | None:
    """True, False or None for unknown.

    autobound counts as true where both the kernel and the range of ports say so.
    """
    values = {_root(selector, facts, defaults, chosen) for chosen in ("kernel", "range")}
    value = min(values)
    return None if value == UNKNOWN else bool(value)


def _root(
    selector: Mapping[str, Any], facts: Mapping[str, Any], defaults: bool, chosen: str
) -> float:
    parts = [_mapping(selector, facts, chosen)] if selector else []
    if defaults and not _mentions(selector, "protocol"):
        parts.append(facts["protocol"] == "tcp")
    if defaults and not _mentions(selector, "state"):
        parts.append(facts["state"] in PLAIN_SS)
    return min(parts)


def _mentions(value: Any, key: str) -> bool:
    if isinstance(value, Mapping):
        return key in value or any(_mentions(each, key) for each in value.values())
    if isinstance(value, (list, tuple)):
        return any(_mentions(each, key) for each in value)
    return key == "state" and isinstance(value, Expression) and bool(value.ast[1])


def _mapping(selector: Mapping[str, Any], facts: Mapping[str, Any], chosen: str) -> float:
    values: list[float] = []
    for key, value in selector.items():
        if key == "not":
            values.append(1 - _mapping(value, facts, chosen))
        elif key == "any":
            values.append(max(_mapping(each, facts, chosen) for each in value))
        elif key == "all":
            values.append(min(_mapping(each, facts, chosen) for each in value))
        else:
            listed = value if isinstance(value, list) else [value]
            values.append(max(_key(key, each, facts, chosen) for each in listed))
    return min(values)


def _key(key: str, value: Any, facts: Mapping[str, Any], chosen: str) -> float:
    if key == "expression":
        return _expression(value, facts, chosen)
    if key in ("local", "remote"):
        return _end(str(value), facts[key], facts[f"{key}_port"], facts)
    if key in ("local_port", "remote_port"):
        first, last = _range(value)
        return first <= facts[key] <= last
    if key in COMPARISONS:
        return _comparison(key, str(value), facts)
    return _PLAIN[key](value, facts)


def _range(value: Any) -> tuple[int, int]:
    text = str(value)
    for (name, _protocol), port in SERVICES.items():
        if text == name:
            return port, port
    first, _dash, last = text.partition("-")
    return int(first), int(last or first)


def _protocol(value: Any, facts: Mapping[str, Any]) -> float:
    return facts["protocol"] == value


def _family(value: Any, facts: Mapping[str, Any]) -> float:
    return facts["family"] == value


def _state(value: Any, facts: Mapping[str, Any]) -> float:
    return facts["state"] in GROUPS[value]


def _device(value: Any, facts: Mapping[str, Any]) -> float:
    if value not in INTERFACES:
        return UNKNOWN
    return facts["ifindex"] == INTERFACES[value][0]


def _mark(value: Any, facts: Mapping[str, Any]) -> float:
    if facts["mark"] is None:
        return UNKNOWN
    number, _slash, mask = str(value).partition("/")
    return facts["mark"] & int(mask or "0xffffffff", 0) == int(number, 0)


def _user(value: Any, facts: Mapping[str, Any]) -> float:
    if facts["uid"] == 0 and facts["inode"] == 0:
        return UNKNOWN
    if value in USERS:
        return facts["uid"] == USERS[value]
    first, last = _range(value)
    return first <= facts["uid"] <= last


def _cgroup(value: Any, facts: Mapping[str, Any], below: bool = True) -> float:
    if not facts["cgroup"] or facts["cgroup"] not in CGROUPS:
        return UNKNOWN
    wanted = ["", *filter(None, value.split("/"))]
    if "/".join(wanted) not in ("", *CGROUPS.values()):
        return UNKNOWN
    mine = ["", *filter(None, CGROUPS[facts["cgroup"]].split("/"))]
    return (mine[: len(wanted)] if below else mine) == wanted


def _held(facts: Mapping[str, Any], position: int, wanted: Any) -> float:
    if not facts["processes"] or not facts["inode"]:
        return UNKNOWN
    return any(process[position] == wanted for process in facts["processes"])


def _process(value: Any, facts: Mapping[str, Any]) -> float:
    return _held(facts, 1, value[:15])


def _pid(value: Any, facts: Mapping[str, Any]) -> float:
    return _held(facts, 0, int(value))


def _idle(value: Any, facts: Mapping[str, Any]) -> float:
    if facts["protocol"] != "tcp" or facts["info"] is None:
        return UNKNOWN
    if facts["state"] in ("listening", "syn-sent", "syn-recv"):
        return UNKNOWN
    info = facts["info"]
    quiet = info["last_data_recv"]
    if not info["unacked"]:
        quiet = min(quiet, info["last_data_sent"])
    return quiet * 1000 >= _scaled(str(value), _US)


_STUCK_FOR = {"close_wait": "60", "silent": "2h", "syn_sent": "10", "orphaned": "60"}
_CLOSING = ("fin-wait-1", "fin-wait-2", "closing", "last-ack")
_TICK_US = 10_000


def _stuck(value: Any, facts: Mapping[str, Any]) -> float:
    """Of those that are one clock of the kernel's each, without a timer that backs off."""
    wanted = value if isinstance(value, Mapping) else {"verdict": value}
    name, state, info = wanted["verdict"], facts["state"], facts["info"]
    least = _scaled(str(wanted.get("for", _STUCK_FOR[name])), _US)
    if facts["protocol"] != "tcp":
        return UNKNOWN
    may_be = {
        "close_wait": state == "close-wait",
        "silent": state == "established",
        "syn_sent": state == "syn-sent",
        "orphaned": state in _CLOSING,
    }
    if not may_be[name]:
        return 0
    if info is None:
        return UNKNOWN
    running = bool(facts["retransmits"])
    if name == "silent" and running:
        return 0
    if name == "orphaned" and facts["inode"]:
        return 0
    quiet = min(info["last_data_recv"], info["last_ack_recv"]) * 1000
    if name == "syn_sent" or state in ("fin-wait-1", "closing", "last-ack"):
        # The timer, where it runs, has not backed off; no time is proven.
        quiet = 0
    return max(0, quiet - _TICK_US) >= least


def _unknown(value: Any, facts: Mapping[str, Any]) -> float:  # noqa: ARG001
    """Return unknown: the facts contain no routes and no other sockets."""
    return UNKNOWN


def _superseded(value: Any, facts: Mapping[str, Any]) -> float:
    if facts["protocol"] != "tcp" or facts["info"] is None:
        return UNKNOWN
    if facts["state"] in ("listening", "syn-sent", "syn-recv") or not facts["remote_port"]:
        return UNKNOWN
    quiet = min(facts["info"]["last_data_recv"], facts["info"]["last_ack_recv"]) * 1000
    received = max(0, quiet - _TICK_US) < _scaled(str(value["silent_for"]), _US)
    return 0 if received else UNKNOWN


def _congestion(value: Any, facts: Mapping[str, Any]) -> float:
    if facts["protocol"] not in ("tcp", "mptcp") or facts["congestion"] is None:
        return UNKNOWN
    return facts["congestion"] == value


_ADDRESS_STATES = {"deprecated": 0x20, "temporary": 0x01, "dadfailed": 0x08, "tentative": 0x40}


def _local_state(value: Any, facts: Mapping[str, Any]) -> float:
    address = facts["local"].removeprefix("::ffff:")
    holders = [index for index, addresses in INTERFACES.values() if address in addresses]
    if address.startswith("fe80:") and facts["ifindex"]:
        holders = [index for index in holders if index == facts["ifindex"]]
    if not holders:
        return UNKNOWN
    four = ":" not in address
    return bool(ADDRESS_FLAGS.get(address, 0) & _ADDRESS_STATES[value]) and not (
        four and value == "temporary"
    )


_PLAIN = {
    "local_state": _local_state,
    "protocol": _protocol,
    "family": _family,
    "state": _state,
    "device": _device,
    "mark": _mark,
    "user": _user,
    "cgroup": _cgroup,
    "process": _process,
    "pid": _pid,
    "idle": _idle,
    "congestion": _congestion,
    "stuck": _stuck,
    "stranded": _unknown,
    "superseded": _superseded,
}


def _scaled(text: str, units: Mapping[str, int]) -> float:
    match = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", text)
    assert match, text
    return float(match[1]) * units[match[2].lower()]


def _comparison(key: str, text: str, facts: Mapping[str, Any]) -> float:
    number = _number(key, facts)
    if number is None:
        return UNKNOWN
    units = _US if key in _TIMES else _SIZES
    found = re.findall(r"(>=|<=|==|!=|>|<|=|)\s*([0-9.]+[a-zA-Z]*)", text)
    return all(_OPERATORS[sign](number, _scaled(value, units)) for sign, value in found)


def _number(key: str, facts: Mapping[str, Any]) -> float | None:
    state, protocol, info = facts["state"], facts["protocol"], facts["info"]
    if key in ("send_queue", "recv_queue"):
        return None if state == "listening" else facts[key]
    if key == "retransmits":
        return facts[key] if protocol in ("tcp", "mptcp") else None
    if protocol != "tcp" or info is None:
        return None
    if state in ("listening", "time-wait", "closed", "bound-inactive"):
        return None
    if key in _LAST:
        return None if state in ("syn-sent", "syn-recv") else info[_TCP_ONLY[key]] * 1000
    number: float = info[_TCP_ONLY[key]]
    if key in ("rtt", "rttvar") and not info["rtt"]:
        return None
    if key == "min_rtt" and number in (0, 2**32 - 1):
        return None
    return number


def _in_prefix(prefix: str, address: str, family: str) -> bool:
    network = ipaddress.ip_network(prefix)
    mine = ipaddress.ip_address(address)
    if network.version == mine.version:
        return mine in network
    if network.version == 6 and family == "inet6" and network.subnet_of(_MAPPED):
        return ipaddress.ip_address(f"::ffff:{address}") in network
    return False


_MAPPED = ipaddress.ip_network("::ffff:0:0/96")


def _end(value: str, address: str, port: int, facts: Mapping[str, Any]) -> float:
    if value.startswith("interface:"):
        _word, name, *rest = value.split(":")
        index, addresses = INTERFACES.get(name, (0, ()))
        if not addresses:
            return UNKNOWN
        if rest and int(rest[0]) != port:
            return 0
        return address in addresses and (
            not address.startswith("fe80") or facts["ifindex"] == index
        )
    match = re.fullmatch(r"\[([^\]/]*)\](/\d+)?(?::(\d+))?", value)
    if match is None and value.count(":") <= 1:
        match = re.fullmatch(r"([^:/]*)(/\d+)?(?::(\d+))?", value)
    host, length, wanted = match.groups() if match else (value, None, None)
    host, percent, link = host.partition("%")
    if match is None:
        host, slash, length = host.partition("/")
        length = slash + length
    if percent and link not in INTERFACES:
        return UNKNOWN
    if percent and facts["ifindex"] != INTERFACES[link][0]:
        return 0
    if wanted and int(wanted) != port:
        return 0
    return _in_prefix(host + (length or ""), address, facts["family"])


def _expression(written: Expression, facts: Mapping[str, Any], chosen: str) -> float:
    _filter, words, items = written.ast
    values: list[float] = []
    states: set[str] | None = None
    for word, name in words:
        if word == "state":
            states = GROUPS[name] | (states or set())
        else:
            states = (ALL if states is None else states) - GROUPS[name]
    if states is not None:
        values.append(facts["state"] in states)
    if items:
        values.append(_items(items, facts, chosen))
    return min(values)


def _items(items: Any, facts: Mapping[str, Any], chosen: str) -> float:
    value = _condition(items[0][1], facts, chosen)
    for joined, condition in items[1:]:
        other = _condition(condition, facts, chosen)
        value = max(value, other) if joined in ("or", "|", "||") else min(value, other)
    return value


def _condition(condition: Any, facts: Mapping[str, Any], chosen: str) -> float:
    name, *rest = condition
    if name == "(":
        return _items(rest[0], facts, chosen)
    if name == "not":
        return 1 - _condition(rest[0], facts, chosen)
    if name == "autobound":
        first, last = PORT_RANGE
        return facts["autobound"] if chosen == "kernel" else first <= facts["local_port"] <= last
    if name in ("dport", "sport"):
        mine = facts["remote_port" if name == "dport" else "local_port"]
        return _OPERATORS[rest[0]](mine, rest[1])
    if name in ("dst", "src"):
        side = "remote" if name == "dst" else "local"
        prefix, port = rest
        if port is not None and facts[f"{side}_port"] != port:
            return 0
        return 1 if prefix is None else _in_ss_prefix(prefix, facts[side], facts["family"])
    value = {"dev": _device, "fwmark": _mark}.get(name)
    found = value(rest[1], facts) if value else _cgroup(rest[1], facts, below=False)
    return 1 - found if rest[0] == "!=" else found


def _in_ss_prefix(prefix: str, address: str, family: str) -> float:
    """ss: an IPv6 prefix holds v4-mapped addresses by their bits; length 0 is true or unknown."""
    network = ipaddress.ip_network(prefix, strict=False)
    mine = ipaddress.ip_address(address)
    if network.version == 6 and mine.version == 4 and family == "inet6":
        mine = ipaddress.ip_address(f"::ffff:{address}")
    if network.version == mine.version and mine in network:
        return 1
    return UNKNOWN if network.prefixlen == 0 else 0
