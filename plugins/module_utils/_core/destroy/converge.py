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
from ..netlink.inet_diag import Sock
from ..query.find import View
from ..sockets.socket import Subject
from . import outcomes
from .engines.base import Engine
from .verify import still_there

_MOST_PASSES = 256


def run_passes(view: View, engine: Engine, subjects: Sequence[Subject]) -> list[str]:
    """Destroy these sockets, none of which the engine declines; the outcome of each.

    A socket that is gone, and of which the kernel never said that it destroyed it, was
    `already_gone`. One that is still there and was refused for a reason has that reason's outcome.
    One that could not be looked at again counts as `survived`.
    """
    outcome: dict[int, str] = {}
    acknowledged: set[int] = set()
    pending: Sequence[Subject] = subjects
    for _pass in range(_MOST_PASSES):
        refusals: dict[int, str] = {}
        try:
            answers = engine.destroy(view, pending)
        except SocketsError:
            if pending is subjects:
                raise
            break
        present = _look_again(view, pending)
        if present is None:
            break
        if pending is subjects and not present and all(answer.acknowledged for answer in answers):
            # The common case, and thousands of sockets go through it.
            return [outcomes.DESTROYED] * len(answers)
        for subject, answer in zip(pending, answers):
            if answer.acknowledged:
                acknowledged.add(subject.sock.cookie)
            elif answer.refusal is not None:
                refusals[subject.sock.cookie] = answer.refusal
        left: list[Subject] = []
        for subject in pending:
            cookie = subject.sock.cookie
            now = present.get(cookie)
            if now is None or _disconnected(subject.sock, now):
                if cookie not in acknowledged:
                    outcome[cookie] = outcomes.ALREADY_GONE
                elif now is None:
                    outcome[cookie] = outcomes.DESTROYED
                else:
                    outcome[cookie] = outcomes.DISCONNECTED
            elif cookie in refusals:
                outcome[cookie] = refusals[cookie]
            else:
                left.append(subject)
        progress = len(left) < len(pending)
        pending = left
        if not pending or not progress:
            break
    for subject in pending:
        outcome[subject.sock.cookie] = outcomes.SURVIVED
    return [outcome[subject.sock.cookie] for subject in subjects]


def _look_again(view: View, subjects: Sequence[Subject]) -> dict[int, Sock] | None:
    """What still_there tells; None where the kernel gives no whole answer twice in a row.

    Then nothing is proven, and nothing is called done; but what is known of the others is kept.
    """
    for _attempt in range(2):
        with suppress(SocketsError):
            return still_there(view, subjects)
    return None


def _disconnected(before: Sock, now: Sock) -> bool:
    """Whether a datagram socket that is still there has lost the remote that it had.

    Its state says so (__udp_disconnect); the address of an IPv6 remote stays in the record.
    """
    if before.protocol in STREAMS or before.state != ESTABLISHED:
        return False
    return now.state != ESTABLISHED or (before.dport, before.dst) != (now.dport, now.dst)
