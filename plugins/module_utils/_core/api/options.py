# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The options of each operation, as one table that every face uses.

    check_options("find", {"details": "info", "limit": "10"})
    # {"match": None, "namespaces": ["current"], "details": ["info"], "group_by": None, "limit": 10}

Ansible derives argument specs from the table, the command line its options, and Salt the checks of
its signatures. The functions of the API check their arguments with it too, so an invalid value
causes the same InputError everywhere. Strings that mean a boolean or a number are converted,
because YAML, templates and command lines give strings. A single value stands for a list of one.
None stands for the default.

Selectors, policies and resume tokens pass unchanged: their own parsers check them.

The file imports no other part of the API and nothing of the kernel. A face that only needs the
options, such as ``--help``, loads nothing else. The choices are therefore written out here;
tests/unit/api/test_options.py compares them with the code that implements them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from enum import Enum
from functools import wraps
from typing import Any, NamedTuple, TypeVar, cast

from .. import values
from ..errors import InputError
from ..values import Path

# How many entries a list of a result has at most, unless the caller says otherwise.
DEFAULT_LIMIT = 1000
DEFAULT_FACTS_LIMIT = 50
MAX_FACTS_LIMIT = 200
MIN_STEP_MS = 100

_TRUE = frozenset({"yes", "on", "true", "y", "t", "1"})
_FALSE = frozenset({"no", "off", "false", "n", "f", "0"})
_NEGATIVE = re.compile(r"-[0-9]{1,18}")


class Kind(Enum):
    """The kind of an option's value; of its elements, if the option is a list.

    DURATION: ``90s``, or a number of seconds. RATE: ``100/s``, or a number per second. SHARE: a
    number, or ``25%``. PORT: a number, a range or a service name. VERDICT: a name, or a mapping
    with ``verdict``. SELECTOR and POLICY: mappings with parsers of their own.
    """

    BOOL = "bool"
    INT = "int"
    STR = "str"
    DURATION = "duration"
    RATE = "rate"
    SHARE = "share"
    PORT = "port"
    VERDICT = "verdict"
    SELECTOR = "selector"
    POLICY = "policy"
    MAPPING = "mapping"


# Phrases for InputError.allowed. Choices and bounds take precedence.
_ALLOWED = {
    Kind.BOOL: "true or false",
    Kind.STR: "a string",
    Kind.DURATION: values.DURATION,
    Kind.RATE: values.RATE,
    Kind.SHARE: values.SHARE,
    Kind.PORT: values.PORT,
    Kind.SELECTOR: "a selector, which is a mapping such as {remote_port: 443}",
    Kind.POLICY: "a policy, which is a mapping with version, limits and rules",
    Kind.MAPPING: "a mapping",
}


class Option(NamedTuple):
    """An option of an operation.

    description: one or two sentences for help texts. default: None means that the option is not
    set. choices: of a closed list; empty: any value. many: the value is a list. required: has no
    default. mode: a face has its own word for it, such as Ansible's check mode. low, high: bounds;
    of a duration, low is in milliseconds. keys: the keys of a mapping; empty: not checked here.
    """

    name: str
    kind: Kind
    description: str
    default: Any = None
    choices: tuple[str, ...] = ()
    many: bool = False
    required: bool = False
    mode: bool = False
    low: int = 0
    high: int | None = None
    keys: tuple[Option, ...] = ()

    @property
    def allowed(self) -> str:
        """A phrase that describes valid values; of an element, if the option is a list."""
        if self.choices:
            return f"one of: {', '.join(self.choices)}"
        if self.keys:
            return f"a mapping with any of {', '.join(key.name for key in self.keys)}"
        if self.kind is Kind.INT:
            upper = "" if self.high is None else f" to {self.high}"
            return f"a number from {self.low}{upper}"
        return _ALLOWED[self.kind]


