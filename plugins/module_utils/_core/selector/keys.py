# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The keys of a selector: one table entry per key.

`KEYS["local_port"].parse("8000-8100", ("match", "local_port"), names)` returns a node of the tree.
The policy's JSON Schema takes descriptions and examples from here. Tests compare the manual and the
documentation of the modules with this table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any as AnyValue
from typing import NamedTuple, TypeVar

from .. import values
from ..errors import InputError
from ..host.processes import UNIT_SUFFIXES
from ..netlink import constants
from ..netlink.links import ADDRESS_STATES
from ..values import PORT, Names, Path
from ..verdicts.stranded import STRANDED
from ..verdicts.stuck import STUCK
from .expression import ALLOWED as EXPRESSION
from .expression import parse_expression
from .hints import endpoint_hint, port_hint, range_hint
from .predicates import numeric
from .predicates.address import (
    ENDPOINT,
    EndpointIn,
    EndpointPattern,
    LocalStateIs,
    parse_device,
    parse_endpoint,
)
from .predicates.owner import (
    CgroupIs,
    CmdlineMatches,
    ExeIs,
    PidIs,
    ProcessIs,
    UnitIs,
    UserIs,
)
from .predicates.socket import (
    STATES_BY_NAME,
    CongestionIs,
    DeviceIs,
    FamilyIs,
    IdleFor,
    MarkIs,
    PortIn,
    ProtocolIs,
    StateIs,
    parse_state,
)
from .predicates.verdict import (
    CLOCK_MAX_MS,
    STRANDED_ALLOWED,
    STUCK_ALLOWED,
    SUPERSEDED_ALLOWED,
    parse_stranded,
    parse_stuck,
    parse_superseded,
)
from .synonyms import FAMILY_ALIASES, PROTOCOL_ALIASES, PROTOCOL_HINTS
from .tree import Any, Node

Parse = Callable[[object, Path, Names], Node]
T = TypeVar("T")


class Key(NamedTuple):
    """One key.

    parse: reads the value, which may be a list, into a node. Raises InputError.
    allowed: the values that the key takes, as a phrase for error messages.
    description: one or more sentences for users. examples: values that parse accepts.
    mapping: the value may be a mapping. default: applies if the key occurs nowhere in a selector.
    """

    parse: Parse
    allowed: str
    description: str
    examples: tuple[AnyValue, ...]
    mapping: bool = False
    default: str | None = None


class Combinator(NamedTuple):
    """A key that takes selectors."""

    description: str
    examples: tuple[AnyValue, ...]


_U32_MAX = 2**32 - 1
_PID_MAX = 2**22  # PID_MAX_LIMIT, include/linux/threads.h
_PID = "the number of a process"
_USER = "a user's name, a uid, or a range of uids such as 1000-60000"
_MARK = "a mark of 32 bits such as 16 or 0x10, or value/mask such as 0x10/0xff"
_CGROUP = "a path below the cgroup v2 mount, such as /system.slice/nginx.service"
_PROCESS = "the name of a command, as ps -o comm prints it"
_EXE = "the path of a program, such as /usr/sbin/nginx"
_CMDLINE = "a regular expression for the command line, as pgrep -f takes, such as gunicorn.*app"
_UNIT = "the name of a systemd unit, such as nginx.service"
_CONGESTION = "the name of a congestion control algorithm, such as cubic"
_ONE_OF_PROTOCOLS = f"one of: {', '.join(constants.PROTOCOLS)}"
_ONE_OF_FAMILIES = f"one of: {', '.join(constants.FAMILIES)}"
_ONE_OF_ADDRESS_STATES = f"one of: {', '.join(ADDRESS_STATES)}"
_STATE = f"one of: {', '.join(STATES_BY_NAME)}"


def _each(value: object, path: Path, allowed: str, read: Callable[[object, Path], T]) -> list[T]:
    return [found for _at, _item, found in values.each(value, path, allowed, read)]


def _protocol(value: object, path: Path, names: Names) -> Node:  # noqa: ARG001
    def read(item: object, at: Path) -> str:
        return values.choice(
            item,
            at,
            constants.PROTOCOLS,
            "protocol",
            aliases=PROTOCOL_ALIASES,
            hints=PROTOCOL_HINTS,
        )

    return ProtocolIs(path, value, _each(value, path, _ONE_OF_PROTOCOLS, read))


def _family(value: object, path: Path, names: Names) -> Node:  # noqa: ARG001
    def read(item: object, at: Path) -> str:
        return values.choice(item, at, constants.FAMILIES, "family", aliases=FAMILY_ALIASES)

    return FamilyIs(path, value, _each(value, path, _ONE_OF_FAMILIES, read))


