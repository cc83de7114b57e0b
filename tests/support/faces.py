# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One operation on each face: the same cases for the API, the modules, socketctl and Salt.

Each case has the selector and the options as playbooks and Salt write them, and as words of a
command line. Values are strings where errors show them: a command line has nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from linuxnet_sockets import api

if TYPE_CHECKING:
    from tests.integration.socket_process import SocketProcess
    from tests.support.topologies.topology import Pair

# The function of the API, the module and the command of each operation. Salt's functions have the
# names of the commands.
OPERATIONS = {
    "find": (api.find, "socket_diag_info", "list"),
    "destroy": (api.destroy, "socket_destroy", "destroy"),
    "drain": (api.drain, "socket_drain", "drain"),
}
# Lists of sockets in results.
_LISTS = ("sockets", "destroyed", "protected", "survivors", "remaining")


@dataclass(frozen=True)
class Case:
    """A call that changes nothing. words: selector and options for socketctl.

    {port} in a string is the port of the server, {remote} its address.
    """

    operation: str
    match: Any
    words: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def filled(self, **values: object) -> Case:
        """The same case with its placeholders replaced."""
        filled = {"match": self.match, "words": self.words, "options": self.options}
        return Case(self.operation, **_filled(filled, values))


def _filled(value: Any, values: Mapping[str, object]) -> Any:
    if isinstance(value, str):
        for name, found in values.items():
            value = value.replace(f"{{{name}}}", str(found))
        return value
    if isinstance(value, Mapping):
        return {key: _filled(under, values) for key, under in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_filled(each, values) for each in value)
    return value


class Answer(NamedTuple):
    """What must be the same on each face.

    outcomes: None for operations without outcomes. matched: None if the call failed at once.
    cookies: those in each list of sockets. error: None on success.
    """

    outcomes: dict[str, int] | None
    matched: int | None
    cookies: dict[str, list[str]]
    error: str | None


def answer(result: Mapping[str, Any] | None, error: str | None) -> Answer:
    """The answer in a result of any face. result: None if the call failed at once."""
    found = result or {}
    return Answer(
        found.get("outcomes"),
        found.get("matched"),
        {name: [each["cookie"] for each in found[name]] for name in _LISTS if name in found},
        error,
    )


def ask_api(case: Case) -> Answer:
    """The answer of the API, in the network namespace of the calling thread."""
    operation, _module, command = OPERATIONS[case.operation]
    options = dict(case.options)
    if command != "list":
        options["check"] = True
    try:
        result = operation(case.match, **options)  # type: ignore[operator]
    except api.SocketsError as error:
        return answer(None, api.describe(error))
    failures = " ".join(map(api.describe_failure, result.failures))
    return answer(result.to_dict(), failures or None)


_MANY = {"any": [{"remote_port": "{port}", "state": "established"}, {"local_port": "1"}]}

