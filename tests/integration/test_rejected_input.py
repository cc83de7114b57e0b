# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Invalid options and missing privileges: the message, and no destroyed sockets."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.integration.controller import Controller, Result, task, uid_is_mapped
from tests.integration.socket_process import SocketProcess
from tests.support.topologies.topology import Pair

NOBODY = 65534
ORDINARY = 1500


@pytest.fixture(scope="module")
def connection(pair: Pair, client: SocketProcess, server: SocketProcess) -> dict[str, Any]:
    """A connection that every valid call here would destroy. port: the server's port."""
    port = server.listen(pair.server4)["port"]
    (made,) = client.connect(pair.server4, port)
    return {**made, "port": port}


# match, other options, and substrings of the message.
INVALID: dict[str, tuple[Any, dict[str, Any], tuple[str, ...]]] = {
    "an empty selector": ({}, {}, ("match", "empty")),
    "null": (None, {}, ("match", "null")),
    "an unset variable": ("{{ none_such | default(none) }}", {}, ("match",)),
    "an empty string": ("", {}, ("match",)),
    "a list": ([{"state": "all"}], {}, ("match: ", "{any: [...]}")),
    "a filter of ss": ("dst 10.0.0.1", {}, ("match: ", '{expression: "dst 10.0.0.1"}')),
    "a state alone": ("established", {}, ("match: ", "{state: established}")),
    "an address alone": ("10.0.0.1", {}, ("match: ", "{remote: 10.0.0.1}")),
    "a port alone": (443, {}, ("match: ", "{remote_port: 443}")),
    "broken JSON": ('{"remote_port": 443', {}, ("match: ",)),
    "text with a typo": ("remot=10.0.0.1", {}, ("match.remot: ", "(did you mean remote?).")),
    "a key with two ends": (
        {"port": 443},
        {},
        ("match.port: ", "(did you mean local_port or remote_port?)."),
    ),
    "a list of ports in a string": ({"remote_port": "80,443"}, {}, ("[80, 443]",)),
    "an interface as an address": ({"local": "v0"}, {}, ("interface:v0",)),
    "protocol alone": ({"protocol": "tcp"}, {}, ("match", "state: all")),
    "family alone": ({"family": ["inet", "inet6"]}, {}, ("match", "state: all")),
    "an empty list": ({"remote": []}, {}, ("match.remote", "empty")),
    "a null under a key": ({"remote": None}, {}, ("match.remote", "null")),
    "an empty string under a key": ({"remote": ""}, {}, ("match.remote", "empty")),
    "an empty string in a list": ({"remote": ["192.0.2.2", ""]}, {}, ("match.remote[1]",)),
    "empty any": ({"any": []}, {}, ("match.any", "empty")),
    "any with an empty selector": ({"any": [{"state": "all"}, {}]}, {}, ("match.any[1]", "empty")),
    "empty not": ({"state": "all", "not": {}}, {}, ("match.not", "empty")),
    "not null": ({"state": "all", "not": None}, {}, ("match.not", "null")),
    "nested deeply": (
        {"all": [{"not": {"any": [{"state": "all"}, {"remote": []}]}}]},
        {},
        ("match.all[0].not.any[1].remote",),
    ),
    "a typo in a key": ({"remot": "192.0.2.2"}, {}, ("match.remot:", "remote")),
    "another tool's key": ({"dport": 80}, {}, ("match.dport", "remote_port")),
    "a bad address": ({"remote": "192.0.2.256"}, {}, ("match.remote", "192.0.2.256")),
    "a host's name": ({"remote": "localhost"}, {}, ("match.remote", "127.0.0.0/8")),
    "a bad prefix": ({"remote": "192.0.2.0/33"}, {}, ("match.remote", "192.0.2.0/33")),
    "a port of 70000": ({"remote_port": 70000}, {}, ("match.remote_port", "70000", "65535")),
    "an unknown service": ({"remote_port": "no-such"}, {}, ("match.remote_port", "no-such")),
    "an unknown user": ({"user": "no-such-user"}, {}, ("match.user", "no-such-user")),
    "an unknown state": ({"state": "listenin"}, {}, ("match.state", "listening")),
    "a bad comparison": ({"send_queue": "many"}, {}, ("match.send_queue", "many")),
    "a bad duration": ({"idle": "5 fortnights"}, {}, ("match.idle", "90s")),
    "a meaningless key": ({"protocol": "udp", "idle": 5}, {}, ("match.idle", "udp")),
    "a bad expression": ({"expression": "dport = "}, {}, ("match.expression",)),
    "a missing namespace": (
        {"state": "all"},
        {"namespaces": ["current", "no-such-namespace"]},
        ("no-such-namespace", "ip netns list"),
    ),
    "a process that is gone": ({"state": "all"}, {"namespaces": ["pid:4194999"]}, ("pid:4194999",)),
    "no namespace": ({"state": "all"}, {"namespaces": []}, ("namespaces",)),
    "a bad limit": ({"state": "all"}, {"max_sockets": "some"}, ("max_sockets", "25%")),
    "a bad pace": ({"state": "all"}, {"pace": "fast"}, ("pace", "100/s")),
    "no engine": ({"state": "all"}, {"engine": "magic"}, ("engine", "netlink")),
    "a negative limit": ({"state": "all"}, {"limit": -1}, ("limit",)),
    "an option's typo": ({"state": "all"}, {"max_socket": 1}, ("max_socket", "max_sockets")),
    "a rule's typo": ({"state": "all"}, {"protect": {"loopbak": False}}, ("loopbak", "loopback")),
    "a rule that is null": ({"state": "all"}, {"protect": {"loopback": None}}, ("loopback",)),
    "a bad protection": (
        {"state": "all"},
        {"protect": {"selectors": [{"remote": "10.0.0.0/99"}]}},
        ("protect.selectors[0].remote", "10.0.0.0/99"),
    ),
    "a protection that is text": (
        {"state": "all"},
        {"protect": {"selectors": ["dst 10.0.0.1"]}},
        ("protect.selectors[0]: ", '{expression: "dst 10.0.0.1"}'),
    ),
    "an emptied protection": (
        {"state": "all"},
        {"protect": {"selectors": [{"remote": []}]}},
        ("protect.selectors[0].remote", "empty"),
    ),
}
# Cases for socket_diag_info, which shares the parsing of selectors and namespaces.
SHARED = (
    "null",
    "an empty string",
    "a list",
    "a filter of ss",
    "a key with two ends",
    "an empty list",
    "empty any",
    "empty not",
    "a typo in a key",
    "a bad address",
    "a port of 70000",
    "a missing namespace",
)


