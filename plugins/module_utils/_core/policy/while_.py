# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: from what a user wrote under `while` to a condition."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping

from .. import values
from ..errors import InputError
from ..netlink.constants import V4_MAPPED_PREFIX
from ..selector.predicates.address import parse_device
from ..selector.prefixes import Prefix
from ..values import Path
from . import conditions
from .conditions import Combined, Condition, NotCondition

PRESENT, UP = "present", "up"

_ALLOWED = (
    "one of {interface: NAME, is: present or up}, {address: ADDRESS, is: present}, "
    "{route: PREFIX or default, via: INTERFACE}, {not: ...}, {any: [...]}, {all: [...]}"
)
_ADDRESS = "an IPv4 or IPv6 address"
_ROUTE = "a prefix such as 10.0.0.0/8 or ::/0, or default for 0.0.0.0/0 and ::/0"
_DEPTH = 16


def parse_condition(value: object, path: Path, depth: int = 0) -> Condition:
    """Raises InputError."""
    if not isinstance(value, Mapping):
        hint = ": several conditions go under all or any" if isinstance(value, list) else ""
        problem = "empty" if value == "" else values.describe_type(value) + hint
        raise InputError(path, value, problem, _ALLOWED)
    if not value:
        raise InputError(path, value, "an empty condition", _ALLOWED)
    if depth > _DEPTH:
        raise InputError(path, "...", f"nested more than {_DEPTH} deep", "a flatter condition")
    for kind, (parse, others) in _KINDS.items():
        if kind in value:
            _refuse_others(value, (kind, *others), path)
            return parse(value, path, depth)
    key = next(iter(value))
    words = (*_KINDS, "is", "via")
    problem = f"no such key{values.suggestion(str(key), words)}"
    raise InputError((*path, str(key)), value[key], problem, _ALLOWED)


def _refuse_others(value: Mapping[str, object], keys: tuple[str, ...], path: Path) -> None:
    for key, under in value.items():
        if key in keys:
            continue
        if key in _KINDS:
            problem = f"a second condition beside {keys[0]}"
            raise InputError((*path, key), under, problem, "several under all: [...] or any: [...]")
        problem = f"no key of a condition about {keys[0]}{values.suggestion(str(key), keys)}"
        raise InputError((*path, str(key)), under, problem, _ALLOWED)
    for key in keys:
        if key not in value:
            raise InputError((*path, key), None, "missing, and required", _ALLOWED)


def _state(value: object, path: Path, words: tuple[str, ...]) -> str:
    try:
        return values.choice(value, path, words, "state")
    except InputError as error:
        allowed = f"{error.allowed}; the contrary is {{not: {{...}}}}"
        raise InputError(path, value, error.problem, allowed) from None


def _interface(value: Mapping[str, object], path: Path, _depth: int) -> Condition:
    name = parse_device(value["interface"], (*path, "interface"))
    wanted = _state(value["is"], (*path, "is"), (PRESENT, UP))
    return conditions.interface_up(name) if wanted == UP else conditions.interface_present(name)


def _address(value: Mapping[str, object], path: Path, _depth: int) -> Condition:
    at = (*path, "address")
    written = values.text(value["address"], at, _ADDRESS)
    _state(value["is"], (*path, "is"), (PRESENT,))
    try:
        packed = ipaddress.ip_address(written).packed
    except ValueError:
        packed = b""
    # One with a zone (fe80::1%eth0) has the same bytes as without.
    if not packed or "%" in written:
        raise InputError(at, value["address"], "not an address", _ADDRESS)
    return conditions.address_present(packed[12:] if packed[:12] == V4_MAPPED_PREFIX else packed)


def _route(value: Mapping[str, object], path: Path, _depth: int) -> Condition:
    at = (*path, "route")
    written = values.text(value["route"], at, _ROUTE)
    name = parse_device(value["via"], (*path, "via"))
    if written.lower() == "default":
        return conditions.route_via(conditions.DEFAULT_ROUTES, name)
    try:
        network = ipaddress.ip_network(written, strict=False)
        address = ipaddress.ip_address(written.partition("/")[0])
    except ValueError:
        raise InputError(at, value["route"], "not a prefix", _ROUTE) from None
    if network.network_address != address or "%" in written:
        raise InputError(at, value["route"], "has bits set beyond its prefix length", str(network))
    prefix = Prefix(network.network_address.packed, network.prefixlen)
    return conditions.route_via((prefix,), name)


def _not(value: Mapping[str, object], path: Path, depth: int) -> Condition:
    return NotCondition(parse_condition(value["not"], (*path, "not"), depth + 1))


def _several(key: str) -> Callable[[Mapping[str, object], Path, int], Condition]:
    def parse(value: Mapping[str, object], path: Path, depth: int) -> Condition:
        branches, at, allowed = value[key], (*path, key), "a list of conditions, each a mapping"
        if not isinstance(branches, list):
            problem = "empty" if branches == "" else values.describe_type(branches)
            raise InputError(at, branches, problem, allowed)
        found = values.items(branches, at, allowed)
        children = tuple(parse_condition(item, where, depth + 1) for where, item in found)
        return Combined(children, any_of=key == "any")

    return parse


# By its first key: how a condition is read, and the keys that it must have beside.
_KINDS: dict[
    str, tuple[Callable[[Mapping[str, object], Path, int], Condition], tuple[str, ...]]
] = {
    "interface": (_interface, ("is",)),
    "address": (_address, ("is",)),
    "route": (_route, ("via",)),
    "not": (_not, ()),
    "any": (_several("any"), ()),
    "all": (_several("all"), ()),
}