CASES: dict[str, Case] = {
    "everything": Case("find", {}, ()),
    "a port": Case("find", {"remote_port": "{port}"}, ("remote_port={port}",)),
    "several values": Case(
        "find",
        {"state": ["established", "close-wait"], "remote": ["{remote}", "192.0.2.77"]},
        ("state=established,close-wait", "remote={remote}", "remote=192.0.2.77"),
    ),
    "negation": Case(
        "find",
        {"state": "established", "not": {"remote_port": "{port}"}},
        ("state=established", "remote_port!={port}"),
    ),
    "a comparison": Case("find", {"send_queue": ">0"}, ("send_queue>0",)),
    "an expression": Case(
        "find",
        {"expression": "dport = :{port} and not dst 192.0.2.77"},
        ("dport = :{port} and not dst 192.0.2.77",),
    ),
    "a nested selector": Case(
        "find",
        _MANY,
        (
            "--match",
            '{"any": [{"remote_port": "{port}", "state": "established"}, {"local_port": "1"}]}',
        ),
    ),
    "details and groups": Case(
        "find",
        {"remote_port": "{port}"},
        ("remote_port={port}", "--details", "process,info", "--group-by", "processes"),
        {"details": ["process", "info"], "group_by": "processes"},
    ),
    "a limit": Case(
        "find", {"remote_port": "{port}"}, ("remote_port={port}", "--limit", "1"), {"limit": "1"}
    ),
    "an unknown key": Case("find", {"dport": "80"}, ("dport=80",)),
    "an unknown state": Case("find", {"state": "listenin"}, ("state=listenin",)),
    "a bad address": Case("find", {"remote": "192.0.2.256"}, ("remote=192.0.2.256",)),
    "a bad expression": Case("find", {"expression": "dport ="}, ("dport =",)),
    "a missing namespace": Case(
        "find", {}, ("--namespaces", "no-such-namespace"), {"namespaces": ["no-such-namespace"]}
    ),
    "destroy": Case("destroy", {"remote_port": "{port}"}, ("remote_port={port}",)),
    "destroy protected": Case(
        "destroy",
        {"state": "all", "protocol": ["tcp", "udp"]},
        ("state=all", "protocol=tcp,udp", "--protect", "remote_port={port} protocol=tcp"),
        {"protect": {"selectors": [{"remote_port": "{port}", "protocol": "tcp"}]}},
    ),
    "destroy listeners": Case(
        "destroy",
        {"state": "listening"},
        ("state=listening", "--no-protect", "listeners,kernel"),
        {"protect": {"listeners": False, "kernel": False}},
    ),
    "destroy too many": Case(
        "destroy",
        {"remote_port": "{port}"},
        ("remote_port={port}", "--max-sockets", "1"),
        {"max_sockets": "1"},
    ),
    "destroy stuck": Case(
        "destroy",
        {"stuck": {"verdict": "close_wait", "for": "0s"}},
        ("stuck=close_wait:0s",),
    ),
    "destroy by an empty value": Case("destroy", {"remote": ""}, ("remote=",)),
    "destroy by protocol alone": Case("destroy", {"protocol": "tcp"}, ("protocol=tcp",)),
    "destroy at a bad pace": Case(
        "destroy", {"state": "all"}, ("state=all", "--pace", "fast"), {"pace": "fast"}
    ),
    "destroy by a bad engine": Case(
        "destroy", {"state": "all"}, ("state=all", "--engine", "magic"), {"engine": "magic"}
    ),
    "destroy with a bad limit": Case(
        "destroy", {"state": "all"}, ("state=all", "--max-sockets", "some"), {"max_sockets": "some"}
    ),
    "destroy with a bad protection": Case(
        "destroy",
        {"state": "all"},
        ("state=all", "--protect", "remote=10.0.0.0/99"),
        {"protect": {"selectors": [{"remote": "10.0.0.0/99"}]}},
    ),
    "drain": Case(
        "drain",
        {"remote_port": "{port}"},
        ("remote_port={port}", "--until", "sent", "--grace", "5m"),
        {"until": "sent", "grace": "5m"},
    ),
    "drain until a bad word": Case(
        "drain", {"state": "all"}, ("state=all", "--until", "gone"), {"until": "gone"}
    ),
    "drain with a bad grace": Case(
        "drain", {"state": "all"}, ("state=all", "--grace", "soon"), {"grace": "soon"}
    ),
}

# Calls that match and succeed. The others fail.
SUCCESSFUL = (
    "everything",
    "a port",
    "several values",
    "negation",
    "a comparison",
    "an expression",
    "a nested selector",
    "details and groups",
    "a limit",
    "destroy",
    "destroy protected",
    "destroy listeners",
    "destroy stuck",
    "drain",
)


def connected_cases(pair: Pair, client: SocketProcess, server: SocketProcess) -> dict[str, Case]:
    """The cases for sockets that stay: connections to two servers, and listening sockets.

    client, server: processes in the namespaces of the pair. The faces run in that of the client.
    """
    port, other = (server.listen(pair.server4)["port"] for _each in range(2))
    made = client.connect(pair.server4, port, 3)
    client.connect(pair.server4, other, 2)
    client.fill(made[0]["number"])
    (closing,) = client.connect(pair.server4, other)
    server.close_accepted(other, closing["port"])
    client.listen(pair.client4)
    client.connect(pair.server4, 53, kind="udp")
    return {name: case.filled(port=port, remote=pair.server4) for name, case in CASES.items()}
