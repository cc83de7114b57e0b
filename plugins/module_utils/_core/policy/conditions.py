# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Conditions under `while`: parsing, and evaluation against the network of a namespace.

A condition is true, false or unknown (None). `all`, `any` and `not` follow Kleene's logic, and a
rule applies only while its condition is true. `is: up` and `route` are unknown for a missing
interface, so a misspelled name destroys nothing, not even under `not`.
"""

from __future__ import annotations

import ipaddress
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple, Optional

from .. import values
from ..errors import InputError
from ..netlink.constants import V4_MAPPED_PREFIX
from ..netlink.links import PHYSICAL, Address, Link
from ..selector.predicates.address import parse_device
from ..selector.prefixes import Prefix
from ..sockets.needs import Need
from ..values import Path
from .route_candidates import Egress, Place, RouteCandidate, select

DEFAULT_ROUTES = (Prefix(bytes(4), 0), Prefix(bytes(16), 0))

# The kinds of interfaces: short words of rtnl_link_ops in the kernel.
LINK_KIND_PATTERN = r"[a-z0-9][a-z0-9_-]{0,30}"

# The kinds of facts.
PRESENT, UP, ADDRESS, ROUTE = "present", "up", "address", "route"

# can_hold gives up above this number of combinations.
_MAX_COMBINATIONS = 20_000


class NetworkState:
    """Links, addresses and routes of one namespace at one moment. routes None: not loaded."""

    def __init__(
        self,
        links: Sequence[Link],
        addresses: Sequence[Address],
        routes: Sequence[RouteCandidate] | None = None,
    ) -> None:
        # By each name, also alternative ones.
        self.links = {name: link for link in links for name in link.names}
        self.addresses = frozenset(
            address.address for address in addresses if not address.is_duplicate
        )
        self._routes = routes

    @cached_property
    def preferred(self) -> dict[Place, Egress] | None:
        """Interfaces of the route that the kernel uses, by destination and table."""
        return None if self._routes is None else select(self._routes)


class Fact(NamedTuple):
    """One statement about a network.

    kind: present, up, address or route. link_kind: the kind that the interface must have, as
    Link.described_kind has it; None: any.
    """

    kind: str
    interface: str | None = None
    address: bytes = b""
    prefixes: tuple[Prefix, ...] = ()
    link_kind: str | None = None

    @property
    def text(self) -> str:
        if self.kind == ADDRESS:
            return f"address {ipaddress.ip_address(self.address)} is present"
        if self.kind == ROUTE:
            address, length = self.prefixes[0]
            prefix = f"{ipaddress.ip_address(address)}/{length}"
            route = "default" if self.prefixes == DEFAULT_ROUTES else prefix
            return f"route {route} via {self.interface}"
        kind = "" if self.link_kind is None else f" and of kind {self.link_kind}"
        return f"interface {self.interface} is {self.kind}{kind}"


_NEEDS = {
    PRESENT: frozenset({Need.LINKS}),
    UP: frozenset({Need.LINKS}),
    ADDRESS: frozenset({Need.ADDRESSES}),
    ROUTE: frozenset({Need.LINKS, Need.ROUTES}),
}

FactValue = Callable[[Fact], Optional[bool]]


class Condition:
    """A node of the tree under `while`."""

    def holds(self, network: NetworkState) -> bool | None:
        """Whether the condition is true of a network; None: unknown."""
        return self.value(lambda fact: _fact_value(fact, network))

    def holds_by_family(self, network: NetworkState) -> dict[int, bool | None]:
        """As holds, for IPv4 (4) and IPv6 (16) sockets: each has its own `default` route."""
        return {size: self.value(partial(_family_value, network, size)) for size in (4, 16)}

    def other_kinds(self, network: NetworkState) -> tuple[str, ...]:
        """The interfaces that exist with another kind than the condition requires, as text."""
        found = (
            f"{fact.interface} of kind {fact.link_kind}"
            for fact in self.facts()
            if fact.interface in network.links
            and fact.link_kind not in (None, network.links[fact.interface].described_kind)
        )
        return tuple(dict.fromkeys(found))

    @property
    def interfaces(self) -> tuple[str, ...]:
        """Names of the interfaces in the condition, without duplicates."""
        names = (fact.interface for fact in self.facts())
        return tuple(dict.fromkeys(name for name in names if name is not None))

    @property
    def needs(self) -> frozenset[Need]:
        """Facts that the condition depends on, out of LINKS, ADDRESSES and ROUTES."""
        return frozenset().union(*(_NEEDS[fact.kind] for fact in self.facts()))

    def value(self, fact_value: FactValue) -> bool | None:
        """Value of the condition, given the value of each fact."""
        raise NotImplementedError

    def facts(self) -> Iterator[Fact]:
        """Yield each fact in the condition."""
        raise NotImplementedError

    @property
    def text(self) -> str:
        """The condition as text: "interface wg0 is up"."""
        raise NotImplementedError


@dataclass(frozen=True)
class FactCondition(Condition):
    fact: Fact

    def value(self, fact_value: FactValue) -> bool | None:
        return fact_value(self.fact)

    def facts(self) -> Iterator[Fact]:
        yield self.fact

    @property
    def text(self) -> str:
        return self.fact.text


@dataclass(frozen=True)
class NotCondition(Condition):
    child: Condition

    def value(self, fact_value: FactValue) -> bool | None:
        value = self.child.value(fact_value)
        return None if value is None else not value

    def facts(self) -> Iterator[Fact]:
        return self.child.facts()

    @property
    def text(self) -> str:
        return f"not ({self.child.text})"


@dataclass(frozen=True)
class CombinedCondition(Condition):
    """Any of the children, or all of them."""

    children: tuple[Condition, ...]
    any_of: bool

    def value(self, fact_value: FactValue) -> bool | None:
        found = [child.value(fact_value) for child in self.children]
        if self.any_of in found:
            return self.any_of
        return None if None in found else not self.any_of

    def facts(self) -> Iterator[Fact]:
        for child in self.children:
            yield from child.facts()

    @property
    def text(self) -> str:
        several = len(self.children) > 1
        parts = [
            f"({child.text})" if several and isinstance(child, CombinedCondition) else child.text
            for child in self.children
        ]
        return (" or " if self.any_of else " and ").join(parts)


def _fact_value(fact: Fact, network: NetworkState) -> bool | None:
    if fact.interface is None:
        return fact.address in network.addresses
    link = network.links.get(fact.interface)
    if link is not None and fact.link_kind not in (None, link.described_kind):
        # Another interface has the name: the one that is meant is missing.
        return False if fact.kind == PRESENT else None
    if link is None:
        # A name with a colon may be the label of an address: its absence proves nothing.
        return False if fact.kind == PRESENT and ":" not in fact.interface else None
    if fact.kind == PRESENT:
        return True
    # IFF_UP and IFF_LOWER_UP; not operstate, which is "unknown" for tunnels.
    return link.up if fact.kind == UP else _routed(fact.prefixes, link.ifindex, network)


def _family_value(network: NetworkState, size: int, fact: Fact) -> bool | None:
    if fact.prefixes == DEFAULT_ROUTES:
        prefixes = tuple(prefix for prefix in DEFAULT_ROUTES if len(prefix.address) == size)
        fact = fact._replace(prefixes=prefixes)
    return _fact_value(fact, network)


def _routed(prefixes: tuple[Prefix, ...], ifindex: int, network: NetworkState) -> bool | None:
    """Whether, in some table, the kernel's route to one of the prefixes uses the interface."""
    if network.preferred is None:
        return None
    found: bool | None = False
    for (destination, _table), egress in network.preferred.items():
        if destination in prefixes:
            if egress is None:
                found = None
            elif ifindex in egress:
                return True
    return found


