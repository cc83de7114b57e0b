# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Semantic checks of rules, beyond the schema.

Errors: a rule that can never match, or that could destroy every socket without `state`. Warnings: a
rule that matches only protected sockets, that selects protocols which the engine cannot destroy, or
that repeats another rule.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..destroy.engines import registry
from ..errors import InputError, PolicyWarning
from ..guard.options import Guard
from ..selector.parse import Selector, parse_selector
from ..selector.predicates.address import EndpointIn
from ..selector.predicates.socket import DeviceIs
from ..selector.predicates.verdict import StrandedIs
from ..selector.tree import predicates
from ..values import Path
from .conditions import can_hold
from .model import DESTROY, Rule
from .satisfiability import names_specific_sockets, satisfiable

# The guard's switches that depend only on the socket itself, as selectors.
_SWITCHES: dict[str, Mapping[str, Any]] = {
    "listeners": {"state": ["listening", "bound-inactive"]},
    "unconnected": {"protocol": ["udp", "udplite", "raw"], "state": "closed"},
    "loopback": {
        "any": [{"local": ["127.0.0.0/8", "::1"]}, {"remote": ["127.0.0.0/8", "::1"]}],
    },
}


# Pairs of a rule and a protection to compare, at about one millisecond each.
_MAX_COMPARISONS = 300


class _NoNames:
    """Names that resolves nothing: _SWITCHES contains no user or service."""

    def user_id(self, name: str) -> int | None:  # noqa: ARG002
        return None

    def service_port(self, name: str, protocol: str) -> int | None:  # noqa: ARG002
        return None


_NO_NAMES = _NoNames()


def check_rules(
    rules: Sequence[tuple[Rule, Mapping[str, Any]]],
    guard: Guard,
    path: Path,
    *,
    engine: str,
    names_unresolved: bool,
) -> tuple[list[InputError], list[PolicyWarning]]:
    """Return the errors and warnings of rules that are well-formed.

    rules: each with its mapping as written. path: of the list of rules. engine: of the policy.
    names_unresolved: users or
    services were not looked up; selectors are not compared then.
    """
    errors: list[InputError] = []
    warnings: list[PolicyWarning] = []
    protections = _protections(guard)
    # Bounds the time of a reload: each rule is compared with the first protections only.
    protections = protections[: max(len(_SWITCHES), _MAX_COMPARISONS // max(1, len(rules)))]
    for index, (rule, written) in enumerate(rules):
        at = (*path, index)
        found = list(_errors(rule, written, at, names_unresolved=names_unresolved))
        errors += found
        if not found and rule.action == DESTROY:
            warnings += _indestructible(rule, engine, at)
        if not found and not names_unresolved and rule.action == DESTROY:
            warnings += _fully_protected(rule, protections, at)
    return errors, warnings + list(_duplicates([written for _rule, written in rules], path))


def _errors(
    rule: Rule, written: Mapping[str, Any], at: Path, *, names_unresolved: bool
) -> Iterator[InputError]:
    match = rule.match
    if rule.condition is not None and not can_hold(rule.condition):
        yield InputError(
            (*at, "while"),
            written["while"],
            "can never be true",
            "a condition that some network can meet; is: up and route are neither true nor false "
            "for a missing interface",
        )
    if not match.protocols or (not names_unresolved and satisfiable([(match.root, True)]) is False):
        yield InputError(
            (*at, "match"),
            written["match"],
            "can match no socket: its keys exclude each other",
            "keys that one socket can match; all keys of a mapping must match, so put "
            "alternatives under any",
        )
    if rule.action == DESTROY and not names_specific_sockets(match.root):
        yield InputError(
            (*at, "match"),
            written["match"],
            "could match every socket: no key selects specific sockets",
            "a key that selects specific sockets; for every socket state: all; to destroy nothing "
            "action: report",
        )


def _protections(guard: Guard) -> list[tuple[str, Selector]]:
    """Selectors of protected sockets, each with its name in the policy."""
    switches = [
        (f"protect.{name}", parse_selector(match, names=_NO_NAMES, path=(name,), role="protect"))
        for name, match in _SWITCHES.items()
        if getattr(guard, name)
    ]
    return [*switches, *guard.selectors]


def _fully_protected(
    rule: Rule, protections: Sequence[tuple[str, Selector]], at: Path
) -> Iterator[PolicyWarning]:
    """Yield a warning if one protection covers every socket that the rule can match."""
    covering = [
        name
        for name, selector in protections
        if satisfiable([(rule.match.root, True), (selector.root, False)]) is False
    ]
    if covering:
        yield PolicyWarning(
            (*at, "match"),
            f"matches only sockets that {covering[0]} protects, so the rule destroys nothing",
            f"narrow {covering[0]}, or set action: report",
        )


def _indestructible(rule: Rule, engine: str, at: Path) -> Iterator[PolicyWarning]:
    """Yield a warning if the engine can destroy no sockets of some protocols of the rule."""
    found = sorted(registry.indestructible(engine) & set(rule.match.protocols))
    if found:
        yield PolicyWarning(
            (*at, "match"),
            f"selects {', '.join(found)} sockets, which engine {engine} cannot destroy",
            f"set engine: {registry.AUTO} in the policy, omit the protocol, or set action: report",
        )


def _duplicates(rules: Sequence[Mapping[str, Any]], path: Path) -> Iterator[PolicyWarning]:
    first: dict[str, int] = {}
    for index, written in enumerate(rules):
        content = json.dumps([written.get("while"), written["match"]], sort_keys=True)
        if content in first:
            yield PolicyWarning(
                (*path, index),
                f"has the same while and match as rules[{first[content]}]",
                "remove one of the two",
            )
        first.setdefault(content, index)


def interfaces_of(selector: Selector) -> tuple[str, ...]:
    """Names of the interfaces in a selector, without duplicates."""
    found: list[str] = []
    for predicate in predicates(selector.root):
        if isinstance(predicate, EndpointIn):
            found += [
                pattern.label if pattern.invalid and pattern.label else pattern.interface
                for pattern in predicate.patterns
                if pattern.interface is not None
            ]
        elif isinstance(predicate, DeviceIs):
            found += predicate.names
        elif isinstance(predicate, StrandedIs):
            found += [name for stranded in predicate.verdicts for name in sorted(stranded.to or ())]
    return tuple(dict.fromkeys(found))
