# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of the lab: their systems, and their isolation from the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.commands import TOOL, Commands, ssh
from tests.support.hosts.paths import MARKER

SUITES = {"deb11": "bullseye", "deb12": "bookworm", "deb13": "trixie"}


@pytest.fixture(scope="module")
def lab(commands: Commands) -> dict[str, Any]:
    return commands.up(*(f"{name}={suite}" for name, suite in SUITES.items()))


@pytest.fixture(params=SUITES)
def host(request: pytest.FixtureRequest) -> str:
    return request.param


def test_host_runs_the_selected_debian_release(lab: dict[str, Any], host: str) -> None:
    assert ssh(lab, host, ". /etc/os-release; echo $VERSION_CODENAME") == SUITES[host]


def test_systemd_runs_without_failed_units(lab: dict[str, Any], host: str) -> None:
    assert ssh(lab, host, "systemctl is-system-running") == "running"
    assert ssh(lab, host, "systemctl list-units --failed --plain --no-legend") == ""
    assert ssh(lab, host, "sudo readlink /proc/1/exe").endswith("/systemd/systemd")


def test_host_has_its_own_name_and_addresses(lab: dict[str, Any], host: str) -> None:
    assert ssh(lab, host, "hostname") == host != platform.node()
    addresses = ssh(lab, host, "ip -brief address show dev eth0").split()
    expected = lab["hosts"][host]
    assert {f"{expected['ipv4']}/24", f"{expected['ipv6']}/64"} < set(addresses)


def test_hosts_connect_by_name(lab: dict[str, Any], host: str) -> None:
    for other in SUITES:
        connect = f"import socket; socket.create_connection(('{other}', 22), 5)"
        ssh(lab, host, f'python3 -c "{connect}"')


def test_host_lists_only_its_own_processes(lab: dict[str, Any], host: str) -> None:
    assert os.readlink("/proc/self/ns/pid") != ssh(lab, host, "readlink /proc/self/ns/pid")
    assert int(ssh(lab, host, "ls /proc | grep -c '^[0-9]'")) < 60


def test_files_of_a_host_are_not_visible_elsewhere(
    commands: Commands, lab: dict[str, Any], host: str
) -> None:
    ssh(lab, host, f"sudo touch /etc/written-by-{host}")
    for other in SUITES.keys() - {host}:
        ssh(lab, other, f"test ! -e /etc/written-by-{host}")
    for kept in commands.run("rootfs").split():
        assert not Path(kept, "etc", f"written-by-{host}").exists()


@pytest.mark.parametrize(
    "command",
    [
        "echo 1 >/proc/sys/vm/swappiness",
        "echo x >/proc/sys/kernel/core_pattern",
        "echo 0 >/sys/kernel/mm/ksm/run",
        "date --set 2020-01-01",
        "test -e /dev/vda -o -e /dev/sda -o -e /dev/mem",
        "test -e /sys/kernel/debug/tracing",
    ],
)
def test_host_cannot_change_the_machine_by_mistake(
    lab: dict[str, Any], host: str, command: str
) -> None:
    assert ssh(lab, host, f"sudo sh -c '{command}' >/dev/null 2>&1 || echo no") == "no"


def test_host_cannot_load_kernel_modules(lab: dict[str, Any], host: str) -> None:
    # capabilities(7): CAP_SYS_MODULE is bit 16 of the bounding set.
    bounding = int(ssh(lab, host, "sudo sed -n 's/^CapBnd:[[:space:]]*//p' /proc/1/status"), 16)
    assert not bounding & 1 << 16


def test_host_can_change_its_own_network_settings(lab: dict[str, Any], host: str) -> None:
    setting = "/proc/sys/net/ipv4/tcp_fin_timeout"
    before = Path(setting).read_text(encoding="ascii")
    assert ssh(lab, host, f"sudo sh -c 'echo 17 >{setting}; cat {setting}'") == "17"
    assert Path(setting).read_text(encoding="ascii") == before


def test_ssh_without_key_is_denied(lab: dict[str, Any], host: str) -> None:
    address = lab["hosts"][host]["ipv4"]
    done = subprocess.run(
        [TOOL, "enter", lab["name"], "ssh", "-F", "/dev/null", "-o", "BatchMode=yes"]
        + ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        + ["-o", "IdentityFile=none", f"ops@{address}", "true"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 255
    assert "Permission denied (publickey" in done.stderr


def test_exec_runs_commands_as_root(commands: Commands, lab: dict[str, Any], host: str) -> None:
    output = commands.run("exec", lab["name"], host, "sh", "-c", f"id -un; hostname; ls /{MARKER}")
    assert output.split() == ["root", host, f"/{MARKER}"]


def test_enter_runs_commands_in_the_controllers_network(
    commands: Commands, lab: dict[str, Any]
) -> None:
    output = commands.run("enter", lab["name"], "ip", "-brief", "link")
    names = {line.split()[0].split("@")[0] for line in output.splitlines()}
    assert names == {"lo", "br0", *(f"v-{host}" for host in SUITES)}
