# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: selectors, as the policy's JSON Schema describes them."""

from __future__ import annotations

from collections.abc import Mapping

from ...netlink import constants
from ...selector.predicates.numeric import QUANTITIES
from ...selector.predicates.socket import STATES_BY_NAME
from ...selector.predicates.verdict import CLOCK_MAX_MS
from ...values import PORT_MAX, UID_MAX
from ...verdicts.stranded import STRANDED
from ...verdicts.stuck import STUCK
from .builder import (
    INTERFACE,
    Schema,
    comparison,
    duration,
    listed,
    mapping,
    one_or_more,
    reference,
    text,
    told,
    whole,
    whole_or_text,
    words,
)

_U32_MAX = 2**32 - 1
_PID_MAX = 2**22
_MARK = r"(0[xX][0-9a-fA-F]+|[0-9]+)"

_END = (
    "An address, a prefix, address:port, [v6 address]:port, or interface:NAME for any address that "
    "the interface holds at the moment. Of a list one must hold. IPv4 prefixes match IPv4 inside "
    "IPv6 sockets too. While an interface is not there, or holds no address, this is unknown, and "
    "matches nothing, under `not` either."
)
_PORT = "A port, a range such as 8000-8100, or the name of a service of the host."
_COMPARED = {
    "send_queue": "Bytes sent and not acknowledged, or not sent yet.",
    "recv_queue": "Bytes that the application has not read.",
    "retransmits": "How often the running timer fired without an answer.",
    "total_retransmits": "Segments retransmitted over the life of the connection.",
    "unacked": "Segments under way.",
    "lost": "Segments taken for lost.",
    "backoff": "How often the retransmission timeout doubled.",
    "probes": "Unanswered window or keepalive probes.",
    "cwnd": "The congestion window, in segments.",
    "notsent": "Bytes that the application wrote and that were never sent so far.",
    "bytes_sent": "Bytes sent over the life of the connection.",
    "bytes_acked": "Bytes acknowledged over the life of the connection.",
    "bytes_received": "Bytes received over the life of the connection.",
    "rtt": "The round-trip time.",
    "rttvar": "How much the round-trip time varies.",
    "min_rtt": "The shortest round-trip time that was measured.",
    "rto": "The retransmission timeout.",
    "last_sent": "Time since data was sent.",
    "last_received": "Time since data was received.",
    "last_ack": "Time since an acknowledgement was received.",
}
_EXAMPLES = {
    "count": (">0", ">= 3 < 10"),
    "size": (">0", ">= 64k"),
    "duration": (">200ms", "> 200ms <5s"),
}


def _verdicts(names: Mapping[str, str]) -> str:
    return " ".join(f"{name}: {meaning}." for name, meaning in names.items())


def _comparison(name: str) -> Schema:
    return told(
        one_or_more(comparison(QUANTITIES[name].unit)),
        f"{_COMPARED[name]} Comparisons that must all hold, in one string; of a list one string "
        "must hold.",
        *_EXAMPLES[QUANTITIES[name].unit],
    )


_STUCK = {
    "anyOf": [
        words(STUCK),
        mapping(
            {
                "verdict": told(one_or_more(words(STUCK)), "Which verdict."),
                "for": told(
                    duration(0, CLOCK_MAX_MS),
                    "For at least so long, as the kernel's clocks prove.",
                    "10m",
                ),
            },
            ["verdict"],
            "A verdict, and for how long",
        ),
    ]
}
_STRANDED = {
    "anyOf": [
        words(STRANDED),
        mapping(
            {
                "verdict": told(one_or_more(words(STRANDED)), "Which verdict."),
                "to": told(
                    one_or_more(INTERFACE),
                    "With rerouted: the interfaces by which the packets leave now. Needed where "
                    "sockets are destroyed by it, since asymmetric routing that works looks the "
                    "same.",
                    ["wg0"],
                ),
            },
            ["verdict"],
            "A verdict, and to where",
        ),
    ]
}