def can_hold(condition: Condition) -> bool:
    """Whether some network makes the condition true.

    Tries every combination: each interface missing, down or up, of each kind that the condition
    names or another one; each address present or absent; each route used or not, by an interface
    that exists. True if there are too many combinations.
    """
    facts = list(dict.fromkeys(condition.facts()))
    others = [fact for fact in facts if fact.kind in (ADDRESS, ROUTE)]
    names = condition.interfaces
    states = [
        [_Assumed("missing", None)]
        + [
            _Assumed(state, kind)
            for state in ("down", "up")
            for kind in {None, *(fact.link_kind for fact in facts if fact.interface == name)}
        ]
        for name in names
    ]
    if math.prod(map(len, states)) * 2 ** len(others) > _MAX_COMBINATIONS:
        return True
    return any(
        condition.value(partial(_assumed, dict(zip(names, assumed)), dict(zip(others, found))))
        for assumed in itertools.product(*states)
        for found in itertools.product((True, False), repeat=len(others))
    )


class _Assumed(NamedTuple):
    """An interface: missing, down or up. kind: None: one that the condition does not name."""

    state: str
    kind: str | None


def _assumed(states: dict[str, _Assumed], others: dict[Fact, bool], fact: Fact) -> bool | None:
    if fact.interface is None:
        return others[fact]
    state, kind = states[fact.interface]
    missing = state == "missing" or fact.link_kind not in (None, kind)
    if fact.kind == PRESENT:
        return not missing
    if missing:
        return None
    return state == "up" if fact.kind == UP else others[fact]


