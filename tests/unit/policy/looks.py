# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks that nobody made, of sockets that are not there: for the engine."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from typing import cast

from linuxnet_sockets.destroy.outcomes import Result
from linuxnet_sockets.errors import NetlinkError
from linuxnet_sockets.guard.reason import Reason
from linuxnet_sockets.host.namespaces import Namespace
from linuxnet_sockets.netlink.inet_diag import DiagMessage
from linuxnet_sockets.policy.decide import Decision, Enforced, Engine
from linuxnet_sockets.policy.evaluate import Judgement, Unseen, Violation
from linuxnet_sockets.policy.model import Policy, Rule
from linuxnet_sockets.sockets.slots import SlotStore
from linuxnet_sockets.sockets.snapshot import Snapshot
from linuxnet_sockets.sockets.socket import Socket

ERROR = NetlinkError("list tcp sockets", 5)


class Place(SlotStore):
    """Stands for the environment of a look."""

    def __init__(self, number: int = 1) -> None:
        super().__init__()
        self.namespace = Namespace(f"namespace-{number}", None, (4, number))


HERE = Place(1)
THERE = Place(2)


def decoded(
    cookie: int, place: Place = HERE, *, remote: str = "198.51.100.7", remote_port: int = 443
) -> Socket:
    """A connection; each has a local port of its own."""
    sock = DiagMessage(
        protocol="tcp",
        family=socket.AF_INET,
        state=1,
        timer=0,
        retrans=0,
        sport=1024 + cookie,
        dport=remote_port,
        src=socket.inet_aton("192.0.2.1") + bytes(12),
        dst=socket.inet_aton(remote) + bytes(12),
        ifindex=0,
        cookie=cookie,
        expires=0,
        rqueue=0,
        wqueue=0,
        uid=1000,
        inode=cookie,
        attributes=b"",
    )
    return Socket(sock, cast(Snapshot, place))


def look(
    policy: Policy,
    now_ms: int,
    seen: Mapping[str, Iterable[Socket]] | Iterable[Socket],
    place: Place = HERE,
    *,
    took_ms: int = 0,
    protected: Mapping[int, str] | None = None,
    failed: Iterable[str] = (),
    guarded: bool = True,
) -> Judgement:
    """A look that shows these sockets to violate: by the name of the rule, or all of them each.

    protected: by cookie.
    """
    rules = {rule.name: rule for rule in policy.rules}
    by_rule = seen if isinstance(seen, Mapping) else {name: list(seen) for name in rules}
    violations = [
        violation(rules[name], each, protected or {}, guarded=guarded)
        for name in rules
        for each in by_rule.get(name, ())
    ]
    return Judgement(
        place.namespace,
        now_ms,
        now_ms + took_ms,
        tuple(violations),
        dict.fromkeys(rules, True),
        dict.fromkeys(failed, ERROR),
    )


def violation(
    rule: Rule, each: Socket, protected: Mapping[int, str], *, guarded: bool = True
) -> Violation:
    why = protected.get(each.cookie)
    return Violation(rule, each, (), guarded, None if why is None else Reason(why))


def unseen(place: Place = HERE) -> Unseen:
    return Unseen(place.namespace.name, place.namespace.identity, ERROR)


def told(decision: Decision) -> dict[int, str]:
    """Status by cookie, where there is one rule."""
    return {each.violation.socket.cookie: each.status for each in decision.findings}


def doomed(decision: Decision) -> list[int]:
    return [each.socket.cookie for each in decision.destroy]


def came_out(engine: Engine, decision: Decision, now_ms: int, outcome: str = "destroyed") -> None:
    """All that was to be destroyed had this outcome."""
    engine.done([Enforced(each, Result(each.socket, outcome)) for each in decision.destroy], now_ms)


def a_pass(
    engine: Engine, now_ms: int, *looks: Judgement | Unseen, withheld: str | None = None
) -> Decision:
    """See, decide, and be done with it; what is to be destroyed is."""
    engine.see(looks)
    decision = engine.decide(now_ms, withheld=withheld)
    came_out(engine, decision, now_ms)
    return decision
