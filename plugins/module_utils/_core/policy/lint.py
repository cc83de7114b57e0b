# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what no schema can see: rules that make no sense.

An error is what can only be a mistake: a rule that can never do anything, or one that would destroy
just everything without saying so. A warning is what does no harm, but hardly what was meant: a rule
of which all is protected, or that another one repeats.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

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
from .satisfiability import satisfiable, says_which

# What the guard's switches spare for what a socket is by itself, as selectors.
_SWITCHES: dict[str, Mapping[str, Any]] = {
    "listeners": {"state": ["listening", "bound-inactive"]},
    "unconnected": {"protocol": ["udp", "udplite", "raw"], "state": "closed"},
    "loopback": {
        "any": [{"local": ["127.0.0.0/8", "::1"]}, {"remote": ["127.0.0.0/8", "::1"]}],
    },
}


# Pairs of a rule and a protection, each of which takes about a millisecond.
_MOST_COMPARED = 300


class _Nobody:
    """The selectors of the switches name no user and no service."""

    def user_id(self, name: str) -> int | None:  # noqa: ARG002
        return None

    def service_port(self, name: str, protocol: str) -> int | None:  # noqa: ARG002
        return None


_NOBODY = _Nobody()


def examined(
    rules: Sequence[tuple[Rule, Mapping[str, Any]]],
    guard: Guard,
    path: Path,
    *,
    guessed: bool,
) -> tuple[list[InputError], list[PolicyWarning]]:
    """What is wrong, and what is odd, about rules that are well formed.

    rules: each with what was written. path: to them. guessed: users or services could not be looked
    up, so that nothing can be said of what selectors have in common.
    """
    errors: list[InputError] = []
    warnings: list[PolicyWarning] = []
    protected = _protected(guard)
    # So that a reload takes no minutes: of many protections the first are compared with each rule.
    protected = protected[: max(len(_SWITCHES), _MOST_COMPARED // max(1, len(rules)))]
    for index, (rule, given) in enumerate(rules):
        at = (*path, index)
        found = list(_errors(rule, given, at, guessed=guessed))
        errors += found
        if not found and not guessed and rule.action == DESTROY:
            warnings += _covered(rule, protected, at)
    return errors, warnings + list(_repeated([given for _rule, given in rules], path))


def _errors(
    rule: Rule, given: Mapping[str, Any], at: Path, *, guessed: bool
) -> Iterator[InputError]:
    match = rule.match
    if rule.condition is not None and not can_hold(rule.condition):
        yield InputError(
            (*at, "while"),
            given["while"],
            "can never hold",
            "a condition that some network fulfils; what is said of an interface that is not "
            "there counts neither as true nor as false",
        )
    if not match.protocols or (not guessed and satisfiable([(match.root, True)]) is False):
        yield InputError(
            (*at, "match"),
            given["match"],
            "can match no socket: its keys exclude each other",
            "keys that one socket can fulfil; what is in one mapping must all hold, alternatives "
            "go under any",
        )
    if rule.action == DESTROY and not says_which(match.root):
        yield InputError(
            (*at, "match"),
            given["match"],
            "could match everything: it says at most what is not meant",
            "a key that says which sockets are meant, or state written out (state: all) if all "
            "are, or action: report",
        )


def _protected(guard: Guard) -> list[tuple[str, Selector]]:
    switched = [
        (f"protect.{name}", parse_selector(given, names=_NOBODY, path=(name,), role="protect"))
        for name, given in _SWITCHES.items()
        if getattr(guard, name)
    ]
    return [*switched, *guard.selectors]


def _covered(
    rule: Rule, protected: Sequence[tuple[str, Selector]], at: Path
) -> Iterator[PolicyWarning]:
    """Told where every socket that the rule can match is protected."""
    alone = [
        source
        for source, selector in protected
        if satisfiable([(rule.match.root, True), (selector.root, False)]) is False
    ]
    if alone:
        yield PolicyWarning(
            (*at, "match"),
            f"matches only what {alone[0]} protects, so the rule destroys nothing",
            f"narrow {alone[0]}, or action: report",
        )


def _repeated(written: Sequence[Mapping[str, Any]], path: Path) -> Iterator[PolicyWarning]:
    first: dict[str, int] = {}
    for index, given in enumerate(written):
        asked = json.dumps([given.get("while"), given["match"]], sort_keys=True)
        if asked in first:
            yield PolicyWarning(
                (*path, index),
                f"asks just what rules[{first[asked]}] asks",
                "leave one of the two out",
            )
        first.setdefault(asked, index)


def mentioned(selector: Selector) -> tuple[str, ...]:
    """The names of interfaces that a selector mentions, each once."""
    found: list[str] = []
    for leaf in predicates(selector.root):
        if isinstance(leaf, EndpointIn):
            found += [host.interface for host in leaf.patterns if host.interface is not None]
        elif isinstance(leaf, DeviceIs):
            found += leaf.names
        elif isinstance(leaf, StrandedIs):
            found += [name for each in leaf.verdicts for name in sorted(each.to or ())]
    return tuple(dict.fromkeys(found))