_ALLOWED = (
    "one of {interface: NAME, is: present or up}, also with kind: KIND, "
    "{address: ADDRESS, is: present}, "
    "{route: PREFIX or default, via: INTERFACE}, {not: ...}, {any: [...]}, {all: [...]}"
)
_ADDRESS = "an IPv4 or IPv6 address"
_KIND = (
    f"the kind of a virtual interface as `ip -details link` shows it, such as wireguard, tun or "
    f"vlan, or {PHYSICAL} for one without a kind"
)
_ROUTE = "a prefix such as 10.0.0.0/8 or ::/0, or default for 0.0.0.0/0 and ::/0"
_MAX_DEPTH = 16

_Written = Mapping[str, object]


def parse_condition(value: object, path: Path, depth: int = 0) -> Condition:
    """Parse the value of `while`. Raises InputError."""
    if not isinstance(value, Mapping):
        hint = ": combine several conditions with all or any" if isinstance(value, list) else ""
        problem = "empty" if value == "" else values.describe_type(value) + hint
        raise InputError(path, value, problem, _hint(value) or _ALLOWED)
    if not value:
        raise InputError(path, value, "an empty condition", _ALLOWED)
    if depth > _MAX_DEPTH:
        problem = f"nested more than {_MAX_DEPTH} levels deep"
        raise InputError(path, "...", problem, f"up to {_MAX_DEPTH} levels")
    for key, (parse, others, optional) in _PARSERS.items():
        if key in value:
            _check_keys(value, (key, *others), optional, path)
            return parse(value, path, depth)
    key = next(iter(value))
    known = (*_PARSERS, "is", "via")
    raise values.no_such(
        (*path, str(key)), value[key], "no such key", str(key), known, _ALLOWED, _SYNONYMS
    )


# Words of other tools, and the keys that replace each.
_SYNONYMS = {
    **dict.fromkeys(("device", "dev", "iface", "link", "ifname"), ("interface",)),
    **dict.fromkeys(("addr", "ip", "local"), ("address",)),
    **dict.fromkeys(("gateway", "default", "prefix"), ("route",)),
    **dict.fromkeys(("state", "status"), ("is",)),
    **dict.fromkeys(("type", "driver"), ("kind",)),
    **dict.fromkeys(("through", "nexthop"), ("via",)),
    "and": ("all",),
    "or": ("any",),
}
_WRITTEN_STATE = re.compile(
    r"\s*(?:interface\s+)?(\S+)\s+(?:is\s+)?(up|present|exists)\s*", re.IGNORECASE
)
_WRITTEN_ROUTE = re.compile(
    r"\s*(?:route\s+)?(default|\S+/\d+)\s+(?:via|dev)\s+(\S+)\s*", re.IGNORECASE
)


def _hint(value: object) -> str | None:
    """The condition that a string such as `wg0 is up` means."""
    if not isinstance(value, str):
        return None
    state = _WRITTEN_STATE.fullmatch(value)
    if state is not None:
        return f"{{interface: {state[1]}, is: {'up' if state[2].lower() == UP else PRESENT}}}"
    route = _WRITTEN_ROUTE.fullmatch(value)
    return None if route is None else f"{{route: {route[1]}, via: {route[2]}}}"


_FORMS = {
    "interface": "{interface: NAME, is: up}, or is: present; kind: KIND is optional",
    "address": "{address: ADDRESS, is: present}",
    "route": "{route: PREFIX or default, via: INTERFACE}",
}


def _check_keys(
    value: _Written, keys: tuple[str, ...], optional: tuple[str, ...], path: Path
) -> None:
    """Raise InputError unless the mapping has exactly these keys, and no others but optional."""
    known = (*keys, *optional)
    for key, under in value.items():
        if key in known:
            continue
        if key in _PARSERS:
            problem = f"a second condition besides {keys[0]}"
            allowed = "one condition; combine several with all: [...] or any: [...]"
            raise InputError((*path, key), under, problem, allowed)
        problem = f"no such key in a condition on {keys[0]}"
        near = {word: found for word, found in _SYNONYMS.items() if found[0] in known}
        if "via" in keys:
            near.update(dict.fromkeys(("dev", "device", "iface", "link"), ("via",)))
        raise values.no_such((*path, str(key)), under, problem, str(key), known, _ALLOWED, near)
    for key in keys:
        if key not in value:
            raise InputError((*path, key), None, "missing, but required", _FORMS[keys[0]])