def _state(value: object, path: Path, names: Names) -> Node:  # noqa: ARG001
    chosen = _each(value, path, _STATE, parse_state)
    return StateIs(path, value, frozenset().union(*chosen))


def _endpoint(value: object, path: Path, names: Names, *, remote: bool) -> Node:
    key = "remote" if remote else "local"

    def read(item: object, at: Path) -> EndpointPattern:
        try:
            return parse_endpoint(item, at, names)
        except InputError as error:
            hint = endpoint_hint(item, key) if isinstance(item, str) else None
            raise error if hint is None else error.with_hint(hint) from None

    return EndpointIn(path, value, remote=remote, patterns=_each(value, path, ENDPOINT, read))


def _local_state(value: object, path: Path, names: Names) -> Node:  # noqa: ARG001
    def read(item: object, at: Path) -> str:
        return values.choice(item, at, ADDRESS_STATES, "state of an address")

    return LocalStateIs(path, value, _each(value, path, _ONE_OF_ADDRESS_STATES, read))


def _port(value: object, path: Path, names: Names, *, remote: bool) -> Node:
    key = "remote_port" if remote else "local_port"

    def read(item: object, at: Path) -> tuple[int, int]:
        hint = port_hint(item, key) if isinstance(item, str) else None
        if hint is not None:
            raise InputError(at, item, "no port", hint)
        found = values.parse_range(item, at, PORT, values.PORT_MAX)
        if found is not None:
            return found
        if isinstance(item, str) and "," in item:
            # On a controller every name is accepted, so a list is rejected before the look-up.
            raise InputError(at, item, "neither a port nor a known service", PORT)
        port = values.parse_port(item, at, names)
        return port, port

    return PortIn(path, value, remote=remote, ranges=_each(value, path, PORT, read))


def _device(value: object, path: Path, names: Names) -> Node:  # noqa: ARG001
    devices = [
        parse_device(item, at) for at, item in values.items(value, path, "the name of an interface")
    ]
    return DeviceIs(path, value, devices)


def _mark(value: object, path: Path, names: Names) -> Node:  # noqa: ARG001
    return MarkIs(path, value, _each(value, path, _MARK, _mark_pair))


def _mark_pair(value: object, path: Path) -> tuple[int, int]:
    if not isinstance(value, str):
        return values.integer(value, path, _MARK, high=_U32_MAX), _U32_MAX
    number, slash, mask = values.text(value, path, _MARK).partition("/")
    mark = _mark_number(number, value, path)
    bits = _mark_number(mask, value, path) if slash else _U32_MAX
    if mark & ~bits:
        raise InputError(path, value, "asks for bits that its mask leaves out", _MARK)
    return mark, bits


def _mark_number(text: str, value: object, path: Path) -> int:
    written = text.strip().lower()
    if re.fullmatch(r">\s*0", written):
        raise InputError(path, value, "no mark", "{not: {mark: 0}}")
    try:
        if not written.isascii() or not written.isalnum() or len(written) > 20:
            raise ValueError
        number = int(written, 16 if written.startswith("0x") else 10)
    except ValueError:
        raise InputError(path, value, "no mark", _MARK) from None
    if number > _U32_MAX:
        raise InputError(path, value, "wider than 32 bits", _MARK)
    return number


def _user(value: object, path: Path, names: Names) -> Node:
    def read(item: object, at: Path) -> tuple[int, int]:
        found = values.parse_range(item, at, _USER, values.UID_MAX)
        if found is not None:
            return found
        name = values.text(item, at, _USER)
        hint = range_hint(name)
        if hint is not None:
            raise InputError(at, item, "no user", hint)
        uid = None if "," in name else names.user_id(name)
        if uid is None:
            raise InputError(at, item, "no such user on this host", _USER)
        return uid, uid

    return UserIs(path, value, _each(value, path, _USER, read))


def _cgroup(value: object, path: Path, names: Names) -> Node:  # noqa: ARG001
    nodes: list[Node] = []
    for at, item in values.items(value, path, _CGROUP):
        cgroup = values.free_text(item, at, _CGROUP)
        if ".." in cgroup.split("/"):
            raise InputError(at, item, "climbs with ..", _CGROUP)
        nodes.append(CgroupIs(at, item, cgroup))
    return _any_of(nodes)


def _process(value: object, path: Path, names: Names) -> Node:  # noqa: ARG001
    commands = []
    for at, item in values.items(value, path, _PROCESS):
        if isinstance(item, int) and not isinstance(item, bool):
            raise InputError(at, item, "a number", f"{_PROCESS}; a process number: key pid")
        commands.append(values.free_text(item, at, _PROCESS))
    return ProcessIs(path, value, commands)


