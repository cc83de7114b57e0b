# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Labs start and stop. Nothing of a lab remains, whichever process is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from tests.hosts.commands import (
    TOOL,
    Commands,
    is_removed,
    namespaces,
    processes_in,
    processes_with_argument,
    ssh,
    wait_until,
)
from tests.support.hosts import cgroups
from tests.support.hosts.paths import LabPaths


def test_down_removes_the_lab(commands: Commands) -> None:
    lab = commands.up("a=bookworm", "b=trixie")
    inside = namespaces(lab)
    assert len(inside) == 3 * 2  # first process and two hosts
    # A master connection of ssh in the background ends too.
    control = ["-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-S", f"{lab['directory']}/c"]
    subprocess.run([lab["ssh"], *control, "a", "true"], check=True, timeout=60)
    assert processes_with_argument(f"{lab['directory']}/c")
    commands.run("down", lab["name"])
    assert is_removed(lab["name"])
    wait_until(lambda: not processes_in(inside), 5)


def test_reboot_keeps_the_files_of_a_host(commands: Commands) -> None:
    lab = commands.up("a=bookworm", "b=trixie")
    first = ssh(lab, "b", "sudo readlink /proc/1/ns/pid")
    was = ssh(lab, "b", "cat /etc/machine-id; sudo touch /etc/kept /run/gone")

    def booted_again() -> bool:
        ssh_command = [lab["ssh"], "-o", "ConnectTimeout=2", "b", "sudo readlink /proc/1/ns/pid"]
        done = subprocess.run(ssh_command, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode == 0 and done.stdout.strip() != first

    subprocess.run([lab["ssh"], "b", "sudo systemctl reboot"], check=False, timeout=60)
    wait_until(booted_again, 180)
    assert ssh(lab, "b", "ls /etc/kept; test ! -e /run/gone; cat /etc/machine-id").split() == [
        "/etc/kept",
        was,
    ]
    assert ssh(lab, "a", "sudo systemctl is-system-running") == "running"
    commands.run("down", lab["name"])
    assert is_removed(lab["name"])


def test_labs_are_isolated_from_each_other(commands: Commands) -> None:
    first, second = commands.up("a=bookworm"), commands.up("a=bookworm")
    assert first["hosts"] == second["hosts"]  # the same addresses
    ssh(first, "a", "echo first >/home/ops/whose")
    ssh(second, "a", "echo second >/home/ops/whose")
    assert not namespaces(first) & namespaces(second)
    assert ssh(first, "a", "cat whose") == "first"
    commands.run("down", second["name"])
    assert is_removed(second["name"])
    assert ssh(first, "a", "cat whose") == "first"
    commands.run("down", first["name"])
    assert is_removed(first["name"])


def test_killing_the_first_process_removes_the_lab(commands: Commands) -> None:
    lab = commands.up("a=bookworm")
    inside = namespaces(lab)
    os.kill(lab["init"], signal.SIGKILL)
    wait_until(lambda: is_removed(lab["name"]))
    wait_until(lambda: not processes_in(inside), 5)


def test_next_lab_removes_one_with_a_killed_supervisor(commands: Commands) -> None:
    lab = commands.up("a=bookworm")
    inside = namespaces(lab)
    os.kill(_parent(lab["init"]), signal.SIGKILL)
    wait_until(lambda: not processes_in(inside))
    assert f"{lab['name']} left over" in commands.run("list")
    other = commands.up("b=bookworm")
    assert is_removed(lab["name"])
    assert ssh(other, "b", "hostname") == "b"
    commands.run("down", other["name"])


def test_reap_removes_only_labs_with_killed_processes(commands: Commands) -> None:
    dead, is_alive = commands.up("a=bookworm"), commands.up("a=bookworm")
    os.kill(_parent(dead["init"]), signal.SIGKILL)
    wait_until(lambda: "left over" in commands.run("list"))
    commands.run("reap")
    assert is_removed(dead["name"])
    assert ssh(is_alive, "a", "hostname") == "a"
    commands.run("down", is_alive["name"])


@pytest.mark.parametrize("seen", ["lock", "id_ed25519.pub", "stage", "a.log"])
def test_lab_killed_during_its_start_is_reaped(commands: Commands, seen: str) -> None:
    name = commands.name()
    directory = LabPaths().lab(name)
    with commands.start("up", "--name", name, "a=bookworm", "b=trixie") as up:
        wait_until((directory / seen).exists)
        up.kill()
    # Without a supervisor, the files remain until the next `lab reap`.
    wait_until(lambda: not processes_with_argument(name))
    commands.run("reap")
    assert is_removed(name)


def test_lab_ends_with_its_owner(commands: Commands) -> None:
    with subprocess.Popen(["sleep", "600"]) as owner:
        lab = commands.up("a=bookworm", owner=owner.pid)
        inside = namespaces(lab)
        assert ssh(lab, "a", "hostname") == "a"
        owner.kill()
    wait_until(lambda: is_removed(lab["name"]))
    wait_until(lambda: not processes_in(inside), 5)


def test_lab_does_not_start_for_an_ended_owner(commands: Commands) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    name = commands.name()
    output = commands.fail("up", "--name", name, "--owner", str(ended.pid), "a=bookworm")
    assert "owner of the lab" in output
    assert is_removed(name)


def test_lab_names_are_unique(commands: Commands) -> None:
    lab = commands.up("a=bookworm")
    assert "already exists" in commands.fail("up", "--name", lab["name"], "b=bookworm")
    assert json.loads(commands.run("show", lab["name"])) == lab
    assert ssh(lab, "a", "hostname") == "a"
    commands.run("down", lab["name"])


def test_existing_cgroup_is_not_reused(commands: Commands) -> None:
    name = commands.name()
    top = cgroups.lab_cgroup(name)
    top.mkdir()
    try:
        assert "already exists on this machine" in commands.fail("up", "--name", name, "a=bookworm")
        assert top.is_dir()
        assert not LabPaths().lab(name).exists()
    finally:
        top.rmdir()


def test_kill_tolerates_a_cgroup_that_is_being_removed(commands: Commands) -> None:
    """The supervisor may remove it at any time."""
    name = commands.name()
    top = cgroups.lab_cgroup(name)
    for _attempt in range(2_000):
        top.mkdir()
        remover = threading.Thread(target=top.rmdir)
        remover.start()
        while top.is_dir():
            cgroups.kill(name)
        remover.join()


def test_commands_report_an_unknown_lab(commands: Commands) -> None:
    name = commands.name()
    assert f"lab {name} does not exist" in commands.fail("down", name)
    assert f"lab {name} does not run" in commands.fail("show", name)
    assert f"lab {name} does not run" in commands.fail("exec", name, "a", "true")
    commands.run("down", "--missing-ok", name)


def test_exec_reports_an_unknown_host(commands: Commands) -> None:
    lab = commands.up("a=bookworm")
    assert "has no host b; its hosts: a" in commands.fail("exec", lab["name"], "b", "true")
    commands.run("down", lab["name"])


def test_root_of_a_user_namespace_cannot_start_a_lab(commands: Commands) -> None:
    name = commands.name()
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", TOOL, "up", "--name", name, "a=bookworm"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("lab: the lab needs root in the initial user namespace")
    assert done.stderr.count("\n") == 1
    assert is_removed(name)


def _parent(pid: int) -> int:
    # proc_pid_stat(5): the command name may contain ")", so split at the last one.
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
