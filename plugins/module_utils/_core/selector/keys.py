# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the table of a selector's keys.

One entry says how the value of a key is read into a node of the tree; what the node can do (be
tested, be filtered by the kernel, have a meaning for some protocols) it knows itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from .. import values
from ..errors import InputError
from ..netlink import constants
from ..values import PORT, Names, Path
from ..verdicts.stranded import STRANDED
from ..verdicts.stuck import STUCK
from .expression import ALLOWED as EXPRESSION
from .expression import parse_expression
from .predicates import numeric
from .predicates.address import ENDPOINT, EndpointIn, parse_device, parse_endpoint
from .predicates.owner import CgroupIs, PidIs, ProcessIs, UserIs
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
from .tree import Any, Node

Parse = Callable[[object, Path, Names], Node]


class Key(NamedTuple):
    """parse: reads the value, a list included. allowed: what the value may be, in a phrase.
    mapping: it may be a mapping."""

    parse: Parse
    allowed: str
    mapping: bool = False


_U32_MAX = 2**32 - 1
_PID_MAX = 2**22  # PID_MAX_LIMIT, include/linux/threads.h
_USER = "a user's name, a uid, or a range of uids such as 1000-60000"
_MARK = "a mark of 32 bits such as 16 or 0x10, or value/mask such as 0x10/0xff"
_CGROUP = "a path below the cgroup v2 mount, such as /system.slice/nginx.service"
_PROCESS = "the name of a command, as ps -o comm prints it"
_CONGESTION = "the name of a congestion control algorithm, such as cubic"
_ONE_OF_PROTOCOLS = f"one of: {', '.join(constants.PROTOCOLS)}"
_ONE_OF_FAMILIES = f"one of: {', '.join(constants.FAMILIES)}"
_STATE = f"one of: {', '.join(STATES_BY_NAME)}"


def _protocol(value: object, path: Path, names: Names) -> Node:  # noqa: ARG001
    chosen = [
        values.choice(item, at, constants.PROTOCOLS, "protocol")
        for at, item in values.items(value, path, _ONE_OF_PROTOCOLS)
    ]
    return ProtocolIs(path, value, chosen)


def _family(value: object, path: Path, names: Names) -> Node:  # noqa: ARG001
    chosen = [
        values.choice(item, at, constants.FAMILIES, "family")
        for at, item in values.items(value, path, _ONE_OF_FAMILIES)
    ]
    return FamilyIs(path, value, chosen)


def _state(value: object, path: Path, names: Names) -> Node:  # noqa: ARG001
    chosen = [parse_state(item, at) for at, item in values.items(value, path, _STATE)]
    return StateIs(path, value, frozenset().union(*chosen))


def _endpoint(value: object, path: Path, names: Names, *, remote: bool) -> Node:
    patterns = [parse_endpoint(item, at, names) for at, item in values.items(value, path, ENDPOINT)]
    return EndpointIn(path, value, remote=remote, patterns=patterns)


def _port(value: object, path: Path, names: Names, *, remote: bool) -> Node:
    ranges = []
    for at, item in values.items(value, path, PORT):
        found = values.parse_range(item, at, PORT, values.PORT_MAX)
        if found is None:
            port = values.parse_port(item, at, names)
            found = port, port
        ranges.append(found)
    return PortIn(path, value, remote=remote, ranges=ranges)


def _device(value: object, path: Path, names: Names) -> Node:  # noqa: ARG001
    devices = [
        parse_device(item, at) for at, item in values.items(value, path, "the name of an interface")
    ]
    return DeviceIs(path, value, devices)


def _mark(value: object, path: Path, names: Names) -> Node:  # noqa: ARG001
    return MarkIs(path, value, [_mark_pair(*each) for each in values.items(value, path, _MARK)])


def _mark_pair(path: Path, value: object) -> tuple[int, int]:
    if not isinstance(value, str):
        return values.integer(value, path, _MARK, high=_U32_MAX), _U32_MAX
    number, slash, mask = values.text(value, path, _MARK).partition("/")
    wanted = _mark_number(number, value, path)
    bits = _mark_number(mask, value, path) if slash else _U32_MAX
    if wanted & ~bits:
        raise InputError(path, value, "asks for bits that its mask leaves out", _MARK)
    return wanted, bits


def _mark_number(text: str, value: object, path: Path) -> int:
    written = text.strip().lower()
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
    ranges = []
    for at, item in values.items(value, path, _USER):
        found = values.parse_range(item, at, _USER, values.UID_MAX)
        if found is None:
            uid = names.user_id(values.text(item, at, _USER))
            if uid is None:
                raise InputError(at, item, "no user of this machine", _USER)
            found = uid, uid
        ranges.append(found)
    return UserIs(path, value, ranges)