_DETAILS = ("info", "memory", "process", "verdicts")
# The keys of a record that sockets can have in common.
GROUP_KEY_NAMES = (
    "protocol",
    "family",
    "mapped",
    "state",
    "local",
    "local_port",
    "remote",
    "remote_port",
    "device",
    "uid",
    "user",
    "mark",
    "cgroup",
    "timer",
    "retransmits",
    "congestion",
    "ulp",
    "namespace",
    "processes",
    "stuck",
    "stranded",
    "superseded",
)
_ENGINES = ("auto", "netlink", "bpf", "pidfd")
_STUCK = (
    "zero_window",
    "retransmitting",
    "silent",
    "close_wait",
    "fin_wait",
    "syn_sent",
    "orphaned",
)
_STRANDED = ("address_gone", "unroutable", "no_carrier", "rerouted")


def _switch(name: str, description: str) -> Option:
    return Option(name, Kind.BOOL, description, default=True)


_MATCH_REQUIRED = Option(
    "match",
    Kind.SELECTOR,
    "A selector with a key beyond protocol and family, or with state written out.",
    required=True,
)
_NAMESPACES = Option(
    "namespaces",
    Kind.STR,
    "Network namespaces: current, a name, pid:N, a path, or all.",
    default=("current",),
    many=True,
)
_PROTECT = Option(
    "protect",
    Kind.MAPPING,
    "Rules of the guard to switch off, and selectors of sockets to protect.",
    keys=(
        _switch("control_connection", "Protect the connection that this call uses."),
        _switch("ssh_sessions", "Protect the SSH sessions of this host, and what sshd listens on."),
        _switch("ssh_forwards", "Protect what sshd opens for its users, such as forwarded ports."),
        _switch("loopback", "Protect sockets with both ends on this host."),
        _switch("listeners", "Protect listening sockets."),
        _switch("unconnected", "Protect UDP sockets without a remote address."),
        _switch("shared_port", "Protect connected UDP sockets whose local port others share."),
        _switch("kernel", "Protect sockets of root that no process holds: those of the kernel."),
        Option(
            "selectors",
            Kind.SELECTOR,
            "Protect every socket that one of these selectors matches.",
            default=(),
            many=True,
        ),
    ),
)
_MAX_SOCKETS = Option(
    "max_sockets",
    Kind.SHARE,
    "A number, or a share such as 25% of the unprotected sockets. If more would be destroyed, none "
    "is.",
)
_PACE = Option(
    "pace",
    Kind.RATE,
    "The highest rate at which sockets are destroyed, such as 100/s. By default there is no limit.",
)
_ENGINE = Option(
    "engine",
    Kind.STR,
    "How sockets are destroyed: netlink sends SOCK_DESTROY, bpf calls bpf_sock_destroy, pidfd "
    "disconnects the socket through its process, and auto tries them in this order.",
    default="netlink",
    choices=_ENGINES,
)
_ENGINE_OF_POLICY = _ENGINE._replace(
    description=f"{_ENGINE.description} By default, it is the engine of the policy.",
    default=None,
)
_LIMIT = Option(
    "limit",
    Kind.INT,
    "The longest length of each list of the result. Counts always cover all sockets.",
    default=DEFAULT_LIMIT,
)
_CHECK = Option(
    "check",
    Kind.BOOL,
    "Report the expected outcomes and change nothing.",
    default=False,
    mode=True,
)
_DIFF = Option(
    "diff",
    Kind.BOOL,
    "Return what changes as text, one socket in a line.",
    default=False,
    mode=True,
)
_POLICY = Option("policy", Kind.POLICY, "A policy document.", required=True)


def _table(*options: Option) -> Mapping[str, Option]:
    return {option.name: option for option in options}


