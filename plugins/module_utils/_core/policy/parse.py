# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: from what a user wrote to a policy.

It is complete by itself: a target needs no jsonschema. What is wrong is collected, so that all of
it is told at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from .. import values
from ..errors import InputError, PathStep, PolicyErrors
from ..guard.options import Guard, parse_guard
from ..host.namespaces import checked_name
from ..selector.parse import Selector, parse_selector
from ..values import Names, Path
from . import lint, model
from .conditions import Condition
from .model import Limits, Policy, Rule
from .plain import refuse_unplain
from .while_ import parse_condition

T = TypeVar("T")

_KEYS = ("version", "mode", "namespaces", "limits", "protect", "rules")
_REQUIRED = ("version", "limits", "rules")
_POLICY = f"a mapping with the keys {', '.join(_KEYS)}"
_NAMESPACES = "a list of names of network namespaces: current, all, pid:N, or as ip netns has them"
_LIMITS_KEYS = ("max_sockets", "per", "on_excess")
_LIMITS = "a mapping such as {max_sockets: 500, per: 1m, on_excess: refuse}, or on_excess: pace"
_RULE_KEYS = ("name", "while", "match", "hold", "action")
_RULE = f"a mapping with the keys {', '.join(_RULE_KEYS)}, of which name and match are required"
_RULES = "a list of one or more rules"
_NAME = "1 to 64 letters, digits, dots, underlines and hyphens, the first a letter or a digit"
_NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAX_SOCKETS = "a whole number from 1; mode: report destroys none"


class AnyNames:
    """For a machine that is not the one whose sockets are meant: every name may be one there.

    guessed: whether it was asked for any.
    """

    def __init__(self) -> None:
        self.guessed = False

    def user_id(self, name: str) -> int | None:  # noqa: ARG002
        self.guessed = True
        return 0

    def service_port(self, name: str, protocol: str) -> int | None:  # noqa: ARG002
        self.guessed = True
        return 0


def parse_policy(
    value: object, *, names: Names, files: str | None, path: Sequence[PathStep] = ()
) -> Policy:
    """Read a policy.

    names: where users and services are looked up; AnyNames() where the policy is for another
    machine. files: the directory of protection files, which are obeyed beside `protect`; None for
    a machine without one.
    Raises PolicyErrors with all that is wrong, and ProtectFileError.
    """
    whole = tuple(path)
    try:
        refuse_unplain(value, whole)
    except InputError as error:
        raise PolicyErrors([error]) from error
    reader = _Reader(names, files)
    try:
        parts = reader.parts(value, whole)
    except InputError as error:
        raise PolicyErrors([*reader.errors, error]) from error
    if reader.errors:
        raise PolicyErrors(reader.errors)
    rules = [rule for rule, _given in parts.rules]
    errors, warnings = lint.examined(
        parts.rules,
        parts.guard,
        (*whole, "rules"),
        guessed=isinstance(names, AnyNames) and names.guessed,
    )
    if errors:
        raise PolicyErrors(errors)
    return Policy(
        mode=parts.mode,
        namespaces=parts.namespaces,
        limits=parts.limits,
        guard=parts.guard,
        rules=tuple(rules),
        needs=frozenset().union(*map(_needs, rules)),
        digest=model.digest(value),
        warnings=tuple(warnings),
    )


class _Parts(NamedTuple):
    """rules: each with what was written."""

    mode: str
    namespaces: tuple[str, ...]
    limits: Limits
    guard: Guard
    rules: list[tuple[Rule, Mapping[str, Any]]]