def _parse_state(value: object, path: Path, states: tuple[str, ...]) -> str:
    opposite = f"{{not: {{..., is: {states[-1]}}}}}"
    hints = {
        **dict.fromkeys(("down", "false"), opposite),
        **dict.fromkeys(("absent", "missing", "gone"), f"{{not: {{..., is: {PRESENT}}}}}"),
    }
    try:
        return values.choice(value, path, states, "state", hints=hints)
    except InputError as error:
        if isinstance(value, bool):
            raise error.with_hint(f"one of: {', '.join(states)}; negate with {opposite}") from None
        if error.allowed.startswith("one of"):
            allowed = f"{error.allowed}; negate a condition with {{not: {{...}}}}"
            raise error.with_hint(allowed) from None
        raise


def _parse_interface(value: _Written, path: Path, _depth: int) -> Condition:
    name = parse_device(value["interface"], (*path, "interface"))
    state = _parse_state(value["is"], (*path, "is"), (PRESENT, UP))
    kind = _parse_kind(value["kind"], (*path, "kind")) if "kind" in value else None
    return FactCondition(Fact(state, name, link_kind=kind))


def _parse_kind(value: object, path: Path) -> str:
    written = values.text(value, path, _KIND)
    if not re.fullmatch(LINK_KIND_PATTERN, written):
        raise InputError(path, value, "not a kind of interfaces", _KIND)
    return written


def _parse_address(value: _Written, path: Path, _depth: int) -> Condition:
    at = (*path, "address")
    written = values.text(value["address"], at, _ADDRESS)
    _parse_state(value["is"], (*path, "is"), (PRESENT,))
    try:
        packed = ipaddress.ip_address(written).packed
    except ValueError:
        packed = b""
    # A zone (fe80::1%eth0) is not part of the packed address: ignoring it would match too much.
    if not packed or "%" in written:
        host, slash, _length = written.partition("/")
        hint = f"{host}, the address alone" if slash else _ADDRESS
        raise InputError(at, value["address"], "not an address", hint)
    address = packed[12:] if packed[:12] == V4_MAPPED_PREFIX else packed
    return FactCondition(Fact(ADDRESS, address=address))


def _parse_route(value: _Written, path: Path, _depth: int) -> Condition:
    at = (*path, "route")
    written = values.text(value["route"], at, _ROUTE)
    name = parse_device(value["via"], (*path, "via"))
    if written.lower() == "default":
        return FactCondition(Fact(ROUTE, name, prefixes=DEFAULT_ROUTES))
    try:
        network = ipaddress.ip_network(written, strict=False)
        address = ipaddress.ip_address(written.partition("/")[0])
    except ValueError:
        raise InputError(at, value["route"], "not a prefix", _ROUTE) from None
    if network.network_address != address or "%" in written:
        raise InputError(at, value["route"], "has bits set beyond its prefix length", str(network))
    prefix = Prefix(network.network_address.packed, network.prefixlen)
    return FactCondition(Fact(ROUTE, name, prefixes=(prefix,)))


def _parse_not(value: _Written, path: Path, depth: int) -> Condition:
    return NotCondition(parse_condition(value["not"], (*path, "not"), depth + 1))


def _parse_combined(key: str) -> Callable[[_Written, Path, int], Condition]:
    def parse(value: _Written, path: Path, depth: int) -> Condition:
        branches, at, allowed = value[key], (*path, key), "a list of conditions, each a mapping"
        if not isinstance(branches, list):
            problem = "empty" if branches == "" else values.describe_type(branches)
            raise InputError(at, branches, problem, allowed)
        children = tuple(
            parse_condition(item, item_path, depth + 1)
            for item_path, item in values.items(branches, at, allowed)
        )
        return CombinedCondition(children, any_of=key == "any")

    return parse


# By the key that names the kind of condition: its parser, the other keys that it requires, and
# those that it may have.
_Parse = Callable[[_Written, Path, int], Condition]
_PARSERS: dict[str, tuple[_Parse, tuple[str, ...], tuple[str, ...]]] = {
    "interface": (_parse_interface, ("is",), ("kind",)),
    "address": (_parse_address, ("is",), ()),
    "route": (_parse_route, ("via",), ()),
    "not": (_parse_not, (), ()),
    "any": (_parse_combined("any"), (), ()),
    "all": (_parse_combined("all"), (), ()),
}
