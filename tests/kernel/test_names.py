# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that are not UTF-8, cut or blank at an end: results show them, and selectors take them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from linuxnet_sockets.host import mountinfo
from tests.support.topologies.topology import Lab, LabNamespace

ROOT = Path(__file__).parents[2]

HOLDER = r"""
import os, socket, sys
name, cgroup, device = map(os.fsencode, sys.argv[1:])
if cgroup:
    open(cgroup + b"/cgroup.procs", "w").write("0")
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
server, _address = listener.accept()
bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
if device:
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
bound.bind(("0.0.0.0", 0))
if name:
    open("/proc/self/comm", "wb").write(name)
print(os.getpid(), listener.getsockname()[1], bound.getsockname()[1], flush=True)
sys.stdin.read()
"""
CALL = r"""
import json, sys
import tests.conftest
operation, options = json.loads(sys.argv[1])
from linuxnet_sockets import api
from linuxnet_sockets.host.host import Host
directories = options.pop("directories", None)
host = Host() if directories is None else Host(netns_directories=tuple(directories))
result = getattr(api, operation)(**options, host=host)
json.dumps(result.to_dict(), ensure_ascii=False).encode()
print(json.dumps(result.to_dict()))
"""
OPEN = {"loopback": False, "control_connection": False}
# The locale must not matter. Python then decodes paths as ASCII.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


class Holder(NamedTuple):
    """A process with a connection to itself and an unconnected UDP socket."""

    pid: int
    port: int
    udp_port: int


@contextlib.contextmanager
def holder(
    where: LabNamespace, *, name: bytes = b"", cgroup: bytes = b"", device: bytes = b""
) -> Iterator[Holder]:
    started = subprocess.Popen(
        ["nsenter", f"--net={where.path}", sys.executable, "-c", HOLDER, name, cgroup, device],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert started.stdout is not None
        yield Holder(*map(int, started.stdout.readline().split()))
    finally:
        started.communicate(timeout=10)


def call(where: LabNamespace, operation: str, *, locale: bool = False, **options: Any) -> Any:
    """The result of an operation of the API, through JSON. locale: in an ASCII locale."""
    done = subprocess.run(
        [
            "nsenter",
            f"--net={where.path}",
            sys.executable,
            "-c",
            CALL,
            json.dumps([operation, options]),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), **(ASCII if locale else {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("платёжник".encode(), "платёжн\\xd0"),
        (b"  two ", "  two "),
        (b"caf\xe9", "caf\\xe9"),
        (b"one\n", "one\\x0a"),
    ],
)
@pytest.mark.parametrize("locale", [False, True])
def test_process_names_are_compared_as_bytes(
    lab: Lab, name: bytes, shown: str, locale: bool
) -> None:
    where = lab.namespace("names")
    with holder(where, name=name) as held:
        match = {"local_port": held.port}
        found = call(where, "find", match=match, details=["process"], locale=locale)
        (record,) = found["sockets"]
        assert record["processes"][0]["comm"] == shown
        written = [shown] if name == b"caf\xe9" else [shown, name.decode()]
        for text in written:
            named = {**match, "process": text}
            others = {**match, "not": {"process": text}}
            assert call(where, "find", match=named, locale=locale)["matched"] == 1
            assert call(where, "find", match=others, locale=locale)["matched"] == 0
            result = call(
                where,
                "destroy",
                match=match,
                protect={**OPEN, "selectors": [{"process": text}]},
                locale=locale,
            )
            assert result["outcomes"] == {"protected": 1}


@pytest.mark.parametrize("locale", [False, True])
@pytest.mark.parametrize(
    ("name", "shown"),
    [(b"caf\xe9", "caf\\xe9"), ("größe\u3000\r".encode(), "größe\\u3000\\x0d"), (b" a ", " a ")],
)
def test_cgroup_names_are_shown_and_selected(
    lab: Lab, name: bytes, shown: str, locale: bool
) -> None:
    with open("/proc/self/mountinfo", "rb") as table:
        mounts = [each for each in mountinfo.parse(table) if each.filesystem == b"cgroup2"]
    if not mounts:
        pytest.skip("no cgroup v2 is mounted")
    cgroup = mounts[0].mount_point + b"/linuxnet-%d-" % os.getpid() + name
    try:
        os.mkdir(cgroup)
    except OSError:
        pytest.skip("cgroups cannot be created here")
    where = lab.namespace("cgroups")
    try:
        with holder(where, cgroup=cgroup) as held:
            match = {"local_port": held.port}
            (record,) = call(where, "find", match=match, locale=locale)["sockets"]
            assert record["cgroup"] == f"/linuxnet-{os.getpid()}-{shown}"
            named = {**match, "cgroup": record["cgroup"]}
            result = call(where, "destroy", match=named, protect=OPEN, locale=locale)
            assert result["outcomes"] == {"destroyed": 1}
            assert result["destroyed"][0]["cgroup"] == record["cgroup"]
    finally:
        os.rmdir(cgroup)


@pytest.mark.parametrize("locale", [False, True])
def test_interface_names_are_shown_and_selected(lab: Lab, locale: bool) -> None:
    where = lab.namespace("devices")
    command = ["nsenter", f"--net={where.path}", "ip", "link", "add", b"if\xe9", "type", "veth"]
    subprocess.run(command, check=True)
    with holder(where, device=b"if\xe9") as held:
        match = {"local_port": held.udp_port, "protocol": "udp", "state": "all"}
        (record,) = call(where, "find", match=match, locale=locale)["sockets"]
        assert record["device"] == "if\\xe9"
        for selector in ({"device": "if\\xe9"}, {"expression": "dev if\\xe9"}):
            found = call(where, "find", match={**match, **selector}, locale=locale)
            assert found["matched"] == 1


@pytest.mark.parametrize("locale", [False, True])
@pytest.mark.parametrize(("name", "shown"), [(b"caf\xe9", "caf\\xe9"), ("größe".encode(), "größe")])
def test_namespace_names_are_shown_and_selected(
    lab: Lab, tmp_path: Path, name: bytes, shown: str, locale: bool
) -> None:
    where = lab.namespace("mounted")
    file = os.fsencode(tmp_path) + b"/" + name
    with open(file, "wb"):
        pass
    if subprocess.run(["mount", "--bind", where.path, file], check=False).returncode:
        pytest.skip("namespaces cannot be mounted here")
    try:
        with holder(where) as held, holder(lab.namespace("caller")):
            match = {"local_port": held.port}
            for names in ([shown], ["all"]):
                found = call(
                    lab.namespace("outside" if names == [shown] else "other"),
                    "drain",
                    match=match,
                    namespaces=names,
                    protect=OPEN,
                    grace="1s",
                    destroy=False,
                    step="100ms",
                    directories=[str(tmp_path)],
                    locale=locale,
                )
                (token,) = [each for each in found["resume"]["namespaces"] if each["name"] == shown]
                assert token["sockets"]
            resumed = call(
                lab.namespace("resumed"),
                "drain",
                match=match,
                namespaces=["all"],
                protect=OPEN,
                grace="1s",
                destroy=False,
                step="100ms",
                directories=[str(tmp_path)],
                resume=found["resume"],
                locale=locale,
            )
            assert resumed["left"] >= 1
    finally:
        subprocess.run(["umount", file], check=True)
