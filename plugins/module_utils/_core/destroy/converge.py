# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Destruction in rounds, until a new dump shows no more progress.

The kernel looks a socket up by its addresses and then compares the cookie. Of several sockets with
the same addresses (SO_REUSEPORT) it finds one, so each round may reach other sockets.
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
from .verify import find_remaining

_MAX_ROUNDS = 256


def destroy_until_stable(
    session: NamespaceSession, engine: Engine, sockets: Sequence[Socket]
) -> list[str]:
    """Destroy sockets that the engine handles. Returns the outcome of each.

    `already_gone`: the socket no longer exists, and the kernel never acknowledged its destruction.
    `survived`: it still exists, or the dump that would prove the contrary failed. If it still
    exists and the engine gave a refusal, that is its outcome. Raises what the engine raises in the
    first round.
    """
    outcome: dict[int, str] = {}
    acknowledged: set[int] = set()
    pending: Sequence[Socket] = sockets
    for _round in range(_MAX_ROUNDS):
        refusals: dict[int, str] = {}
        try:
            answers = engine.destroy(session, pending)
        except SocketsError:
            if pending is sockets:
                raise
            break
        remaining = _find_remaining(session, pending)
        if remaining is None:
            break
        if pending is sockets and not remaining and all(answer.acknowledged for answer in answers):
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
            now = remaining.get(cookie)
            if now is None or _is_disconnected(sock.message, now):
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


def _find_remaining(
    session: NamespaceSession, sockets: Sequence[Socket]
) -> dict[int, DiagMessage] | None:
    """As find_remaining; None: the dump failed twice, so nothing is proven about the sockets."""
    for _attempt in range(2):
        with suppress(SocketsError):
            return find_remaining(session, sockets)
    return None


def _is_disconnected(before: DiagMessage, now: DiagMessage) -> bool:
    """Whether a datagram socket that still exists has lost its remote.

    The state says so (__udp_disconnect); an IPv6 socket keeps the address.
    """
    if before.protocol in STREAMS or before.state != ESTABLISHED:
        return False
    return now.state != ESTABLISHED or (before.dport, before.dst) != (now.dport, now.dst)