@pytest.mark.parametrize("module", ["socket_destroy", "socket_diag_info"])
def test_invalid_options_rejected(
    connection: dict[str, Any],
    client: SocketProcess,
    controller: Controller,
    module: str,
) -> None:
    names = INVALID if module == "socket_destroy" else SHARED
    cases = {name: INVALID[name] for name in names}
    results = controller.play(
        *(task(module, {"match": match, **options}) for match, options, _words in cases.values())
    )

    for (name, (_match, _options, words)), result in zip(cases.items(), results, strict=True):
        assert result["failed"], name
        assert not result["changed"], name
        assert "Traceback" not in json.dumps(result), name
        for word in words:
            assert word in result["msg"], (name, result["msg"])
    assert client.state(connection["number"]) == ["open"]


@pytest.mark.parametrize("module", ["socket_destroy", "socket_diag_info", "socket_drain"])
def test_selector_as_text_is_accepted(
    connection: dict[str, Any], controller: Controller, module: str
) -> None:
    """As Ansible's type dict: JSON, or words with equals signs."""
    port = connection["port"]
    results = controller.play(
        *(
            task(module, {"match": match}, check=True)
            for match in (
                {"remote_port": port, "state": "ESTAB", "family": "ipv4"},
                json.dumps({"remote_port": port, "state": "ESTAB", "family": 4}),
                f"remote_port={port} state=ESTAB",
            )
        )
    )
    for result in results:
        assert not result.get("failed"), result
        assert result["matched"] == 1


def test_missing_selector_rejected(
    connection: dict[str, Any], client: SocketProcess, controller: Controller
) -> None:
    (result,) = controller.play(task("socket_destroy"))

    assert "match" in result["msg"]
    assert client.state(connection["number"]) == ["open"]


@pytest.fixture
def less_privileged(tmp_path: Path) -> Any:
    """Factory of interpreters that run with fewer privileges. Arguments: options of setpriv(1)."""

    def interpreter(*options: str) -> str:
        wrapper = tmp_path / "python"
        python = os.path.realpath(sys.executable)
        wrapper.write_text(f'#!/bin/sh\nexec setpriv {" ".join(options)} {python} "$@"\n')
        wrapper.chmod(0o755)
        return str(wrapper)

    return interpreter


def _assert_not_permitted(results: list[Result]) -> None:
    for result in results:
        assert result["failed"]
        assert not result["changed"]
        assert result["outcomes"] == {"not_permitted": 1}
        assert len(result["survivors"]) == 1
        assert "CAP_NET_ADMIN" in result["msg"]
        assert "become" in result["msg"]


