# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Doubt: whether a violation may have ceased for a moment between two evaluations.

A socket that violates a rule in two evaluations may have complied with it in between. The events of
the network show that, and its hold then starts again. Other events must not delay the hold:

- An event of another namespace, and of a link or an address that the rule does not depend on.
- A link that did not exist when the hold began, unless the rule names it.
- A link that comes up again, after evaluations found the violation while it was up and while it was
  down. Its state then makes no difference to the violation. A link that the rule names counts
  every time.

Pure: it reads no clock and makes no kernel call. Times are milliseconds of CLOCK_MONOTONIC.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ..host.namespaces import Identity
from ..sockets.needs import Need
from .findings import Evaluation
from .model import Rule

# A namespace with more changes between two evaluations counts as one whose events were lost.
MAX_CHANGES = 4_096


class NetworkChanges(NamedTuple):
    """Changes of one namespace that events reported. Addresses have 4 or 16 bytes.

    links_up, links_down: indexes of links that an event showed in this state. names: names of the
    links that are up. lost: events were lost. lost_by_others: events were lost, perhaps through a
    flood in another namespace, which a user without privileges can cause.
    """

    addresses_added: frozenset[bytes] = frozenset()
    addresses_removed: frozenset[bytes] = frozenset()
    links_up: frozenset[int] = frozenset()
    links_down: frozenset[int] = frozenset()
    names: frozenset[tuple[int, str]] = frozenset()
    lost: bool = False
    lost_by_others: bool = False

    def __add__(self, other: object) -> NetworkChanges:
        if not isinstance(other, NetworkChanges):
            return NotImplemented
        both = NetworkChanges(
            self.addresses_added | other.addresses_added,
            self.addresses_removed | other.addresses_removed,
            self.links_up | other.links_up,
            self.links_down | other.links_down,
            self.names | other.names,
            self.lost or other.lost,
            self.lost_by_others or other.lost_by_others,
        )
        too_many = sum(map(len, (both.addresses_added, both.addresses_removed, both.names)))
        too_many += len(both.links_up) + len(both.links_down)
        return NetworkChanges(lost=True) if too_many > MAX_CHANGES else both


NO_CHANGES = NetworkChanges()


class Dependence(NamedTuple):
    """What the violations of a rule depend on.

    every_link: any link may lead to a peer. links: whether any link matters at all. local: whether
    the local address matters. names: links that the rule names. in_condition: addresses in its
    condition.
    """

    every_link: bool
    links: bool
    local: bool
    names: frozenset[str]
    in_condition: frozenset[bytes]

    @classmethod
    def of(cls, rule: Rule) -> Dependence:
        facts = () if rule.condition is None else tuple(rule.condition.facts())
        needs = rule.needs
        every_link = bool(needs & {Need.ROUTES, Need.RULES})
        return cls(
            every_link,
            every_link or Need.LINKS in needs or bool(rule.interfaces),
            every_link or Need.ADDRESSES in rule.match.needs,
            frozenset(rule.interfaces),
            frozenset(fact.address for fact in facts if fact.address),
        )


class _Link(NamedTuple):
    """A link in the evaluations of a namespace.

    first_ms: the end of the first evaluation that showed it. up_ms, down_ms: the end of the last
    one that showed it up, and down; -1: none.
    """

    names: tuple[str, ...]
    first_ms: int
    up_ms: int = -1
    down_ms: int = -1

    @property
    def is_up(self) -> bool:
        return self.up_ms > self.down_ms

    def state_matters(self, since_ms: int) -> bool:
        """Whether the evaluations since then do not show the link in both states."""
        return min(self.up_ms, self.down_ms) < since_ms