_PROPERTIES: dict[str, Schema] = {
    "protocol": told(
        one_or_more(words(constants.PROTOCOLS)),
        "The transport protocol.",
        "tcp",
        ["tcp", "udp"],
        default="tcp",
    ),
    "family": told(
        one_or_more(words(constants.FAMILIES)),
        "The address family; an IPv6 socket that carries IPv4 is inet6.",
        "inet6",
    ),
    "state": told(
        one_or_more(words(STATES_BY_NAME)),
        "A state or a group of states, by the names of ss(8). Without it: what plain ss shows, all "
        "but listening, closed, time-wait and syn-recv. Written out (state: all) it says that all "
        "are meant.",
        "established",
        ["established", "close-wait"],
    ),
    "local": told(one_or_more(text()), f"The local end. {_END}", "interface:wg0", "192.0.2.1:443"),
    "remote": told(
        one_or_more(text()), f"The remote end. {_END}", "10.0.0.0/8", ["192.0.2.7", "fd00::/8"]
    ),
    "local_port": told(
        one_or_more(whole_or_text(0, PORT_MAX)), f"The local port. {_PORT}", 5000, "8000-8100"
    ),
    "remote_port": told(
        one_or_more(whole_or_text(0, PORT_MAX)), f"The remote port. {_PORT}", 443, "https"
    ),
    "device": told(one_or_more(INTERFACE), "The interface that the socket is bound to.", "wg0"),
    "mark": told(
        one_or_more(
            {
                "anyOf": [
                    {"type": "integer", "minimum": 0, "maximum": _U32_MAX},
                    text(
                        rf"^\s*{_MARK}\s*(/\s*{_MARK})?\s*$",
                        "a mark such as 51820 or 0x10, or value/mask such as 0x10/0xff",
                    ),
                ]
            }
        ),
        "The socket's mark (SO_MARK): a value, or value/mask.",
        51820,
        "0x10/0xff",
    ),
    "user": told(
        one_or_more(whole_or_text(0, UID_MAX)),
        "Whose the socket is: a user's name on the host, a uid, or a range of uids.",
        "alice",
        "1000-60000",
    ),
    "cgroup": told(
        one_or_more(text()),
        "A path below the cgroup v2 mount and everything below it, so also a systemd unit; where "
        "the socket was made.",
        "/system.slice/backup.service",
    ),
    "process": told(
        one_or_more(text()), "The command of a process that holds the socket.", "nginx"
    ),
    "pid": told(
        one_or_more(whole(1, _PID_MAX)), "The number of a process that holds the socket.", 4242
    ),
    "idle": told(
        duration(1, CLOCK_MAX_MS),
        "No data either way for at least so long; with data unacknowledged only what was received "
        "counts. TCP only.",
        "10m",
    ),
    **{name: _comparison(name) for name in QUANTITIES},
    "congestion": told(
        one_or_more(text()), "The name of the congestion control algorithm.", "cubic", "bbr"
    ),
    "stuck": told(
        one_or_more(_STUCK),
        f"Why a connection makes no progress. {_verdicts(STUCK)} silent is never enough to "
        "destroy a socket.",
        "zero_window",
        {"verdict": "close_wait", "for": "10m"},
    ),
    "stranded": told(
        one_or_more(_STRANDED),
        f"Why the network under a connection is gone. {_verdicts(STRANDED)}",
        ["address_gone", "unroutable"],
        {"verdict": "rerouted", "to": ["wg0"]},
    ),
    "superseded": told(
        mapping(
            {
                "silent_for": told(
                    duration(1, CLOCK_MAX_MS), "Nothing was received for at least so long.", "30s"
                )
            },
            ["silent_for"],
        ),
        "The peer goes on in another connection to the same local address and port. Needs "
        "local_port.",
        {"silent_for": "30s"},
    ),
    "expression": told(
        one_or_more(text()),
        "A filter in the language of ss(8).",
        "state established ( dport = :443 ) and not dst 10.0.0.0/8",
    ),
    "not": told(
        reference("selector"),
        "A selector that must not hold. What is unknown is unknown here too, and matches nothing.",
        {"remote": "10.0.0.0/8"},
    ),
    "any": told(
        listed(reference("selector")),
        "Selectors of which one must hold.",
        [{"remote": "10.0.0.0/8"}, {"local": "interface:wg0"}],
    ),
    "all": told(listed(reference("selector")), "Selectors that must all hold."),
}

SELECTOR: Schema = told(
    mapping(_PROPERTIES, title="A selector"),
    "Which sockets are meant. All keys must hold; of a list under a key one must. What is unknown "
    "never matches.",
    {"user": "1000-60000", "not": {"local": "interface:wg0"}},
)