def test_root_without_cap_net_admin(
    connection: dict[str, Any], client: SocketProcess, controller: Controller, less_privileged: Any
) -> None:
    python = less_privileged("--bounding-set=-net_admin", "--inh-caps=-net_admin")
    match = {"remote_port": connection["port"]}
    check, real, found, facts = controller.play(
        task("socket_destroy", {"match": match}, check=True),
        task("socket_destroy", {"match": match}),
        task("socket_diag_info", {"match": match}),
        task("socket_diag_facts"),
        vars={"ansible_python_interpreter": python},
    )

    _assert_not_permitted([check, real])
    assert found["matched"] == 1
    assert found["sockets"][0]["mark"] is None
    assert facts["ansible_facts"]["socket_diag"]["may_destroy"] is False
    assert client.state(connection["number"]) == ["open"]


def test_unprivileged_user(
    connection: dict[str, Any],
    pair: Pair,
    client: SocketProcess,
    controller: Controller,
    less_privileged: Any,
) -> None:
    if not uid_is_mapped(NOBODY):
        pytest.skip(f"this user namespace does not map UID {NOBODY}")
    python = less_privileged(f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    match = {"remote_port": connection["port"]}
    unreadable, check, real, other_namespace, found = controller.play(
        task("socket_destroy", {"match": match}),
        task("socket_destroy", {"match": match, "protect": _WITHOUT_OWNER_RULES}, check=True),
        task("socket_destroy", {"match": match, "protect": _WITHOUT_OWNER_RULES}),
        task("socket_destroy", {"match": match, "namespaces": [pair.server.name]}),
        task("socket_diag_info", {"match": match, "details": ["process"]}),
        vars={
            "ansible_python_interpreter": python,
            "ansible_remote_tmp": tempfile.gettempdir(),
        },
    )

    assert unreadable["protected"][0]["reason"] == "owner_unreadable"
    _assert_not_permitted([check, real])
    assert other_namespace["failed"]
    assert "CAP_SYS_ADMIN" in other_namespace["msg"]
    assert found["matched"] == 1
    assert found["sockets"][0]["processes"] is None
    assert client.state(connection["number"]) == ["open"]


@pytest.mark.parametrize("check", [False, True])
def test_forgotten_become_is_a_warning(
    connection: dict[str, Any],
    client: SocketProcess,
    controller: Controller,
    less_privileged: Any,
    check: bool,
) -> None:
    """Tasks run as an ordinary user, who may not read which processes hold root's sockets."""
    if not uid_is_mapped(ORDINARY):
        pytest.skip(f"this user namespace does not map UID {ORDINARY}")
    match = {"remote_port": connection["port"]}
    rule = {"name": "cut", "hold": 0, "match": match}
    policy = {"version": 1, "limits": {"max_sockets": 1}, "rules": [rule]}
    tasks = {
        "socket_destroy": {"match": match},
        "socket_drain": {"match": match, "grace": 0},
        "socket_policy": {"policy": policy},
    }
    results = controller.play(
        *(task(module, options, check=check) for module, options in tasks.items()),
        vars={
            "ansible_python_interpreter": less_privileged(
                f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups"
            ),
            "ansible_remote_tmp": tempfile.gettempdir(),
        },
    )
    for module, result in zip(tasks, results, strict=True):
        assert not result.get("failed"), (module, result)
        assert not result["changed"], module
        assert result["outcomes"] == {"protected": 1}, module
        assert result["protected"][0]["reason"] == "owner_unreadable", module
        (warning,) = [text for text in result["warnings"] if "1 socket is protected" in text]
        assert "cannot read which processes hold it" in warning, module
        assert "run with become" in warning, module
    assert client.state(connection["number"]) == ["open"]


_WITHOUT_OWNER_RULES = {"ssh_sessions": False, "kernel": False}


def test_protect_files(
    connection: dict[str, Any],
    client: SocketProcess,
    controller: Controller,
    pair: Pair,
    tmp_path: Path,
) -> None:
    """Uses an overlay on /etc."""
    files = tmp_path / "etc" / "linuxnet-sockets" / "protect.d"
    files.mkdir(parents=True)
    (tmp_path / "work").mkdir()
    overlay = f"lowerdir=/etc,upperdir={tmp_path}/etc,workdir={tmp_path}/work"
    prefix = (
        "unshare",
        "--mount",
        "sh",
        "-ec",
        f'mount -t overlay -o {overlay} overlay /etc; exec "$@"',
        "sh",
    )
    destroy = task("socket_destroy", {"match": {"remote_port": connection["port"]}})

    (files / "10-backends.json").write_text(json.dumps({"remote": pair.server4}))
    (protected,) = controller.play(destroy, prefix=prefix)
    assert protected["outcomes"] == {"protected": 1}
    assert protected["protected"][0]["reason"] == "selector"
    assert "10-backends.json" in protected["protected"][0]["reason_detail"]

    (files / "20-broken.json").write_text('{"remote": ')
    (broken,) = controller.play(destroy, prefix=prefix)
    assert broken["failed"]
    assert "20-broken.json" in broken["msg"]
    assert not broken["changed"]
    assert client.state(connection["number"]) == ["open"]