def _cgroup(value: object, path: Path, names: Names) -> Node:  # noqa: ARG001
    nodes: list[Node] = []
    for at, item in values.items(value, path, _CGROUP):
        cgroup = values.text(item, at, _CGROUP)
        if ".." in cgroup.split("/"):
            raise InputError(at, item, "climbs with ..", _CGROUP)
        nodes.append(CgroupIs(at, item, cgroup))
    return _either(nodes)


def _process(value: object, path: Path, names: Names) -> Node:  # noqa: ARG001
    commands = []
    for at, item in values.items(value, path, _PROCESS):
        if isinstance(item, int) and not isinstance(item, bool):
            raise InputError(at, item, "a number", f"{_PROCESS}; a process number: key pid")
        commands.append(values.text(item, at, _PROCESS))
    return ProcessIs(path, value, commands)


def _pid(value: object, path: Path, names: Names) -> Node:  # noqa: ARG001
    allowed = "the number of a process"
    pids = [
        values.integer(item, at, allowed, low=1, high=_PID_MAX)
        for at, item in values.items(value, path, allowed)
    ]
    return PidIs(path, value, pids)


def _idle(value: object, path: Path, names: Names) -> Node:  # noqa: ARG001
    least = values.parse_duration_ms(value, path, low_ms=1, high_ms=CLOCK_MAX_MS)
    return IdleFor(path, value, least)


def _comparison(value: object, path: Path, names: Names, *, name: str) -> Node:  # noqa: ARG001
    found = values.items(value, path, "a comparison, or a list of them")
    return _either([numeric.parse(name, item, at) for at, item in found])


def _congestion(value: object, path: Path, names: Names) -> Node:  # noqa: ARG001
    algorithms = [
        values.text(item, at, _CONGESTION) for at, item in values.items(value, path, _CONGESTION)
    ]
    return CongestionIs(path, value, algorithms)


def _expression(value: object, path: Path, names: Names) -> Node:
    found = values.items(value, path, EXPRESSION)
    return _either([parse_expression(item, at, names) for at, item in found])


def _either(nodes: list[Node]) -> Node:
    return nodes[0] if len(nodes) == 1 else Any(tuple(nodes))


KEYS: dict[str, Key] = {
    "protocol": Key(_protocol, _ONE_OF_PROTOCOLS),
    "family": Key(_family, _ONE_OF_FAMILIES),
    "state": Key(_state, _STATE),
    "local": Key(partial(_endpoint, remote=False), ENDPOINT),
    "remote": Key(partial(_endpoint, remote=True), ENDPOINT),
    "local_port": Key(partial(_port, remote=False), PORT),
    "remote_port": Key(partial(_port, remote=True), PORT),
    "device": Key(_device, "the name of an interface"),
    "mark": Key(_mark, _MARK),
    "user": Key(_user, _USER),
    "cgroup": Key(_cgroup, _CGROUP),
    "process": Key(_process, _PROCESS),
    "pid": Key(_pid, "the number of a process"),
    "idle": Key(_idle, values.DURATION),
    **{
        name: Key(partial(_comparison, name=name), 'a comparison such as ">0"')
        for name in numeric.QUANTITIES
    },
    "congestion": Key(_congestion, _CONGESTION),
    "stuck": Key(parse_stuck, STUCK_ALLOWED, mapping=True),
    "stranded": Key(parse_stranded, STRANDED_ALLOWED, mapping=True),
    "superseded": Key(parse_superseded, SUPERSEDED_ALLOWED, mapping=True),
    "expression": Key(_expression, EXPRESSION),
}

# What people write who think of another tool, and the key that they mean.
FOREIGN = {
    "src": "local",
    "source": "local",
    "laddr": "local",
    "local_address": "local",
    "dst": "remote",
    "dest": "remote",
    "destination": "remote",
    "raddr": "remote",
    "peer": "remote",
    "remote_address": "remote",
    "sport": "local_port",
    "lport": "local_port",
    "dport": "remote_port",
    "rport": "remote_port",
    "port": "local_port",
    "proto": "protocol",
    "interface": "device",
    "iface": "device",
    "dev": "device",
    "fwmark": "mark",
    "uid": "user",
    "owner": "user",
    "comm": "process",
    "command": "process",
    "unit": "cgroup",
    "service": "cgroup",
    "idle_ms": "idle",
    "filter": "expression",
    **dict.fromkeys(STUCK, "stuck"),
    **dict.fromkeys(STRANDED, "stranded"),
    "and": "all",
    "or": "any",
}
