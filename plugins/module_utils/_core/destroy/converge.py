# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: destroys sockets in passes, until a fresh look shows no progress.

The kernel finds a socket by its addresses and then compares the cookie. Of several that share
them (SO_REUSEPORT) it finds one, so each pass may reach others than the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from ..errors import SocketsError
from ..netlink.constants import ESTABLISHED, STREAMS
from ..netlink.inet_diag import DiagMessage
from ..sockets.session import NamespaceSession
from ..sockets.socket import Socket
from . import outcomes
from .engines.base import Engine
from .verify import still_there

_MOST_PASSES = 256


def run_passes(session: NamespaceSession, engine: Engine, sockets: Sequence[Socket]) -> list[str]:
    """Destroy these sockets, none of which the engine declines; the outcome of each.

    A socket that is gone, and of which the kernel never said that it destroyed it, was
    `already_gone`. One that is still there and was refused for a reason has that reason's outcome.
    One that could not be looked at again counts as `survived`.
    """
    outcome: dict[int, str] = {}
    acknowledged: set[int] = set()
    pending: Sequence[Socket] = sockets
    for _pass in range(_MOST_PASSES):
        refusals: dict[int, str] = {}
        try:
            answers = engine.destroy(session, pending)
        except SocketsError:
            if pending is sockets:
                raise
            break
        present = _look_again(session, pending)
        if present is None:
            break
        if pending is sockets and not present and all(answer.acknowledged for answer in answers):
            # The common case, and thousands of sockets go through it.
            return [outcomes.DESTROYED] * len(answers)
        for sock, answer in zip(pending, answers):
            if answer.acknowledged:
                acknowledged.add(sock.message.cookie)
            elif answer.refusal is not None:
                refusals[sock.message.cookie] = answer.refusal
        left: list[Socket] = []
        for sock in pending:
            cookie = sock.message.cookie
            now = present.get(cookie)
            if now is None or _disconnected(sock.message, now):
                if cookie not in acknowledged:
                    outcome[cookie] = outcomes.ALREADY_GONE
                elif now is None:
                    outcome[cookie] = outcomes.DESTROYED
                else:
                    outcome[cookie] = outcomes.DISCONNECTED
            elif cookie in refusals:
                outcome[cookie] = refusals[cookie]
            else:
                left.append(sock)
        progress = len(left) < len(pending)
        pending = left
        if not pending or not progress:
            break
    for sock in pending:
        outcome[sock.message.cookie] = outcomes.SURVIVED
    return [outcome[sock.message.cookie] for sock in sockets]


def _look_again(
    session: NamespaceSession, sockets: Sequence[Socket]
) -> dict[int, DiagMessage] | None:
    """What still_there tells; None where the kernel gives no whole answer twice in a row.

    Then nothing is proven, and nothing is called done; but what is known of the others is kept.
    """
    for _attempt in range(2):
        with suppress(SocketsError):
            return still_there(session, sockets)
    return None


def _disconnected(before: DiagMessage, now: DiagMessage) -> bool:
    """Whether a datagram socket that is still there has lost the remote that it had.

    Its state says so (__udp_disconnect); the address of an IPv6 remote stays in the record.
    """
    if before.protocol in STREAMS or before.state != ESTABLISHED:
        return False
    return now.state != ESTABLISHED or (before.dport, before.dst) != (now.dport, now.dst)
