# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Policy parser: from a YAML or JSON document to a Policy.

The parser checks everything that the JSON Schema checks, so a target needs no jsonschema. It
collects all errors of a document and raises them together.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from .. import values
from ..destroy.engines import registry
from ..errors import InputError, PathStep, PolicyErrors
from ..guard.options import OFF_IN_POLICIES, Guard, parse_guard
from ..host.namespaces import checked_name
from ..selector.parse import Selector, parse_selector
from ..values import Names, Path
from . import lint, model
from .conditions import Condition, parse_condition
from .model import Limits, Policy, Rule

T = TypeVar("T")

# Names the schema for editors; has no meaning here.
_SCHEMA = "$schema"
_KEYS = ("version", "mode", "engine", "namespaces", "limits", "protect", "rules")
_REQUIRED = ("version", "limits", "rules")
_POLICY = f"a mapping with the keys {', '.join(_KEYS)}"
_NAMESPACES = "a list of network namespaces: current, all, pid:N, or names from `ip netns list`"
_LIMITS_KEYS = ("max_sockets", "per", "on_excess", "scope", "total")
_LIMITS = (
    "a mapping such as {max_sockets: 500, per: 1m, on_excess: refuse}, with the optional keys "
    "scope and total"
)
_RULE_KEYS = ("name", "while", "match", "hold", "action")
_RULE = f"a mapping with the keys {', '.join(_RULE_KEYS)}; name and match are required"
_RULES = "a list of one or more rules"
# Words of other tools, and the keys that replace each.
_SYNONYMS = {
    **dict.fromkeys(("selector", "select", "filter", "sockets"), ("match",)),
    **dict.fromkeys(("when", "if", "condition", "only_if", "while_"), ("while",)),
    **dict.fromkeys(("for", "after", "delay", "wait"), ("hold",)),
    **dict.fromkeys(("id", "title", "rule"), ("name",)),
    **dict.fromkeys(("do", "effect", "verdict"), ("action",)),
    **dict.fromkeys(("limit", "budget", "max"), ("limits", "max_sockets")),
    **dict.fromkeys(("guard", "exclude", "except"), ("protect",)),
    **dict.fromkeys(("netns", "namespace"), ("namespaces",)),
    **dict.fromkeys(("max_per", "window", "interval", "period"), ("per",)),
    **dict.fromkeys(("count", "sockets_max", "number"), ("max_sockets",)),
}
_NAME = "1 to 64 letters, digits, dots, underscores and hyphens, starting with a letter or a digit"
_NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAX_SOCKETS = "a whole number from 1; to destroy none, set mode: report"
_TOTAL = "a whole number from max_sockets"

_REQUIRED_VALUES = {
    "version": str(model.VERSION),
    "limits": _LIMITS,
    "rules": _RULES,
    "name": _NAME,
    "match": "a selector, such as {remote: 10.0.0.0/8}",
    "max_sockets": _MAX_SOCKETS,
}

# Bounds of a document, which keep parsing and its digest fast.
MAX_DEPTH = 100
MAX_VALUES = 100_000
_MAX_INTEGER_BITS = 128
_JSON = "strings, numbers, booleans, lists, and mappings with string keys"


class AnyNames:
    """Names that accepts every user and service: for a policy of another machine.

    used: whether the parser looked up a name.
    """

    def __init__(self) -> None:
        self.used = False

    def user_id(self, name: str) -> int | None:  # noqa: ARG002
        self.used = True
        return 0

    def service_port(self, name: str, protocol: str) -> int | None:  # noqa: ARG002
        self.used = True
        return 0