@dataclass
class _Network:
    """What is known about the network of one namespace.

    pending: changes since the last evaluation. came_up, came_back: links and addresses that these
    changes made usable, perhaps for a moment only. links, addresses: in the last evaluation.
    restarted_ms: the end of the last evaluation that had lost_by_others; -1: none.
    """

    pending: NetworkChanges = NO_CHANGES
    came_up: frozenset[int] = frozenset()
    came_back: frozenset[bytes] = frozenset()
    links: dict[int, _Link] = field(default_factory=dict)
    addresses: frozenset[bytes] = frozenset()
    restarted_ms: int = -1

    def add(self, changes: NetworkChanges) -> None:
        pending = self.pending = self.pending + changes
        self.came_up = frozenset(
            index
            for index in pending.links_up
            if index in pending.links_down or index not in self.links or not self.links[index].is_up
        )
        # The renewal of an address is no change.
        self.came_back = frozenset(
            each
            for each in pending.addresses_added
            if each in pending.addresses_removed or each not in self.addresses
        )

    def doubted_by_links(self, on: Dependence, since_ms: int) -> bool:
        for index in self.came_up:
            link = self.links.get(index)
            if link is None or link.first_ms > since_ms:
                if any((index, name) in self.pending.names for name in on.names):
                    return True
            elif not on.names.isdisjoint(link.names) or (
                on.every_link and link.state_matters(since_ms)
            ):
                return True
        return False

    def evaluated(self, evaluation: Evaluation) -> None:
        now_ms = evaluation.ended_ms
        if self.pending.lost_by_others:
            self.restarted_ms = now_ms
        self.pending, self.came_up, self.came_back = NO_CHANGES, frozenset(), frozenset()
        self.addresses = evaluation.addresses
        links = {}
        for link in evaluation.links:
            seen = self.links.get(link.ifindex) or _Link(link.names, now_ms)
            up_ms, down_ms = (now_ms, seen.down_ms) if link.up else (seen.up_ms, now_ms)
            links[link.ifindex] = _Link(link.names, seen.first_ms, up_ms, down_ms)
        self.links = links


class Doubts:
    """The doubts about violations, by namespace.

    Call record() for events, doubted() during an evaluation, then evaluated().
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._networks: dict[Identity, _Network] = {}
        self.replace_rules(rules)

    def replace_rules(self, rules: Iterable[Rule]) -> None:
        self._dependences = {rule.name: Dependence.of(rule) for rule in rules}

    def record(self, namespace: Identity, changes: NetworkChanges) -> None:
        """Record changes that happened before the next evaluation begins."""
        self._networks.setdefault(namespace, _Network()).add(changes)

    def pending(self, namespace: Identity) -> bool:
        """Whether changes since the last evaluation may raise doubts."""
        network = self._networks.get(namespace)
        return network is not None and network.pending != NO_CHANGES

    def doubted(self, namespace: Identity, rule: str, local: bytes, since_ms: int) -> bool:
        """Whether a violation may have ceased since the last evaluation.

        local: the local address of the socket. since_ms: the end of the first evaluation that
        showed the violation.
        """
        network = self._networks.get(namespace)
        if network is None:
            return False
        on, pending = self._dependences[rule], network.pending
        if pending.lost or (pending.lost_by_others and network.restarted_ms < since_ms):
            return on.links or on.local or bool(on.in_condition)
        if on.local and local in network.came_back:
            return True
        if not network.came_back.isdisjoint(on.in_condition):
            return True
        return on.links and network.doubted_by_links(on, since_ms)

    def evaluated(self, evaluation: Evaluation, *, has_holds: bool) -> None:
        """Record the network of an evaluation. has_holds: there are holds in the namespace."""
        identity = evaluation.namespace.identity
        if has_holds:
            self._networks.setdefault(identity, _Network()).evaluated(evaluation)
        else:
            self._networks.pop(identity, None)

    def retain(self, namespaces: Iterable[Identity]) -> None:
        """Forget all other namespaces."""
        known = set(namespaces)
        self._networks = {key: each for key, each in self._networks.items() if key in known}

    def forget(self, namespace: Identity) -> None:
        """Forget a namespace that no longer exists."""
        self._networks.pop(namespace, None)