# The options of each operation by name, in the order of the function's parameters.
OPERATIONS: Mapping[str, Mapping[str, Option]] = {
    "find": _table(
        Option(
            "match",
            Kind.SELECTOR,
            "A selector. Without one, the sockets that plain ss shows.",
        ),
        _NAMESPACES,
        Option(
            "details",
            Kind.STR,
            "Additional information to return for each socket.",
            default=(),
            choices=_DETAILS,
            many=True,
        ),
        Option(
            "group_by",
            Kind.STR,
            "A key of the records by which the summary counts too.",
            choices=GROUP_KEY_NAMES,
        ),
        _LIMIT,
    ),
    "facts": _table(
        _NAMESPACES,
        _LIMIT._replace(default=DEFAULT_FACTS_LIMIT, high=MAX_FACTS_LIMIT),
    ),
    "support": _table(
        Option(
            "namespace",
            Kind.STR,
            "The network namespace to ask in: current, a name, pid:N, a path, or all for the first "
            "one.",
            default="current",
        ),
    ),
    "destroy": _table(
        _MATCH_REQUIRED,
        _NAMESPACES,
        _PROTECT,
        _MAX_SOCKETS,
        _PACE,
        _ENGINE,
        _LIMIT,
        _CHECK,
        _DIFF,
    ),
    "drain": _table(
        _MATCH_REQUIRED,
        _NAMESPACES,
        _PROTECT,
        _MAX_SOCKETS,
        _PACE,
        _ENGINE,
        Option(
            "until",
            Kind.STR,
            "What to wait for: closed waits until the connection has closed. sent also accepts "
            "that nothing is in flight.",
            default="closed",
            choices=("closed", "sent"),
        ),
        Option(
            "settle",
            Kind.DURATION,
            "How long a connection must have transferred no data, for until=sent.",
            default="1s",
        ),
        Option(
            "grace",
            Kind.DURATION,
            "The longest time to wait.",
            default="60s",
        ),
        Option(
            "destroy",
            Kind.BOOL,
            "Whether to destroy the connections that are left.",
            default=True,
        ),
        Option(
            "arrivals",
            Kind.STR,
            "How to handle connections that start to match meanwhile: include waits for them too, "
            "ignore does not, and fail ends the drain.",
            default="include",
            choices=("include", "ignore", "fail"),
        ),
        Option(
            "step",
            Kind.DURATION,
            "Return after this time even if the drain is not finished.",
            low=MIN_STEP_MS,
        ),
        Option(
            "resume",
            Kind.MAPPING,
            "The value of resume in the result of the step before.",
        ),
        _LIMIT,
        _CHECK,
        _DIFF,
    ),
    "check_policy": _table(
        _POLICY,
        Option(
            "resolve_names",
            Kind.BOOL,
            "Look up users and services on this host, and read its protection files.",
            default=True,
        ),
    ),
    "plan_policy": _table(_POLICY),
    "firewall_rules": _table(_POLICY),
    "enforce_policy": _table(_POLICY, _ENGINE_OF_POLICY, _LIMIT, _CHECK, _DIFF),
    "stuck_report": _table(
        Option("match", Kind.SELECTOR, "A selector that the connections must match too."),
        Option(
            "stuck",
            Kind.VERDICT,
            "The stuck verdicts to report.",
            default=_STUCK,
            choices=_STUCK,
            many=True,
        ),
        Option(
            "stranded",
            Kind.VERDICT,
            "The stranded verdicts to report.",
            default=_STRANDED,
            choices=_STRANDED,
            many=True,
        ),
        Option(
            "superseded_ports",
            Kind.PORT,
            "Local ports of services whose superseded connections to report.",
            default=(),
            many=True,
        ),
        Option(
            "silent_for",
            Kind.DURATION,
            "How long a superseded connection must be silent.",
            default="30s",
        ),
        _NAMESPACES,
        _LIMIT,
    ),
}


def check_options(operation: str, given: Mapping[str, object]) -> dict[str, Any]:
    """All options of an operation, checked and converted; those not given have their defaults.

    operation: a key of OPERATIONS. The result can be checked again and stays the same. Raises
    InputError for an unknown option, a missing one, and an invalid value.
    """
    table = OPERATIONS[operation]
    for name, value in given.items():
        if name not in table:
            raise _unknown((str(name),), value, "option", table)
    for name, option in table.items():
        if option.required and name not in given:
            raise InputError((name,), None, "missing", option.allowed)
    return {name: check_option(option, given.get(name)) for name, option in table.items()}