def parse_policy(
    value: object, *, names: Names, files: str | None, path: Sequence[PathStep] = ()
) -> Policy:
    """Parse a policy document.

    names: resolves users and services; AnyNames() for a policy of another machine. files: the
    directory of protection files, which add to `protect`; None for none. path: position of the
    document in the user's input, for errors.
    Raises PolicyErrors with every error of the document, and ProtectFileError.
    """
    root = tuple(path)
    try:
        require_json(value, root)
    except InputError as error:
        raise PolicyErrors([error]) from error
    parser = _Parser(names, files)
    try:
        parsed = parser.document(value, root)
    except InputError as error:
        raise PolicyErrors([*parser.errors, error]) from error
    if parser.errors:
        raise PolicyErrors(parser.errors)
    rules = [rule for rule, _written in parsed.rules]
    errors, warnings = lint.check_rules(
        parsed.rules,
        parsed.guard,
        (*root, "rules"),
        engine=parsed.engine,
        names_unresolved=isinstance(names, AnyNames) and names.used,
    )
    if errors:
        raise PolicyErrors(errors)
    return Policy(
        mode=parsed.mode,
        engine=parsed.engine,
        namespaces=parsed.namespaces,
        limits=_with_total(parsed.limits, rules),
        guard=parsed.guard,
        rules=tuple(rules),
        needs=frozenset().union(*(rule.needs for rule in rules)),
        digest=model.digest(value),
        warnings=tuple(warnings),
    )


def require_json(value: object, path: Path) -> None:
    """Raise InputError unless JSON can represent the document; only such documents have a digest.

    Rejects dates, sets, keys that are not strings, and the other types that YAML can produce; also
    documents that nest too deep or hold too many values.
    """
    remaining = MAX_VALUES
    pending: list[tuple[object, Path]] = [(value, path)]
    while pending:
        item, at = pending.pop()
        remaining -= 1
        if remaining < 0:
            problem = f"more than {MAX_VALUES} values"
            raise InputError(path, "...", problem, f"up to {MAX_VALUES} values")
        if len(at) - len(path) > MAX_DEPTH:
            problem = f"nested more than {MAX_DEPTH} levels deep"
            raise InputError(path, "...", problem, f"up to {MAX_DEPTH} levels")
        if isinstance(item, Mapping):
            for key, under in item.items():
                if not isinstance(key, str):
                    problem = f"a key that is {values.describe_type(key)}"
                    raise InputError(at, key, problem, "string keys; put the key in quotes")
                pending.append((under, (*at, key)))
        elif isinstance(item, list):
            pending += [(under, (*at, index)) for index, under in enumerate(item)]
        elif isinstance(item, int) and item.bit_length() > _MAX_INTEGER_BITS:
            # Python refuses to convert an int of more than 4300 digits to text.
            problem = f"an integer of more than {_MAX_INTEGER_BITS} bits"
            raise InputError(at, "...", problem, "a smaller number")
        elif isinstance(item, float) and not math.isfinite(item):
            raise InputError(at, item, "not a finite number", _JSON)
        elif item is not None and not isinstance(item, (str, int, float)):
            dated = isinstance(item, (datetime.date, datetime.time))
            problem = "a date or a time" if dated else values.describe_type(item)
            allowed = f"{_JSON}; put the value in quotes"
            raise InputError(at, str(item) if dated else item, problem, allowed)


class _Document(NamedTuple):
    """The parsed keys of a document. rules: each with its mapping as written."""

    mode: str
    engine: str
    namespaces: tuple[str, ...]
    limits: Limits
    guard: Guard
    rules: list[tuple[Rule, Mapping[str, Any]]]


