# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the work of socket_diag_facts."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from .._core.errors import InputError
from .._core.host.host import Host
from .._core.host.kernel_config import read_config
from .._core.host.namespaces import resolve
from .._core.netlink.constants import CLOSED, LISTENING
from .._core.query.capabilities import ProtocolSupport, may_destroy, support_for_caller
from .._core.query.find import View, find_as, look_into_each
from .._core.selector.parse import parse_selector
from .._core.sockets.socket import Subject
from .run import Answer, Request
from .summary import first
from .verdict_totals import Judged, VerdictTotals, nested_verdicts

MAX_LIMIT = 200
MAX_PEERS = 20
MAX_COMMANDS = 5

_DATAGRAMS = frozenset({"udp", "udplite"})


def gather(request: Request, host: Host) -> Answer:
    """Facts whose size does not grow with the number of sockets, and that hold no cookies."""
    limit = _checked_limit(request.options["limit"])
    namespaces = resolve(
        request.options["namespaces"], proc=host.proc, directories=host.netns_directories
    )
    # In this role a selector has no defaults: every protocol that the kernel lists.
    selector = parse_selector({"state": "all"}, names=host, role="protect")
    totals: Counter[tuple[str, str]] = Counter()
    verdicts: Counter[tuple[str, str]] = Counter()
    peers: Counter[str] = Counter()
    listeners: list[Subject] = []
    looked_at: list[dict[str, Any]] = []
    protocols: dict[str, ProtocolSupport] = {}
    permitted = True

    def one(view: View) -> _Namespace:
        environment = view.environment()
        verdicts = VerdictTotals(view, environment)
        bits = verdicts.extensions

        def seen(subject: Subject) -> _Seen:
            return _seen(subject, verdicts.judged(subject))

        found = find_as(seen, view, selector, environment, extensions=bits)
        return _Namespace(
            view.namespace.label,
            found,
            may_destroy(view),
            support_for_caller(view),
            verdicts.totals([each.judged for each in found]),
        )

    for each in look_into_each(host, namespaces, one):
        totals.update((seen.protocol, seen.state) for seen in each.found)
        verdicts.update(each.verdicts)
        peers.update(seen.remote for seen in each.found if seen.remote is not None)
        listeners += (seen.listener for seen in each.found if seen.listener is not None)
        looked_at.append(
            {
                "name": each.label,
                "may_destroy": each.may_destroy,
                "sockets": len(each.found),
            }
        )
        # The kernel is one; what the caller may differs. The first namespace that bars it tells.
        if not protocols or (permitted and not each.may_destroy):
            protocols = each.support
        permitted = permitted and each.may_destroy
    facts = {
        "kernel": host.release,
        "support": {name: verdict._asdict() for name, verdict in protocols.items()},
        "kernel_config": read_config(host.proc, host.root, host.release)._asdict(),
        "may_destroy": permitted,
        "namespaces": looked_at[:limit],
        "namespaces_total": len(looked_at),
        "totals": _nested(totals),
        "verdicts": nested_verdicts(verdicts),
        "listeners": _listeners(first(listeners, limit)),
        "listeners_total": len(listeners),
        "peers": [
            {"remote": remote, "sockets": count}
            for remote, count in peers.most_common(min(limit, MAX_PEERS))
        ],
        "peers_total": len(peers),
    }
    return Answer({"changed": False, "ansible_facts": {"socket_diag": facts}})


class _Seen(NamedTuple):
    """What the facts take of one socket; remote and listener are None where there is none."""

    protocol: str
    state: str
    remote: str | None
    listener: Subject | None
    judged: Judged


class _Namespace(NamedTuple):
    """What one namespace told."""

    label: str
    found: list[_Seen]
    may_destroy: bool
    support: dict[str, ProtocolSupport]
    verdicts: Counter[tuple[str, str]]


def _seen(subject: Subject, judged: Judged) -> _Seen:
    return _Seen(
        subject.protocol,
        subject.state,
        subject.remote if subject.has_remote else None,
        subject if listens(subject) else None,
        judged,
    )


def _checked_limit(value: int) -> int:
    if not 0 <= value <= MAX_LIMIT:
        problem = "less than nothing" if value < 0 else "too large for facts"
        raise InputError(("limit",), value, problem, f"a number from 0 to {MAX_LIMIT}")
    return value


def listens(subject: Subject) -> bool:
    """What `ss -l` shows: listening, or a datagram socket that takes from everyone."""
    state = subject.state_number
    return state == LISTENING or (
        state == CLOSED and subject.protocol in _DATAGRAMS and subject.local_port != 0
    )


def _nested(totals: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, int]] = {}
    for (protocol, state), count in sorted(totals.items()):
        nested.setdefault(protocol, {})[state] = count
    return nested


def _listeners(subjects: list[Subject]) -> list[dict[str, Any]]:
    environments = {id(subject.environment): subject.environment for subject in subjects}
    for environment in environments.values():
        environment.load_owners(
            {subject.inode for subject in subjects if subject.environment is environment} - {0}
        )
    return [
        {
            "namespace": subject.environment.namespace.label,
            "protocol": subject.protocol,
            "local": subject.local,
            "local_port": subject.local_port,
            "uid": subject.uid,
            "user": subject.user,
            "processes": _commands(subject),
        }
        for subject in subjects
    ]


def _commands(subject: Subject) -> list[str] | None:
    held = subject.processes
    if held is None:
        return None
    return sorted({process.comm for process in held})[:MAX_COMMANDS]
