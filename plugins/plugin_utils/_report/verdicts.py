# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Descriptions of the verdicts."""

from __future__ import annotations

from typing import NamedTuple

from ...module_utils._core.api.stuck import NO_VERDICT


class Description(NamedTuple):
    """A verdict for operators.

    title: its name, as engineers say it. short: what it means, in a few words; completes "title:".
    cause: completes "make no progress because ...". meaning: state of the connection. remedy:
    advice for the next step. family: key of FAMILIES; its verdicts share a hue.
    """

    title: str
    short: str
    cause: str
    meaning: str
    remedy: str
    family: str


FAMILIES = {
    "network": "Network lost",
    "peer": "Waiting for the peer",
    "closing": "Close incomplete",
    "replaced": "Replaced by another connection",
    "maybe": "May be healthy",
}

# In order of precedence, as api.stuck.PRECEDENCE.
VERDICTS: dict[str, Description] = {
    "address_gone": Description(
        "address gone",
        "no interface has the local address",
        "the local address is gone",
        "No interface on the host has the local address of the connection, so replies cannot "
        "arrive.",
        "The application must reconnect. Destroying the socket reports the loss to it at once.",
        "network",
    ),
    "unroutable": Description(
        "no route",
        "there is no route to the peer",
        "there is no route to the peer",
        "The host has no route to the peer from the local address of the connection.",
        "Check the routes and policy routing rules for the source address, mark and user of the "
        "connection.",
        "network",
    ),
    "no_carrier": Description(
        "no carrier",
        "the link of the route is down",
        "the link is down",
        "The route uses an interface that has no carrier.",
        "Check the cable, the switch port or the other end of the link.",
        "network",
    ),
    "zero_window": Description(
        "zero window",
        "the peer does not read",
        "the peer's receive window is zero",
        "The peer acknowledges data but accepts no more: its receive window is zero. Unsent data "
        "is queued here, and the kernel sends window probes.",
        "Check the application on the peer. Its host responds, but the application does not read.",
        "peer",
    ),
    "retransmitting": Description(
        "retransmitting",
        "the peer does not acknowledge",
        "the peer does not acknowledge data",
        "The kernel retransmits data repeatedly and receives no acknowledgement.",
        "Check whether the peer or the path to it is down. A firewall that dropped the state of "
        "the connection looks the same.",
        "peer",
    ),
    "syn_sent": Description(
        "SYN_SENT",
        "the peer does not answer",
        "the peer does not answer the SYN",
        "The application connects, and the peer does not answer the SYN.",
        "Check for a firewall that drops packets, and for a host that is down.",
        "peer",
    ),
    "close_wait": Description(
        "CLOSE_WAIT",
        "the application has not closed its end",
        "the application has not closed its end",
        "The peer closed the connection, but the application on this host has not closed its end.",
        "Almost always a bug in the local application: it leaks file descriptors.",
        "closing",
    ),
    "fin_wait": Description(
        "FIN_WAIT",
        "the close does not complete",
        "the close does not finish",
        "This host closed the connection, but data is unsent or the peer does not close its end. "
        "The state is FIN_WAIT1, FIN_WAIT2, CLOSING or LAST_ACK.",
        "Check the application on the peer. The kernel times out only connections that no local "
        "process holds.",
        "closing",
    ),
    "orphaned": Description(
        "orphaned",
        "no process holds the socket",
        "the owning process is gone",
        "No process holds the socket, and the kernel still tries to deliver the remaining data.",
        "The kernel gives up after tcp_orphan_retries. You can destroy the socket earlier.",
        "closing",
    ),
    "superseded": Description(
        "superseded",
        "the peer uses another connection",
        "the peer uses another connection",
        "Nothing arrives on this connection, while another one from the same peer to the same port "
        "receives data.",
        "The peer probably restarted without closing the connection. Only the other one is in use.",
        "replaced",
    ),
    "rerouted": Description(
        "rerouted",
        "the route has changed",
        "the route has changed",
        "The route uses an interface other than the one that has the local address. Working "
        "asymmetric routing looks the same.",
        "Check whether a VPN or a second uplink should carry the connection: it bypasses them.",
        "maybe",
    ),
    "silent": Description(
        "silent",
        "nothing received for a long time",
        "nothing was received for a long time",
        "Nothing was received for a long time, and no keepalive would detect that the peer is "
        "gone. A healthy idle pool looks the same.",
        "Enable keepalive on the socket. Without it, only the application can detect a dead peer.",
        "maybe",
    ),
}

_UNKNOWN = Description(
    "no verdict",
    "it matches the selector",
    "it matches the selector",
    "The connection matches the selector of the report, but the kernel's data gives no verdict.",
    "Check the numbers of the connection.",
    "maybe",
)


_UNLISTED = Description(
    "",
    "a verdict that this version does not describe",
    "of a verdict that this version does not describe",
    "A host reported this verdict, but this version of the report does not describe it. The host "
    "probably has another version of the collection.",
    "Check the evidence of the connection.",
    "maybe",
)


def describe(name: str) -> Description:
    """Return the description of a verdict; an unknown verdict gets its name as title."""
    known = VERDICTS.get(name)
    if known is not None:
        return known
    return _UNKNOWN if name == NO_VERDICT else _UNLISTED._replace(title=name)