class _Reader:
    """Keeps errors instead of raising the first. What could not be read is as if it had not been
    given, so that the rest can be read too."""

    def __init__(self, names: Names, files: str | None) -> None:
        self.errors: list[InputError] = []
        self._names = names
        self._files = files

    def parts(self, value: object, path: Path) -> _Parts:
        written = self._mapping(value, path, _KEYS, _REQUIRED, _POLICY)
        self._read(written, "version", path, _version, None)
        return _Parts(
            self._read(written, "mode", path, _mode, model.ENFORCE),
            self._read(written, "namespaces", path, self._namespaces, ("current",)),
            self._read(written, "limits", path, self._limits, Limits(1)),
            self._guard(written, path),
            self._read(written, "rules", path, self._rules, []),
        )

    def _read(
        self,
        written: Mapping[str, Any],
        key: str,
        path: Path,
        parse: Callable[[object, Path], T],
        otherwise: T,
    ) -> T:
        """What parse(value, path) makes of the value under a key."""
        if key not in written:
            return otherwise
        try:
            return parse(written[key], (*path, key))
        except InputError as error:
            self.errors.append(error)
            return otherwise

    def _mapping(
        self, value: object, path: Path, known: Sequence[str], required: Sequence[str], allowed: str
    ) -> Mapping[str, Any]:
        """A mapping with some of the known keys. Raises InputError where it is none; what is wrong
        about its keys is kept."""
        if not isinstance(value, Mapping) or not value:
            problem = "empty" if value in ("", {}) else values.describe_type(value)
            raise InputError(path, value, problem, allowed)
        for key, under in value.items():
            if key not in known:
                problem = f"no such key{values.suggestion(key, known)}"
                self.errors.append(InputError((*path, key), under, problem, allowed))
        for key in required:
            if key not in value:
                problem = "missing, and required"
                self.errors.append(InputError((*path, key), None, problem, allowed))
        return value

    def _namespaces(self, value: object, path: Path) -> tuple[str, ...]:
        named = [checked_name(item, at) for at, item in _elements(value, path, _NAMESPACES)]
        return tuple(dict.fromkeys(named))

    def _limits(self, value: object, path: Path) -> Limits:
        written = self._mapping(value, path, _LIMITS_KEYS, ("max_sockets",), _LIMITS)
        return Limits(
            self._read(written, "max_sockets", path, _max_sockets, 1),
            self._read(written, "per", path, _window, model.DEFAULT_PER_MS),
            self._read(written, "on_excess", path, _on_excess, model.REFUSE),
        )

    def _guard(self, written: Mapping[str, Any], path: Path) -> Guard:
        at = (*path, "protect")
        value = written.get("protect")
        if "protect" in written and not value:
            problem = "empty" if value in ("", {}) else values.describe_type(value)
            allowed = "a mapping of switches and selectors; without the key the guard is whole"
            self.errors.append(InputError(at, value, problem, allowed))
            value = None
        elif isinstance(value, Mapping):
            # The guard itself takes these for what was not given.
            for key, under in value.items():
                if under is None or under == []:
                    problem = values.describe_type(under) if under is None else "an empty list"
                    allowed = "a value, or nothing: leave the key out"
                    self.errors.append(InputError((*at, key), under, problem, allowed))
        try:
            return parse_guard(value, names=self._names, files=self._files, path=at)
        except InputError as error:
            self.errors.append(error)
            return Guard()

    def _rules(self, value: object, path: Path) -> list[tuple[Rule, Mapping[str, Any]]]:
        found = _elements(value, path, _RULES)
        if len(found) > model.MOST_RULES:
            raise InputError(path, "...", f"more than {model.MOST_RULES} rules", _RULES)
        rules: list[tuple[Rule, Mapping[str, Any]]] = []
        first: dict[str, PathStep] = {}
        for at, item in found:
            try:
                written = self._mapping(item, at, _RULE_KEYS, ("name", "match"), _RULE)
                rule = self._rule(written, at)
            except InputError as error:
                self.errors.append(error)
                continue
            if rule is None:
                continue
            if rule.name in first:
                problem = f"the name of rules[{first[rule.name]}] too"
                remedy = "a name for each rule of its own"
                self.errors.append(InputError((*at, "name"), rule.name, problem, remedy))
            first.setdefault(rule.name, at[-1])
            rules.append((rule, written))
        return rules

    def _rule(self, written: Mapping[str, Any], path: Path) -> Rule | None:
        """None: without a match there is no rule, and that was told."""
        action = self._read(written, "action", path, _action, model.DESTROY)

        def selector(value: object, at: Path) -> Selector | None:
            return self._match(value, at, action)

        match = self._read(written, "match", path, selector, None)
        name = self._read(written, "name", path, _name, "")
        hold = self._read(written, "hold", path, _duration, model.DEFAULT_HOLD_MS)
        condition = self._read(written, "while", path, _condition, None)
        if match is None or not name:
            return None
        asked = () if condition is None else condition.interfaces
        mentioned = tuple(dict.fromkeys((*asked, *lint.mentioned(match))))
        return Rule(name, match, condition, hold, action, mentioned)

    def _match(self, value: object, path: Path, action: str) -> Selector:
        if value == {}:
            remedy = "a selector; state: all for every socket"
            raise InputError(path, value, "an empty selector", remedy)
        role = "destroy" if action == model.DESTROY else "find"
        return parse_selector(value, names=self._names, path=path, role=role)


def _elements(value: object, path: Path, allowed: str) -> list[tuple[Path, object]]:
    """The elements of a list that is not empty."""
    if not isinstance(value, list):
        raise InputError(
            path, value, "empty" if value == "" else values.describe_type(value), allowed
        )
    return list(values.items(value, path, allowed))


def _version(value: object, path: Path) -> None:
    allowed = str(model.VERSION)
    if values.integer(value, path, allowed) != model.VERSION:
        raise InputError(path, value, "a version that is not known here", allowed)


def _mode(value: object, path: Path) -> str:
    return values.choice(value, path, model.MODES, "mode")


def _max_sockets(value: object, path: Path) -> int:
    return values.integer(value, path, _MAX_SOCKETS, low=1, high=model.MOST_SOCKETS)


def _window(value: object, path: Path) -> int:
    return values.parse_duration_ms(
        value, path, low_ms=model.SHORTEST_PER_MS, high_ms=model.LONGEST_MS
    )


def _on_excess(value: object, path: Path) -> str:
    return values.choice(value, path, model.EXCESSES, "choice")


def _action(value: object, path: Path) -> str:
    return values.choice(value, path, model.ACTIONS, "action")


def _name(value: object, path: Path) -> str:
    name = values.text(value, path, _NAME)
    if not _NAME_PATTERN.fullmatch(name):
        raise InputError(path, value, "cannot be the name of a rule", _NAME)
    return name


def _duration(value: object, path: Path) -> int:
    return values.parse_duration_ms(value, path, high_ms=model.LONGEST_MS)


def _condition(value: object, path: Path) -> Condition | None:
    return parse_condition(value, path)


def _needs(rule: Rule) -> frozenset[str]:
    """On which kinds of facts a rule depends."""
    found = rule.match.needs & {"addresses", "links"}
    if "routes" in rule.match.needs:
        found |= {"addresses", "links", "routes", "rules"}
    return found if rule.condition is None else found | rule.condition.needs
