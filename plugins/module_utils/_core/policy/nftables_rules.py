# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The nftables rule set that rejects new connections which would violate a policy. Pure.

    text = rule_set(policy).text        # for nft -f

A policy destroys connections that last. The rule set covers those that end before the agent sees
them. It is a table of its own, ``inet linuxnet_sockets``, with a chain for each rule that a packet
filter can express: users, protocols, addresses, ports, marks, and the interface of the source
address as the interface that the packet leaves through. It rejects the first packet of a TCP
connection and every UDP packet, and has no state: TCP connections that exist go on.
"""

from __future__ import annotations

import ipaddress
import itertools
import typing
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ..errors import NotExpressible
from ..host.namespaces import ALL as ALL_NAMESPACES
from ..host.namespaces import CURRENT
from ..selector.predicates.address import EndpointIn, EndpointPattern
from ..selector.predicates.owner import UserIs
from ..selector.predicates.socket import FamilyIs, MarkIs, PortIn, ProtocolIs, StateIs
from ..selector.selector import Selector
from ..selector.tree import All, Any, Node, Not, Predicate
from .conditions import PRESENT, UP, FactCondition
from .model import DESTROY, ENFORCE, Policy, Rule

FAMILY, TABLE = "inet", "linuxnet_sockets"

# Each is one line of a chain: matches that must all be true. Several are alternatives.
Match = tuple[str, ...]

# The filters cannot see what these protocols do.
_PROTOCOLS = ("tcp", "udp", "udplite")
_MAX_LINES = 1_000
_ROOT = 0
# The sender gets EACCES or EHOSTUNREACH.
_REJECT = "reject with icmpx type admin-prohibited"


class RuleSet(NamedTuple):
    """A rule set. text: for nft -f. rules: names of the rules in it. left_out: of the other rules.

    unconditional: names of the rules that it enforces even while their `while` is not true.
    """

    text: str
    rules: tuple[str, ...]
    left_out: tuple[NotExpressible, ...]
    unconditional: tuple[str, ...]


def rule_set(policy: Policy) -> RuleSet:
    """Return the rule set of all rules that can be expressed.

    Raises NotExpressible if there is none, or if the guard's selectors cannot be expressed: the
    filter would reject what the guard protects.
    """
    _check_place(policy)
    protected = [
        line
        for place, selector in policy.guard.selectors
        for line in _Translator(place).protected(selector)
    ]
    chains: list[tuple[str, list[str]]] = []
    left_out: list[NotExpressible] = []
    unconditional: list[str] = []
    for rule in policy.rules:
        try:
            chains.append((rule.name, _chain(rule)))
        except NotExpressible as error:
            left_out.append(error)
            continue
        if rule.condition is not None:
            unconditional.append(rule.name)
    if not chains:
        raise left_out[0]
    text = _text(policy, protected, chains)
    names = tuple(name for name, _lines in chains)
    return RuleSet(text, names, tuple(left_out), tuple(unconditional))


def _check_place(policy: Policy) -> None:
    if policy.mode != ENFORCE:
        raise NotExpressible("policy", "mode", "the policy only reports")
    if not {CURRENT, ALL_NAMESPACES}.intersection(policy.namespaces):
        reason = "the rule set is for the current network namespace, which is not among them"
        raise NotExpressible("policy", "namespaces", reason)


def remove_text() -> str:
    """What removes the table, also if there is none. For nft -f."""
    return f"table {FAMILY} {TABLE}\ndelete table {FAMILY} {TABLE}\n"


def _text(policy: Policy, protected: Sequence[str], chains: Sequence[tuple[str, list[str]]]) -> str:
    lines = [
        "#!/usr/sbin/nft -f",
        f"# Policy {policy.digest}. Written by socket-agent firewall.",
        # Replaces the table in one transaction: deleting it needs one that exists.
        *remove_text().splitlines(),
        f"table {FAMILY} {TABLE} {{",
        "\tchain output {",
        "\t\ttype filter hook output priority filter; policy accept;",
        '\t\toifname "lo" accept',
        *(f"\t\t{line} accept" for line in protected),
        *(f"\t\tjump rule_{number}" for number in range(len(chains))),
        "\t}",
    ]
    for number, (name, body) in enumerate(chains):
        # Chains have comments of their own only since Linux 5.10.
        lines += [f"\t# Rule {name}", f"\tchain rule_{number} {{"]
        lines += [f"\t\t{line}" for line in body]
        lines.append("\t}")
    return "\n".join([*lines, "}", ""])


def _chain(rule: Rule) -> list[str]:
    """The lines of the chain of a rule. Raises NotExpressible."""
    place = f"rules.{rule.name}"
    if rule.action != DESTROY:
        raise NotExpressible(place, "action", "the rule only reports")
    translator = _Translator(place)
    positive, exceptions = translator.split(rule.match.root)
    translator.check_condition(rule, exceptions)
    users = [leaf for leaf in positive if isinstance(leaf, UserIs)]
    if not users:
        reason = (
            "it is missing, so that the filter would also reject packets of root and of the VPN"
        )
        raise NotExpressible(place, "match.user", reason)
    if any(first <= _ROOT for leaf in users for first, _last in leaf.ranges):
        reason = "it contains root, whose processes include the VPN and the management of the host"
        raise NotExpressible(place, "match.user", reason)
    protocols = translator.protocols(positive)
    rejected = translator.product(
        [translator.leaf(leaf) for leaf in positive if not isinstance(leaf, ProtocolIs)]
    )
    lines = [f"{' '.join(match)} return" for match in translator.exceptions(exceptions)]
    for match in rejected:
        text = " ".join(match)
        if "tcp" in protocols:
            lines.append(f"{text} tcp flags & (syn | ack) == syn counter reject with tcp reset")
        for protocol in ("udp", "udplite"):
            if protocol in protocols:
                lines.append(f"{text} meta l4proto {protocol} counter {_REJECT}")
    if len(lines) > _MAX_LINES:
        raise NotExpressible(place, "match", f"it needs {len(lines)} lines, above {_MAX_LINES}")
    return lines


class _Translator:
    """Translates a selector. place: of the selector in the policy, for errors."""

    def __init__(self, place: str) -> None:
        self._place = place

    def protected(self, selector: Selector) -> list[str]:
        """The matches of a selector of the guard, one in a line."""
        positive, exceptions = self.split(selector.root)
        if exceptions:
            raise NotExpressible(self._place, "not", "exceptions of a protection are not supported")
        found = self.product([self.leaf(leaf) for leaf in positive])
        return [" ".join(match) for match in found if match]

    def split(self, root: Node) -> tuple[list[Predicate], list[Node]]:
        """The predicates of a conjunction, and the nodes under `not` in it."""
        positive: list[Predicate] = []
        exceptions: list[Node] = []
        for node in root.children if isinstance(root, All) else (root,):
            if isinstance(node, Predicate):
                positive.append(node)
            elif isinstance(node, Not):
                exceptions.append(node.child)
            elif isinstance(node, All):
                more, except_more = self.split(node)
                positive += more
                exceptions += except_more
            else:
                raise NotExpressible(self._place, "match.any", "alternatives are not supported")
        return positive, exceptions

    def exceptions(self, nodes: Iterable[Node]) -> Iterator[Match]:
        """The lines of what the rule does not match: each alternative is one of its own."""
        for node in nodes:
            if isinstance(node, Any):
                yield from self.exceptions(node.children)
            elif isinstance(node, Predicate):
                yield from self.leaf(node)
            else:
                leaves, nested = self.split(node)
                if nested:
                    raise NotExpressible(self._place, "not", "a not under a not is not supported")
                yield from self.product([self.leaf(leaf) for leaf in leaves])

    def product(self, alternatives: Iterable[Sequence[Match]]) -> list[Match]:
        """All combinations of alternatives that must be true together."""
        return [
            tuple(itertools.chain.from_iterable(each)) for each in itertools.product(*alternatives)
        ]

    def protocols(self, leaves: Iterable[Predicate]) -> frozenset[str]:
        found = frozenset(_PROTOCOLS)
        for leaf in leaves:
            if isinstance(leaf, ProtocolIs):
                unsupported = leaf.protocols.difference(_PROTOCOLS)
                if unsupported:
                    name = min(unsupported)
                    reason = f"{name} sockets have no packets of their own that a filter can tell"
                    raise self._error(leaf, reason)
                found &= leaf.protocols
        return found

    def check_condition(self, rule: Rule, exceptions: Iterable[Node]) -> None:
        """A filter does not know whether an interface is up.

        A condition is left out if the rule exempts what leaves through the interface: while it is
        down, the filter rejects what the rule would let pass.
        """
        condition = rule.condition
        if condition is None:
            return
        exempted = {
            pattern.interface
            for node in exceptions
            for leaf in (node.children if isinstance(node, Any) else (node,))
            if isinstance(leaf, EndpointIn) and not leaf.remote
            for pattern in leaf.patterns
        }
        known = isinstance(condition, FactCondition) and condition.fact.kind in (UP, PRESENT)
        if not known or condition.interfaces[0] not in exempted:
            raise NotExpressible(
                self._place,
                "while",
                "a packet filter cannot evaluate it. Only an interface that is up or present is "
                "supported, in a rule with this interface under not.local",
            )

    def leaf(self, leaf: Predicate) -> list[Match]:
        """The alternatives of a predicate; [()] matches everything. Raises NotExpressible."""
        if isinstance(leaf, StateIs) and not leaf.path:
            # The default of the selector.
            return [()]
        if isinstance(leaf, UserIs):
            return [(f"meta skuid {_set(map(_range, leaf.ranges))}",)]
        if isinstance(leaf, MarkIs):
            return [(f"meta mark & {mask:#x} == {value & mask:#x}",) for value, mask in leaf.pairs]
        if isinstance(leaf, PortIn):
            side = "dport" if leaf.remote else "sport"
            return [(f"th {side} {_set(map(_range, leaf.ranges))}",)]
        if isinstance(leaf, ProtocolIs):
            return [(f"meta l4proto {_set(sorted(leaf.protocols))}",)]
        if isinstance(leaf, FamilyIs):
            return [
                (f"meta nfproto {'ipv4' if name == 'inet' else 'ipv6'}",)
                for name in sorted(leaf.families)
            ]
        if isinstance(leaf, EndpointIn):
            return self._endpoint(leaf)
        raise self._error(leaf, "packets do not show it")

    def _endpoint(self, leaf: EndpointIn) -> list[Match]:
        found: list[Match] = []
        side = "d" if leaf.remote else "s"
        sets: dict[tuple[int, int | None], list[typing.Any]] = {}
        for pattern in leaf.patterns:
            if pattern.interface is not None:
                found.append(self._interface(leaf, pattern))
            elif pattern.prefix is not None:
                address, length = pattern.prefix
                network = ipaddress.ip_network((address, length))
                sets.setdefault((network.version, pattern.port), []).append(network)
        for (version, port), networks in sets.items():
            family = "ip" if version == 4 else "ip6"
            # nft refuses intervals that overlap.
            disjoint = map(str, ipaddress.collapse_addresses(networks))
            match = f"{family} {side}addr {_set(disjoint)}"
            found.append((match,) if port is None else (match, f"th {side}port {port}"))
        return found

    def _interface(self, leaf: EndpointIn, pattern: EndpointPattern) -> Match:
        name = pattern.interface or ""
        if leaf.remote or pattern.prefix is not None or pattern.port is not None:
            raise self._error(leaf, "only local: interface:NAME is supported for interfaces")
        # nft takes names in quotes, without escapes. The kernel accepts other names, too.
        if '"' in name or "*" in name or not name.isprintable() or len(name.encode()) > 15:
            raise self._error(leaf, f"nft cannot name the interface {name!r}")
        return (f'oifname "{name}"',)

    def _error(self, leaf: Predicate, reason: str) -> NotExpressible:
        path = ".".join(str(step) for step in leaf.path if not isinstance(step, int))
        # The path begins with the rule or the protection.
        key = path.rpartition("match.")[2].rpartition("selectors.")[2]
        return NotExpressible(self._place, key, reason)


def _range(ends: tuple[int, int]) -> str:
    first, last = ends
    return str(first) if first == last else f"{first}-{last}"


def _set(items: Iterable[str]) -> str:
    return f"{{ {', '.join(items)} }}"