class _Parser:
    """Parses a document and collects its errors.

    A key with an error gets its default, so that parsing can continue.
    """

    def __init__(self, names: Names, files: str | None) -> None:
        self.errors: list[InputError] = []
        self._names = names
        self._files = files

    def document(self, value: object, path: Path) -> _Document:
        written = self._mapping(value, path, (*_KEYS, _SCHEMA), _REQUIRED, _POLICY)
        self._key(written, _SCHEMA, path, _schema, None)
        self._key(written, "version", path, _version, None)
        return _Document(
            self._key(written, "mode", path, _mode, model.ENFORCE),
            self._key(written, "engine", path, _engine, model.DEFAULT_ENGINE),
            self._key(written, "namespaces", path, self._namespaces, ("current",)),
            self._key(written, "limits", path, self._limits, Limits(1)),
            self._guard(written, path),
            self._key(written, "rules", path, self._rules, []),
        )

    def _key(
        self,
        written: Mapping[str, Any],
        key: str,
        path: Path,
        parse: Callable[[object, Path], T],
        default: T,
    ) -> T:
        """Parse the value of a key; the default if it is missing or has an error."""
        if key not in written:
            return default
        try:
            return parse(written[key], (*path, key))
        except InputError as error:
            self.errors.append(error)
            return default

    def _mapping(
        self, value: object, path: Path, known: Sequence[str], required: Sequence[str], allowed: str
    ) -> Mapping[str, Any]:
        """Check the keys of a mapping. Raises InputError if the value is not a mapping."""
        if not isinstance(value, Mapping) or not value:
            problem = "empty" if value in ("", {}) else values.describe_type(value)
            raise InputError(path, value, problem, allowed)
        near = {word: keys for word, keys in _SYNONYMS.items() if keys[0] in known}
        for key, under in value.items():
            if key not in known:
                self.errors.append(
                    values.no_such((*path, key), under, "no such key", key, known, allowed, near)
                )
        for key in required:
            if key not in value:
                problem = "missing, but required"
                hint = _REQUIRED_VALUES.get(key, allowed)
                self.errors.append(InputError((*path, key), None, problem, hint))
        return value

    def _namespaces(self, value: object, path: Path) -> tuple[str, ...]:
        names = [checked_name(item, at) for at, item in _elements(value, path, _NAMESPACES)]
        return tuple(dict.fromkeys(names))

    def _limits(self, value: object, path: Path) -> Limits:
        written = self._mapping(value, path, _LIMITS_KEYS, ("max_sockets",), _LIMITS)
        limits = Limits(
            self._key(written, "max_sockets", path, _max_sockets, 1),
            self._key(written, "per", path, _per, model.DEFAULT_PER_MS),
            self._key(written, "on_excess", path, _on_excess, model.REFUSE),
            self._key(written, "scope", path, _scope, model.RULE_AND_USER),
            self._key(written, "total", path, _max_sockets, None),
        )
        if limits.total is not None and "max_sockets" in written:
            at = (*path, "total")
            if limits.scope == model.TOTAL:
                problem = "max_sockets is the total already, because of scope: total"
                self.errors.append(InputError(at, limits.total, problem, "no total with it"))
            elif limits.total < limits.max_sockets:
                problem = f"less than max_sockets, {limits.max_sockets}"
                self.errors.append(InputError(at, limits.total, problem, _TOTAL))
        return limits

    def _guard(self, written: Mapping[str, Any], path: Path) -> Guard:
        at = (*path, "protect")
        value = written.get("protect")
        if "protect" in written and not value:
            problem = "empty" if value in ("", {}) else values.describe_type(value)
            allowed = "a mapping of switches and selectors; omit the key for the default guard"
            self.errors.append(InputError(at, value, problem, allowed))
            value = None
        elif isinstance(value, Mapping):
            # parse_guard treats these as module options that are not set; here they are errors.
            for key, under in value.items():
                if under is None or under == []:
                    problem = values.describe_type(under) if under is None else "an empty list"
                    allowed = "a value; omit the key for its default"
                    self.errors.append(InputError((*at, key), under, problem, allowed))
        try:
            return parse_guard(
                value, names=self._names, files=self._files, path=at, off=OFF_IN_POLICIES
            )
        except InputError as error:
            self.errors.append(error)
            return Guard()

    def _rules(self, value: object, path: Path) -> list[tuple[Rule, Mapping[str, Any]]]:
        found = _elements(value, path, _RULES)
        if len(found) > model.MAX_RULES:
            raise InputError(path, "...", f"more than {model.MAX_RULES} rules", _RULES)
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
                problem = f"already the name of rules[{first[rule.name]}]"
                self.errors.append(
                    InputError((*at, "name"), rule.name, problem, "a unique name for each rule")
                )
            first.setdefault(rule.name, at[-1])
            rules.append((rule, written))
        return rules

    def _rule(self, written: Mapping[str, Any], path: Path) -> Rule | None:
        """None if name or match is missing or has an error, which is already recorded."""
        action = self._key(written, "action", path, _action, model.DESTROY)

        def selector(value: object, at: Path) -> Selector | None:
            return self._match(value, at, action)

        match = self._key(written, "match", path, selector, None)
        name = self._key(written, "name", path, _name, "")
        hold = self._key(written, "hold", path, _hold, model.DEFAULT_HOLD_MS)
        condition = self._key(written, "while", path, _condition, None)
        if match is None or not name:
            return None
        in_condition = () if condition is None else condition.interfaces
        interfaces = tuple(dict.fromkeys((*in_condition, *lint.interfaces_of(match))))
        return Rule(name, match, condition, hold, action, interfaces)

    def _match(self, value: object, path: Path, action: str) -> Selector:
        if value == {}:
            allowed = "a selector; use state: all for every socket"
            raise InputError(path, value, "an empty selector", allowed)
        role = "destroy" if action == model.DESTROY else "find"
        return parse_selector(value, names=self._names, path=path, role=role)


