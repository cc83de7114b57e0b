# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: verdicts in people's words: what each means, and asks for."""

from __future__ import annotations

from typing import NamedTuple


class Words(NamedTuple):
    """Of a verdict.

    title: a few words. because: continues "make no progress because ...".
    meaning: what the kernel has seen. remedy: what a person would look at next. family: which
    verdicts look alike in pictures; one of FAMILIES.
    """

    title: str
    because: str
    meaning: str
    remedy: str
    family: str


FAMILIES = {
    "network": "The network under it is gone",
    "peer": "The peer does not answer",
    "closing": "It is not brought to an end",
    "replaced": "Another connection took over",
    "maybe": "May be in order",
}

# In order of precedence: where a connection has several, the first is the one that it is counted
# under. A cause comes before what follows from it, and what is certain before what is not.
VERDICTS: dict[str, Words] = {
    "address_gone": Words(
        "address gone",
        "the local address is gone",
        "No interface of the host holds its local address any more, so no answer can reach it.",
        "The application has to connect anew. Destroying the socket tells it so at once.",
        "network",
    ),
    "unroutable": Words(
        "no route",
        "there is no route to the peer",
        "The host has no route to the peer from the address of this connection.",
        "Look at routes and policy rules, with the connection's own address, mark and user.",
        "network",
    ),
    "no_carrier": Words(
        "link down",
        "the link is down",
        "The route leads over an interface that has lost its carrier.",
        "Look at the cable, the switch port or the peer of the link.",
        "network",
    ),
    "zero_window": Words(
        "peer reads no more",
        "the peer reads no more",
        "The peer's window is shut: it acknowledges, but takes no more data. What is to be sent "
        "waits here, and the kernel asks again from time to time.",
        "Look at the application on the peer: its host is alive, but it does not read.",
        "peer",
    ),
    "retransmitting": Words(
        "not acknowledged",
        "nothing is acknowledged",
        "Data was sent again and again, and nothing came back.",
        "Ask whether the peer, or the way to it, is gone. A firewall that forgot the connection "
        "looks the same.",
        "peer",
    ),
    "syn_sent": Words(
        "connect unanswered",
        "nobody answers the connect",
        "The application wants to connect, and the peer does not answer at all.",
        "Look for a firewall that drops, or a host that is not there.",
        "peer",
    ),
    "close_wait": Words(
        "application does not close",
        "the application does not close",
        "The peer has ended the connection. The application on this host has not noticed, or has "
        "forgotten to close its own end (CLOSE_WAIT).",
        "Nearly always a fault of the application here: its descriptors leak.",
        "closing",
    ),
    "fin_wait": Words(
        "close does not finish",
        "the close does not finish",
        "It was closed here, but data is unsent, or the peer does not close its own end.",
        "Look at the application on the peer. The kernel gives up by itself only where nobody here "
        "holds the socket.",
        "closing",
    ),
    "orphaned": Words(
        "no process left",
        "the process is gone",
        "The application is gone, and the kernel still tries to deliver what it left behind.",
        "It ends when tcp_orphan_retries are used up, or when it is destroyed.",
        "closing",
    ),
    "superseded": Words(
        "replaced",
        "the peer has connected anew",
        "Nothing is heard on it, while another connection from the same peer to the same port is.",
        "The peer has probably restarted without saying goodbye. Only the other one is in use.",
        "replaced",
    ),
    "rerouted": Words(
        "leaves elsewhere",
        "the route has changed",
        "Its route leads over another interface than the one that holds its address. Asymmetric "
        "routing that works looks the same.",
        "Was a VPN or a second uplink meant to carry it? Then it bypasses it.",
        "maybe",
    ),
    "silent": Words(
        "silent",
        "nothing was heard for long",
        "Nothing was received for long, and no keepalive would notice if the peer were gone. A "
        "pool that is idle and in order looks the same.",
        "Keepalive on the socket would tell. Without it, only the application can know.",
        "maybe",
    ),
}

# A connection that was selected, but of which the record gives no verdict.
UNNAMED = Words(
    "no verdict",
    "the selector means it",
    "The selector of the report means it, and the kernel's numbers give no verdict.",
    "Look at its numbers.",
    "maybe",
)
RANK = {name: rank for rank, name in enumerate(VERDICTS)}


def words(name: str) -> Words:
    """Of a verdict that is not known here, what can be said of any."""
    known = VERDICTS.get(name)
    if known is not None:
        return known
    return UNNAMED if name == "none" else UNNAMED._replace(title=name)


def certain(name: str) -> bool:
    """Whether a connection with this verdict makes no progress, rather than perhaps none."""
    return words(name).family != "maybe"