def check_option(option: Option, value: object) -> Any:
    """The value of one option, checked and converted; None: its default. Raises InputError."""
    return _checked(option, value, (option.name,))


_Operation = TypeVar("_Operation", bound=Callable[..., Any])


def checks_options(operation: _Operation) -> _Operation:
    """Decorate an operation of OPERATIONS so that it receives checked and converted options."""
    table = OPERATIONS[operation.__name__]
    signature = inspect.signature(operation)

    @wraps(operation)
    def checked(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        for name, option in table.items():
            if name in bound.arguments:
                bound.arguments[name] = check_option(option, bound.arguments[name])
        return operation(*bound.args, **bound.kwargs)

    return cast(_Operation, checked)


def _checked(option: Option, value: object, path: Path) -> Any:
    if value is None:
        return list(option.default) if option.many else option.default
    if not option.many or option.kind is Kind.SELECTOR:
        return _CHECKS[option.kind](option, value, path)
    if not isinstance(value, (list, tuple, set, frozenset)):
        return [_CHECKS[option.kind](option, value, path)]
    return [_CHECKS[option.kind](option, item, (*path, index)) for index, item in enumerate(value)]


def _boolean(option: Option, value: object, path: Path) -> bool:
    if isinstance(value, (bool, int, float)) and value in (0, 1):
        return bool(value)
    word = value.strip().lower() if isinstance(value, str) else None
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise InputError(path, value, "not a boolean", option.allowed)


def _integer(option: Option, value: object, path: Path) -> int:
    if isinstance(value, str) and _NEGATIVE.fullmatch(value.strip()):
        value = int(value)
    number = values.integer(value, path, option.allowed, low=-values.MAX_INTEGER)
    if number < option.low:
        raise InputError(path, value, f"less than {option.low}", option.allowed)
    if option.high is not None and number > option.high:
        raise InputError(path, value, f"greater than {option.high}", option.allowed)
    return number


def _string(option: Option, value: object, path: Path) -> str:
    if option.choices:
        return values.choice(value, path, option.choices, "choice")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise InputError(path, value, values.describe_type(value), option.allowed)
    return value


def _duration(option: Option, value: object, path: Path) -> object:
    values.parse_duration_ms(value, path, low_ms=option.low)
    return value


def _rate(option: Option, value: object, path: Path) -> object:  # noqa: ARG001
    values.parse_rate(value, path)
    return value


def _share(option: Option, value: object, path: Path) -> object:  # noqa: ARG001
    values.parse_share(value, path)
    return value


def _mapping(option: Option, value: object, path: Path) -> object:
    if not option.keys:
        return value
    if not isinstance(value, Mapping):
        raise InputError(path, value, values.describe_type(value), option.allowed)
    keys = {key.name: key for key in option.keys}
    for name, setting in value.items():
        if name not in keys:
            raise _unknown((*path, str(name)), setting, "key", keys)
    return {
        name: _checked(keys[name], setting, (*path, name))
        for name, setting in value.items()
        if setting is not None
    }


def _unchanged(option: Option, value: object, path: Path) -> object:  # noqa: ARG001
    return value


_CHECKS: Mapping[Kind, Callable[[Option, object, Path], object]] = {
    Kind.BOOL: _boolean,
    Kind.INT: _integer,
    Kind.STR: _string,
    Kind.DURATION: _duration,
    Kind.RATE: _rate,
    Kind.SHARE: _share,
    Kind.MAPPING: _mapping,
    # These need the users and services of the host, or have a parser of their own.
    Kind.PORT: _unchanged,
    Kind.VERDICT: _unchanged,
    Kind.SELECTOR: _unchanged,
    Kind.POLICY: _unchanged,
}


def _unknown(path: Path, value: object, noun: str, known: Mapping[str, Option]) -> InputError:
    allowed = f"one of: {', '.join(known)}"
    return values.no_such(path, value, f"no such {noun}", str(path[-1]), known, allowed)
