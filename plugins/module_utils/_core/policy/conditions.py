# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the `while` of a rule: what must hold of a namespace's network.

A condition is true, false or unknown (None); all, any and not follow Kleene's logic, and only true
counts. What is said of an interface that is not there is unknown, but for whether it is there: so
a name that is spelt wrong destroys nothing, under `not` either.
"""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple, Optional

from ..netlink.links import Address, Link
from ..selector.prefixes import Prefix

DEFAULT_ROUTES = (Prefix(bytes(4), 0), Prefix(bytes(16), 0))

# More combinations than these are not tried out.
_MOST_TRIED = 20_000


class KnownRoute(NamedTuple):
    """A unicast route. ifindexes: of its next hops; None: the kernel does not tell. metric: the
    lower is preferred."""

    destination: Prefix
    ifindexes: frozenset[int] | None
    metric: int
    table: int


class Facts:
    """The network of one namespace at one moment. routes None: not looked at."""

    def __init__(
        self,
        links: Sequence[Link],
        addresses: Sequence[Address],
        routes: Sequence[KnownRoute] | None = None,
    ) -> None:
        self.links = {link.name: link for link in links}
        self.addresses = frozenset(each.address for each in addresses)
        self._routes = routes

    @cached_property
    def preferred(self) -> dict[tuple[Prefix, int], frozenset[int] | None] | None:
        """By destination and table the interfaces of the route that is taken."""
        if self._routes is None:
            return None
        best: dict[tuple[Prefix, int], KnownRoute] = {}
        for route in self._routes:
            key = route.destination, route.table
            known = best.get(key)
            if known is None or route.metric < known.metric:
                best[key] = route
            elif route.metric == known.metric:
                both = known.ifindexes, route.ifindexes
                whole = None if None in both else frozenset().union(*filter(None, both))
                best[key] = known._replace(ifindexes=whole)
        return {key: route.ifindexes for key, route in best.items()}


class Fact(NamedTuple):
    """What can be asked of a network. kind: present, up, address or route."""

    kind: str
    interface: str | None = None
    address: bytes = b""
    prefixes: tuple[Prefix, ...] = ()

    @property
    def words(self) -> str:
        if self.kind == "address":
            return f"address {ipaddress.ip_address(self.address)} is present"
        if self.kind == "route":
            address, length = self.prefixes[0]
            prefix = f"{ipaddress.ip_address(address)}/{length}"
            route = "default" if self.prefixes == DEFAULT_ROUTES else prefix
            return f"route {route} via {self.interface}"
        return f"interface {self.interface} is {self.kind}"


_NEEDS = {
    "present": frozenset({"links"}),
    "up": frozenset({"links"}),
    "address": frozenset({"addresses"}),
    "route": frozenset({"links", "routes"}),
}

Answers = Callable[[Fact], Optional[bool]]


class Condition:
    """What `while` says."""

    def holds(self, facts: Facts) -> bool | None:
        return self.value(lambda fact: _answer(fact, facts))

    @property
    def interfaces(self) -> tuple[str, ...]:
        """The names of interfaces that it mentions, each once."""
        named = (fact.interface for fact in self.facts())
        return tuple(dict.fromkeys(name for name in named if name is not None))

    @property
    def needs(self) -> frozenset[str]:
        """On which kinds of facts it depends, out of links, addresses and routes."""
        return frozenset().union(*(_NEEDS[fact.kind] for fact in self.facts()))

    def value(self, answers: Answers) -> bool | None:
        """What it is where each fact is as `answers` says."""
        raise NotImplementedError

    def facts(self) -> Iterator[Fact]:
        """Each fact that it asks for."""
        raise NotImplementedError

    @property
    def words(self) -> str:
        """Itself, for people: interface wg0 is up."""
        raise NotImplementedError


@dataclass(frozen=True)
class Asks(Condition):
    fact: Fact

    def value(self, answers: Answers) -> bool | None:
        return answers(self.fact)

    def facts(self) -> Iterator[Fact]:
        yield self.fact

    @property
    def words(self) -> str:
        return self.fact.words


@dataclass(frozen=True)
class NotCondition(Condition):
    child: Condition

    def value(self, answers: Answers) -> bool | None:
        found = self.child.value(answers)
        return None if found is None else not found

    def facts(self) -> Iterator[Fact]:
        return self.child.facts()

    @property
    def words(self) -> str:
        return f"not ({self.child.words})"


@dataclass(frozen=True)
class Combined(Condition):
    """Any of the children, or all of them."""

    children: tuple[Condition, ...]
    any_of: bool

    def value(self, answers: Answers) -> bool | None:
        found = [child.value(answers) for child in self.children]
        if self.any_of in found:
            return self.any_of
        return None if None in found else not self.any_of

    def facts(self) -> Iterator[Fact]:
        for child in self.children:
            yield from child.facts()

    @property
    def words(self) -> str:
        several = len(self.children) > 1
        parts = [
            f"({each.words})" if several and isinstance(each, Combined) else each.words
            for each in self.children
        ]
        return (" or " if self.any_of else " and ").join(parts)


def interface_present(name: str) -> Condition:
    return Asks(Fact("present", name))


def interface_up(name: str) -> Condition:
    """IFF_UP and IFF_LOWER_UP; operstate is never asked, since tunnels say unknown."""
    return Asks(Fact("up", name))


def address_present(address: bytes) -> Condition:
    """Some interface holds the address of 4 or 16 bytes."""
    return Asks(Fact("address", address=address))


def route_via(prefixes: tuple[Prefix, ...], name: str) -> Condition:
    """In some table the route to just one of these prefixes, the preferred one where there are
    several, leaves by the interface."""
    return Asks(Fact("route", name, prefixes=prefixes))


def _answer(fact: Fact, facts: Facts) -> bool | None:
    if fact.interface is None:
        return fact.address in facts.addresses
    link = facts.links.get(fact.interface)
    if fact.kind == "present":
        return link is not None
    if link is None:
        return None
    return link.up if fact.kind == "up" else _routed(fact.prefixes, link.ifindex, facts)


def _routed(prefixes: tuple[Prefix, ...], ifindex: int, facts: Facts) -> bool | None:
    if facts.preferred is None:
        return None
    found: bool | None = False
    for (destination, _table), ifindexes in facts.preferred.items():
        if destination in prefixes:
            if ifindexes is None:
                found = None
            elif ifindex in ifindexes:
                return True
    return found


def can_hold(condition: Condition) -> bool:
    """Whether there is a network for which it is true; True where too many would have to be tried.

    An interface is missing, or there and down, or up; a route leaves by one that is there.
    """
    others = [
        fact for fact in dict.fromkeys(condition.facts()) if fact.kind in ("address", "route")
    ]
    names = condition.interfaces
    if 3 ** len(names) * 2 ** len(others) > _MOST_TRIED:
        return True
    return any(
        condition.value(partial(_supposed, dict(zip(names, states)), dict(zip(others, answers))))
        for states in itertools.product(("missing", "down", "up"), repeat=len(names))
        for answers in itertools.product((True, False), repeat=len(others))
    )


def _supposed(states: dict[str, str], others: dict[Fact, bool], fact: Fact) -> bool | None:
    if fact.interface is None:
        return others[fact]
    state = states[fact.interface]
    if fact.kind == "present":
        return state != "missing"
    if state == "missing":
        return None
    return state == "up" if fact.kind == "up" else others[fact]