def _exe(value: object, path: Path, names: Names) -> Node:  # noqa: ARG001
    programs = []
    for at, item in values.items(value, path, _EXE):
        program = values.free_text(item, at, _EXE)
        if not program.startswith("/"):
            raise InputError(at, item, "not an absolute path", f"{_EXE}; a command name: process")
        programs.append(program)
    return ExeIs(path, value, programs)


def _cmdline(value: object, path: Path, names: Names) -> Node:  # noqa: ARG001
    patterns = []
    for at, item in values.items(value, path, _CMDLINE):
        try:
            patterns.append(re.compile(values.free_text(item, at, _CMDLINE), re.DOTALL))
        except (re.error, RecursionError, OverflowError) as error:
            raise InputError(at, item, f"not a regular expression: {error}", _CMDLINE) from error
    return CmdlineMatches(path, value, patterns)


def _unit(value: object, path: Path, names: Names) -> Node:  # noqa: ARG001
    units = []
    for at, item in values.items(value, path, _UNIT):
        unit = values.text(item, at, _UNIT)
        if "/" in unit:
            raise InputError(at, item, "a path", f"{_UNIT}; a path: key cgroup")
        if unit.endswith(".slice"):
            raise InputError(
                at, item, "a slice, which holds units", f"{_UNIT}; a slice: key cgroup"
            )
        units.append(unit if unit.endswith(UNIT_SUFFIXES) else f"{unit}.service")
    return UnitIs(path, value, units)


def _pid(value: object, path: Path, names: Names) -> Node:  # noqa: ARG001
    def read(item: object, at: Path) -> int:
        if isinstance(item, str) and re.fullmatch(r"\s*[A-Za-z][\w.-]*\s*", item):
            raise InputError(at, item, "not a number", f"{_PID}; the name of a command: process")
        return values.integer(item, at, _PID, low=1, high=_PID_MAX)

    return PidIs(path, value, _each(value, path, _PID, read))


def _idle(value: object, path: Path, names: Names) -> Node:  # noqa: ARG001
    return IdleFor(
        path, value, values.parse_minimum_ms(value, path, low_ms=1, high_ms=CLOCK_MAX_MS)
    )


def _comparison(value: object, path: Path, names: Names, *, name: str) -> Node:  # noqa: ARG001
    found = values.items(value, path, "a comparison, or a list of them")
    return _any_of([numeric.parse(name, item, at) for at, item in found])


def _congestion(value: object, path: Path, names: Names) -> Node:  # noqa: ARG001
    algorithms = [
        values.text(item, at, _CONGESTION) for at, item in values.items(value, path, _CONGESTION)
    ]
    return CongestionIs(path, value, algorithms)


def _expression(value: object, path: Path, names: Names) -> Node:
    found = values.items(value, path, EXPRESSION)
    return _any_of([parse_expression(item, at, names) for at, item in found])


def _any_of(nodes: list[Node]) -> Node:
    return nodes[0] if len(nodes) == 1 else Any(tuple(nodes))


_ENDPOINT = (
    "An address, a prefix, address:port, [v6 address]:port, or interface:NAME for every address of "
    "the interface. IPv4 prefixes also match IPv4 addresses in IPv6 sockets. If the interface does "
    "not exist or has no address, the result is unknown and matches nothing, also under `not`."
)
_PORT = "A port, a range such as 8000-8100, or the name of a service on the host."
_COMPARISON_EXAMPLES = {
    "count": (">0", ">= 3 < 10"),
    "size": (">0", ">= 64k"),
    "duration": (">200ms", "> 200ms <5s"),
}


def _meanings(verdicts: Mapping[str, str]) -> str:
    return " ".join(f"{name}: {applies_to}." for name, applies_to in verdicts.items())


def _numeric_key(name: str, quantity: numeric.Quantity) -> Key:
    return Key(
        partial(_comparison, name=name),
        'a comparison such as ">0"',
        f"{quantity.description} One string holds comparisons that must all be true. In a list, "
        "one string must be true.",
        _COMPARISON_EXAMPLES[quantity.unit],
    )