def _elements(value: object, path: Path, allowed: str) -> list[tuple[Path, object]]:
    """The elements of a non-empty list with their paths."""
    if not isinstance(value, list):
        raise InputError(
            path, value, "empty" if value == "" else values.describe_type(value), allowed
        )
    return list(values.items(value, path, allowed))


def _schema(value: object, path: Path) -> None:
    values.text(value, path, "the address of the schema, for editors")


def _version(value: object, path: Path) -> None:
    allowed = str(model.VERSION)
    if values.integer(value, path, allowed) != model.VERSION:
        raise InputError(path, value, "an unsupported version", allowed)


def _mode(value: object, path: Path) -> str:
    return values.choice(value, path, model.MODES, "mode")


def _engine(value: object, path: Path) -> str:
    return values.choice(value, path, registry.NAMES, "engine")


def _max_sockets(value: object, path: Path) -> int:
    return values.integer(value, path, _MAX_SOCKETS, low=1, high=model.MAX_SOCKETS)


def _per(value: object, path: Path) -> int:
    return values.parse_duration_ms(
        value, path, low_ms=model.MIN_PER_MS, high_ms=model.MAX_DURATION_MS
    )


def _on_excess(value: object, path: Path) -> str:
    return values.choice(value, path, model.ON_EXCESS, "choice")


def _scope(value: object, path: Path) -> str:
    return values.choice(value, path, model.SCOPES, "scope")


def _with_total(limits: Limits, rules: Sequence[Rule]) -> Limits:
    """The limits with the default of `total`, which depends on the number of rules."""
    if limits.scope == model.TOTAL or limits.total is not None:
        return limits
    destroying = sum(rule.action == model.DESTROY for rule in rules)
    return replace(limits, total=model.default_total(limits.max_sockets, destroying))


def _action(value: object, path: Path) -> str:
    return values.choice(value, path, model.ACTIONS, "action")


def _name(value: object, path: Path) -> str:
    name = values.text(value, path, _NAME)
    if not _NAME_PATTERN.fullmatch(name):
        raise InputError(path, value, "not a valid rule name", _NAME)
    return name


def _hold(value: object, path: Path) -> int:
    return values.parse_duration_ms(value, path, high_ms=model.MAX_DURATION_MS)


def _condition(value: object, path: Path) -> Condition | None:
    return parse_condition(value, path)
