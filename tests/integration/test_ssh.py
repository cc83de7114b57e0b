# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A play over SSH that destroys all connections to the controller finishes."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.controller import Controller, Result, cookies, task, uid_is_mapped
from tests.integration.socket_process import SocketProcess
from tests.support.topologies.topology import LabNamespace, Pair
from tests.support.topologies.waiting import until

PORT = 2022


@dataclass
class Ssh:
    """An sshd in one namespace, and the inventory to connect to it from the other."""

    inventory: Path
    variables: dict[str, str]
    log: Path


def tool(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert found, f"{name} is not installed"
    return found


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Temporary directory with a short path: that of a unix socket has at most 108 bytes."""
    with tempfile.TemporaryDirectory(prefix="lns-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def ssh(pair: Pair, folder: Path) -> Ssh:
    uid = pwd.getpwnam("sshd").pw_uid
    if not uid_is_mapped(uid):
        pytest.skip(f"this user namespace does not map UID {uid}, which sshd uses before the login")
    for name in ("host", "user"):
        subprocess.run(
            [tool("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)],
            check=True,
        )
    log = folder / "sshd.log"
    settings = {
        "ListenAddress": pair.server4,
        "Port": PORT,
        "HostKey": folder / "host",
        "PidFile": "none",
        "AuthorizedKeysFile": folder / "user.pub",
        "PermitRootLogin": "prohibit-password",
        "PasswordAuthentication": "no",
        "StrictModes": "no",
        "UsePAM": "no",
    }
    config = folder / "sshd_config"
    config.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    Path("/run/sshd").mkdir(exist_ok=True)
    # sshd rejects a locked root account, so use an unlocked one.
    shadow = folder / "shadow"
    shadow.write_text("root:*:19000:0:99999:7:::\n")
    own_shadow = 'mount --bind "$0" /etc/shadow; exec "$@"'
    pair.server.spawn(
        *("unshare", "--mount", "sh", "-ec", own_shadow, str(shadow)),
        # With its full path, because sshd re-executes itself.
        *(tool("sshd"), "-D", "-f", str(config), "-E", str(log)),
    )
    until(lambda: _is_listening(pair.client, pair.server4), f"a listening sshd; log: {log}")
    public = " ".join((folder / "host.pub").read_text().split()[:2])
    (folder / "known_hosts").write_text(f"[{pair.server4}]:{PORT} {public}\n")
    inventory = folder / "inventory.yml"
    options = {
        "UserKnownHostsFile": folder / "known_hosts",
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
    }
    ssh_options = " ".join(f"-o {name}={value}" for name, value in options.items())
    target = {
        "ansible_host": pair.server4,
        "ansible_port": PORT,
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(folder / "user"),
        "ansible_ssh_common_args": f"-F none {ssh_options}",
        "ansible_python_interpreter": sys.executable,
        "ansible_remote_tmp": str(folder / "remote"),
    }
    inventory.write_text(yaml.safe_dump({"all": {"hosts": {"target": target}}}))
    return Ssh(inventory, {"ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "cp")}, log)


def _is_listening(where: LabNamespace, address: str) -> bool:
    def connect() -> bool:
        try:
            with socket.create_connection((address, PORT), 1) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    return where.run(connect)


PERSISTENT = "-o ControlMaster=auto -o ControlPersist=4s"
ONE_EACH = "-o ControlMaster=no -o ControlPath=none"


BECOME = "sudo" if shutil.which("sudo") else "su"


@pytest.mark.parametrize(
    ("arguments", "become"),
    [(PERSISTENT, None), (PERSISTENT, BECOME), (ONE_EACH, None)],
    ids=["one connection for all tasks", BECOME, "one connection for each task"],
)
def test_ssh_play_finishes(
    pair: Pair,
    client: SocketProcess,
    server: SocketProcess,
    controller: Controller,
    ssh: Ssh,
    arguments: str,
    become: str | None,
) -> None:
    near = client.listen(pair.client4)["port"]
    (other,) = server.connect(pair.client4, near)
    to_controller = {"remote": pair.client4, "state": "all"}
    sessions: dict[str, Any] = {"local_port": PORT, "state": "established"}

    before, plan, done, after, without_ssh_rule = controller.play(
        task("socket_diag_info", {"match": sessions}),
        task("socket_destroy", {"match": to_controller}, check=True),
        task("socket_destroy", {"match": to_controller}),
        task("socket_diag_info", {"match": sessions}),
        # Without the rule ssh_sessions, the control connection is still protected.
        task("socket_destroy", {"match": to_controller, "protect": {"ssh_sessions": False}}),
        inventory=ssh.inventory,
        variables={**ssh.variables, "ANSIBLE_SSH_ARGS": arguments},
        **({"become": True, "become_method": become} if become else {}),
    )

    for result in (before, plan, done, after, without_ssh_rule):
        assert not result["failed"], (result, ssh.log.read_text())
    assert server.state(other["number"]) == ["ECONNABORTED"]
    for result in (plan, done):
        assert other["cookie"] in cookies(result["destroyed"])
    assert _count_control_connections(done) >= 1
    assert {entry["reason"] for entry in done["protected"]} <= {
        "control_connection",
        "ssh_sessions",
    }
    assert _count_control_connections(without_ssh_rule) >= 1
    if arguments == PERSISTENT:
        # One connection for all tasks, which still exists.
        assert cookies(before["sockets"]) == cookies(after["sockets"]) != set()
        assert cookies(before["sockets"]) == cookies(done["protected"])


def _count_control_connections(result: Result) -> int:
    """Number of sockets protected by the rule control_connection."""
    return [entry["reason"] for entry in result["protected"]].count("control_connection")
