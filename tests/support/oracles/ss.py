# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parser of the output of ss(8) (iproute2 6.1, misc/ss.c: tcp_show_info, tcp_stats_print)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.support.topologies.topology import LabNamespace

OPTIONS = ("-H", "-O", "-n", "-a", "-i", "-e", "-m", "-o", "--tos", "--inet-sockopt")
STATES = {
    "ESTAB": "established",
    "SYN-SENT": "syn-sent",
    "SYN-RECV": "syn-recv",
    "FIN-WAIT-1": "fin-wait-1",
    "FIN-WAIT-2": "fin-wait-2",
    "TIME-WAIT": "time-wait",
    "UNCONN": "closed",
    "CLOSE-WAIT": "close-wait",
    "LAST-ACK": "last-ack",
    "LISTEN": "listening",
    "CLOSING": "closing",
}
_ARROWS = {"<->": "none", "-->": "receive", "<--": "send", "---": "both"}
_WORDS = frozenset({"ts", "sack", "ecn", "ecnseen", "fastopen", "app_limited", "bidir"})
_RATES = frozenset({"send", "pacing_rate", "delivery_rate"})
_SKMEM = {
    "r": "rmem_alloc",
    "rb": "rcvbuf",
    "t": "wmem_alloc",
    "tb": "sndbuf",
    "f": "fwd_alloc",
    "w": "wmem_queued",
    "o": "optmem",
    "bl": "backlog",
    "d": "drops",
}
_MPTCP_WORDS = frozenset({"remote_key", "server_side", "fallback", "csum_enabled"})
_TIMER = re.compile(
    r"(?:(?P<min>\d+)min)?(?:(?P<sec>\d+)sec)?(?:(?P<full>\d+)\.)?(?:(?P<ms>\d+)ms)?"
)


@dataclass
class Shown:
    """A line of ss. values: the `name:value` pairs. words: the single words."""

    state: str
    recv_queue: int
    send_queue: int
    local: str
    local_port: int
    remote: str
    remote_port: int
    device: str | None
    mapped: bool
    line: str
    timer: str | None = None
    timer_ms: int | None = None
    timer_exact: bool = True
    retransmits: int = 0
    shutdown: str | None = None
    options: frozenset[str] | None = None
    memory: dict[str, int] | None = None
    congestion: str | None = None
    congestion_info: dict[str, str] | None = None
    ulp_values: dict[str, str] = field(default_factory=dict)
    ulp: str | None = None
    words: set[str] = field(default_factory=set)
    values: dict[str, str] = field(default_factory=dict)
    rates: dict[str, str] = field(default_factory=dict)

    @property
    def cookie(self) -> str | None:
        return self.values.get("sk")


def show(where: LabNamespace, *selection: str) -> list[Shown]:
    """List the sockets that ss shows in the namespace, in all states."""
    return [parse(line) for line in where.output("ss", *OPTIONS, *selection).splitlines()]


def parse(line: str, state: str | None = None) -> Shown:
    """Parse a line. Raises ValueError for an unknown word, so that no field is missed.

    state: the state that was requested from ss, which then omits it.
    """
    words_of_line = line.split() if state is None else [state, *line.split()]
    state, recv_queue, send_queue, local, remote, *rest = words_of_line
    address, device, mapped, port = _end(local)
    far_address, _device, far_mapped, far_port = _end(remote)
    shown = Shown(
        state=STATES.get(state, state),
        recv_queue=int(recv_queue),
        send_queue=int(send_queue),
        local=address,
        local_port=port,
        remote=far_address,
        remote_port=far_port,
        device=device,
        mapped=mapped or far_mapped,
        line=line,
    )
    words = iter(rest)
    for word in words:
        _take(shown, word, words)
    return shown


def _end(text: str) -> tuple[str, str | None, bool, int]:
    """Parse ADDRESS[%DEVICE]:PORT. IPv6 is in brackets; * is any address of either family."""
    address, _colon, port = text.rpartition(":")
    address, _percent, device = address.partition("%")
    address = address.strip("[]")
    number = 0 if port == "*" else int(port)
    if address == "*":
        return "::", device or None, False, number
    parsed = ipaddress.ip_address(address)
    plain = getattr(parsed, "ipv4_mapped", None)
    return str(plain or parsed), device.strip("]") or None, plain is not None, number


def _take(shown: Shown, word: str, words: Iterator[str]) -> None:
    name, colon, value = word.partition(":")
    if word in _ARROWS:
        shown.shutdown = _ARROWS[word]
    elif name == "timer":
        _take_timer(shown, value)
    elif name == "inet-sockopt":
        options = []
        for option in iter(lambda: next(words), None):
            options.append(option.strip("()"))
            if option.endswith(")"):
                break
        shown.options = frozenset(filter(None, options))
    elif name == "skmem":
        found = re.findall(r"([a-z]+)(\d+)", value)
        shown.memory = {_SKMEM[key]: int(number) for key, number in found}
    elif colon and value.startswith("("):
        inner = (pair.split(":", 1) for pair in value.strip("()").split(","))
        shown.congestion_info = dict(inner)  # type: ignore[arg-type]
        shown.congestion_info["algorithm"] = name
    elif word.startswith("tcp-ulp-"):
        # The rest of the line belongs to the protocol.
        shown.ulp = word[len("tcp-ulp-") :]
        pairs = (rest.split(":", 1) for rest in words if ":" in rest)
        shown.ulp_values = {key: text for key, text in pairs if key != "flags"}
    elif word in _RATES:
        shown.rates[word] = next(words)
    elif colon:
        shown.values[name] = value
    elif word in _WORDS or word in _MPTCP_WORDS:
        shown.words.add(word)
    elif shown.congestion is None:
        shown.congestion = word
    else:
        raise ValueError(f"unknown word {word!r}, in: {shown.line}")


def _take_timer(shown: Shown, value: str) -> None:
    """Parse (NAME,TIME,RETRANSMITS). print_ms_timer omits small parts of a long time."""
    name, when, retransmits = value.strip("()").split(",")
    match = _TIMER.fullmatch(when)
    if match is None:
        raise ValueError(f"unknown time {when!r}, in: {shown.line}")
    minutes, seconds, full, milliseconds = (int(part or 0) for part in match.groups())
    shown.timer = name
    shown.timer_ms = minutes * 60_000 + (seconds + full) * 1000 + milliseconds
    shown.timer_exact = not minutes and seconds + full <= 9
    shown.retransmits = int(retransmits)