KEYS: dict[str, Key] = {
    "protocol": Key(
        _protocol,
        _ONE_OF_PROTOCOLS,
        "The transport protocol.",
        ("tcp", ["tcp", "udp"]),
        default="tcp",
    ),
    "family": Key(
        _family,
        _ONE_OF_FAMILIES,
        "The address family. An IPv6 socket that carries IPv4 is inet6.",
        ("inet6",),
    ),
    "state": Key(
        _state,
        _STATE,
        "A state or a group of states, with the names of ss(8). The default is the states that "
        "plain ss shows: all except listening, closed, time-wait and syn-recv. To select every "
        "state on purpose, write state: all.",
        ("established", ["established", "close-wait"]),
    ),
    "local": Key(
        partial(_endpoint, remote=False),
        ENDPOINT,
        f"The local endpoint. {_ENDPOINT}",
        ("interface:wg0", "192.0.2.1:443"),
    ),
    "remote": Key(
        partial(_endpoint, remote=True),
        ENDPOINT,
        f"The remote endpoint. {_ENDPOINT}",
        ("10.0.0.0/8", ["192.0.2.7", "fd00::/8"]),
    ),
    "local_port": Key(
        partial(_port, remote=False), PORT, f"The local port. {_PORT}", (5000, "8000-8100")
    ),
    "remote_port": Key(
        partial(_port, remote=True), PORT, f"The remote port. {_PORT}", (443, "https")
    ),
    "local_state": Key(
        _local_state,
        _ONE_OF_ADDRESS_STATES,
        "A state of the local address, on every interface that has it, with the names of ip(8). "
        "deprecated: not used for new connections. temporary: an IPv6 privacy address. dadfailed: "
        "another host has the IPv6 address. tentative: the kernel still checks for such a host. If "
        "no interface has the address, or only some report the state, the result is unknown.",
        ("deprecated", ["deprecated", "temporary"]),
    ),
    "device": Key(
        _device,
        "the name of an interface",
        "The interface that the socket is bound to.",
        ("wg0",),
    ),
    "mark": Key(
        _mark,
        _MARK,
        "The mark of the socket (SO_MARK): a value, or value/mask.",
        (51820, "0x10/0xff"),
    ),
    "user": Key(
        _user,
        _USER,
        "The owner of the socket: the name of a user of the host, a UID, or a range of UIDs.",
        ("alice", "1000-60000"),
    ),
    "cgroup": Key(
        _cgroup,
        _CGROUP,
        "A path below the cgroup v2 mount point, with everything below it, for example a systemd "
        "unit. It refers to the cgroup in which the socket was created.",
        ("/system.slice/backup.service",),
    ),
    "process": Key(
        _process,
        _PROCESS,
        "The command name of a process that holds the socket.",
        ("nginx",),
    ),
    "exe": Key(
        _exe,
        _EXE,
        "The path of the program that a process which holds the socket runs.",
        ("/usr/sbin/nginx",),
    ),
    "cmdline": Key(
        _cmdline,
        _CMDLINE,
        "A regular expression that occurs in the full command line of a process that holds the "
        "socket, as for pgrep -f. Arguments are separated by blanks.",
        ("gunicorn.*app",),
    ),
    "unit": Key(
        _unit,
        _UNIT,
        "The systemd unit of a process that holds the socket, or in which the socket was created. "
        "Without a suffix, .service is meant.",
        ("nginx.service",),
    ),
    "pid": Key(_pid, _PID, "The PID of a process that holds the socket.", (4242,)),
    "idle": Key(
        _idle,
        values.MINIMUM,
        "The minimum time without data in either direction. While sent data is unacknowledged, "
        "only received data counts. TCP only.",
        ("10m",),
    ),
    **{name: _numeric_key(name, quantity) for name, quantity in numeric.QUANTITIES.items()},
    "congestion": Key(
        _congestion,
        _CONGESTION,
        "The name of the congestion control algorithm.",
        ("cubic", "bbr"),
    ),
    "stuck": Key(
        parse_stuck,
        STUCK_ALLOWED,
        f"Why a connection makes no progress. {_meanings(STUCK)} silent alone is never enough to "
        "destroy a socket.",
        ("zero_window", {"verdict": "close_wait", "for": "10m"}),
        mapping=True,
    ),
    "stranded": Key(
        parse_stranded,
        STRANDED_ALLOWED,
        f"Why the network of a connection is gone. {_meanings(STRANDED)}",
        (["address_gone", "unroutable"], {"verdict": "rerouted", "to": ["wg0"]}),
        mapping=True,
    ),
    "superseded": Key(
        parse_superseded,
        SUPERSEDED_ALLOWED,
        "The peer continues in another connection to the same local address and port. Requires "
        "local_port.",
        ({"silent_for": "30s"},),
        mapping=True,
    ),
    "expression": Key(
        _expression,
        EXPRESSION,
        "A filter in the language of ss(8).",
        ("state established ( dport = :443 ) and not dst 10.0.0.0/8",),
    ),
}

COMBINATORS: dict[str, Combinator] = {
    "not": Combinator(
        "A selector that must be false. Unknown stays unknown and matches nothing.",
        ({"remote": "10.0.0.0/8"},),
    ),
    "any": Combinator(
        "Selectors of which one must be true.",
        ([{"remote": "10.0.0.0/8"}, {"local": "interface:wg0"}],),
    ),
    "all": Combinator(
        "Selectors that must all be true.",
        ([{"remote": "10.0.0.0/8"}, {"not": {"remote_port": 443}}],),
    ),
}
