# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Labs come and go, and whatever is killed, nothing of them stays."""

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
    holders,
    mentions,
    namespaces,
    nothing_left,
    ssh,
    wait_until,
)
from tests.support.hosts import cgroups
from tests.support.hosts.places import Places


def test_down_leaves_nothing(commands: Commands) -> None:
    lab = commands.up("a=bookworm", "b=trixie")
    inside = namespaces(lab)
    assert len(inside) == 3 * 2  # of the keeper and of two hosts
    # A connection that ssh keeps open for the next command ends as well.
    control = ["-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-S", f"{lab['directory']}/c"]
    subprocess.run([lab["ssh"], *control, "a", "true"], check=True, timeout=60)
    assert mentions(f"{lab['directory']}/c")
    commands.run("down", lab["name"])
    assert nothing_left(lab["name"])
    wait_until(lambda: not holders(inside), 5)


def test_a_host_that_reboots_comes_back_with_its_files(commands: Commands) -> None:
    lab = commands.up("a=bookworm", "b=trixie")
    first = ssh(lab, "b", "sudo readlink /proc/1/ns/pid")
    was = ssh(lab, "b", "cat /etc/machine-id; sudo touch /etc/kept /run/gone")

    def booted_again() -> bool:
        again = [lab["ssh"], "-o", "ConnectTimeout=2", "b", "sudo readlink /proc/1/ns/pid"]
        done = subprocess.run(again, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode == 0 and done.stdout.strip() != first

    subprocess.run([lab["ssh"], "b", "sudo systemctl reboot"], check=False, timeout=60)
    wait_until(booted_again, 180)
    assert ssh(lab, "b", "ls /etc/kept; test ! -e /run/gone; cat /etc/machine-id").split() == [
        "/etc/kept",
        was,
    ]
    assert ssh(lab, "a", "sudo systemctl is-system-running") == "running"
    commands.run("down", lab["name"])
    assert nothing_left(lab["name"])


def test_two_labs_do_not_meet(commands: Commands) -> None:
    first, second = commands.up("a=bookworm"), commands.up("a=bookworm")
    assert first["hosts"] == second["hosts"]  # even the addresses are the same
    ssh(first, "a", "echo first >/home/ops/whose")
    ssh(second, "a", "echo second >/home/ops/whose")
    assert not namespaces(first) & namespaces(second)
    assert ssh(first, "a", "cat whose") == "first"
    commands.run("down", second["name"])
    assert nothing_left(second["name"])
    assert ssh(first, "a", "cat whose") == "first"
    commands.run("down", first["name"])
    assert nothing_left(first["name"])


def test_a_killed_keeper_takes_all_of_it_along(commands: Commands) -> None:
    lab = commands.up("a=bookworm")
    inside = namespaces(lab)
    os.kill(lab["keeper"], signal.SIGKILL)
    wait_until(lambda: nothing_left(lab["name"]))
    wait_until(lambda: not holders(inside), 5)


def test_a_killed_warden_too_and_the_next_lab_clears_up(commands: Commands) -> None:
    lab = commands.up("a=bookworm")
    inside = namespaces(lab)
    os.kill(_parent(lab["keeper"]), signal.SIGKILL)
    wait_until(lambda: not holders(inside))
    assert f"{lab['name']} left over" in commands.run("list")
    other = commands.up("b=bookworm")
    assert nothing_left(lab["name"])
    assert ssh(other, "b", "hostname") == "b"
    commands.run("down", other["name"])


def test_reap_clears_up_too_and_leaves_the_living(commands: Commands) -> None:
    dead, alive = commands.up("a=bookworm"), commands.up("a=bookworm")
    os.kill(_parent(dead["keeper"]), signal.SIGKILL)
    wait_until(lambda: "left over" in commands.run("list"))
    commands.run("reap")
    assert nothing_left(dead["name"])
    assert ssh(alive, "a", "hostname") == "a"
    commands.run("down", alive["name"])


@pytest.mark.parametrize("seen", ["lock", "id_ed25519.pub", "stage", "a.log"])
def test_killed_in_the_middle_of_going_up(commands: Commands, seen: str) -> None:
    name = commands.name()
    directory = Places().lab(name)
    with commands.start("up", "--name", name, "a=bookworm", "b=trixie") as up:
        wait_until((directory / seen).exists)
        up.kill()
    # Killed before it had a warden: what is left is for the next one to clear up.
    wait_until(lambda: not mentions(name))
    commands.run("reap")
    assert nothing_left(name)


def test_it_ends_with_its_owner(commands: Commands) -> None:
    with subprocess.Popen(["sleep", "600"]) as owner:
        lab = commands.up("a=bookworm", owner=owner.pid)
        inside = namespaces(lab)
        assert ssh(lab, "a", "hostname") == "a"
        owner.kill()
    wait_until(lambda: nothing_left(lab["name"]))
    wait_until(lambda: not holders(inside), 5)


def test_an_owner_that_has_ended_gets_none(commands: Commands) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    name = commands.name()
    said = commands.fail("up", "--name", name, "--owner", str(ended.pid), "a=bookworm")
    assert "the lab's owner" in said
    assert nothing_left(name)


def test_a_name_is_taken_once(commands: Commands) -> None:
    lab = commands.up("a=bookworm")
    assert "there is a lab" in commands.fail("up", "--name", lab["name"], "b=bookworm")
    assert json.loads(commands.run("show", lab["name"])) == lab
    assert ssh(lab, "a", "hostname") == "a"
    commands.run("down", lab["name"])


def test_a_cgroup_of_others_is_not_taken_over(commands: Commands) -> None:
    name = commands.name()
    top = cgroups.of_lab(name)
    top.mkdir()
    try:
        assert "on this machine already" in commands.fail("up", "--name", name, "a=bookworm")
        assert top.is_dir()
        assert not Places().lab(name).exists()
    finally:
        top.rmdir()


def test_a_cgroup_that_goes_while_it_is_to_be_ended(commands: Commands) -> None:
    """Its warden may remove it at any moment."""
    name = commands.name()
    top = cgroups.of_lab(name)
    for _each in range(2_000):
        top.mkdir()
        remover = threading.Thread(target=top.rmdir)
        remover.start()
        while top.is_dir():
            cgroups.kill(name)
        remover.join()


def test_what_is_down_is_said_to_be(commands: Commands) -> None:
    name = commands.name()
    assert f"there is no lab {name}" in commands.fail("down", name)
    assert f"there is no lab {name}" in commands.fail("show", name)
    assert f"there is no lab {name}" in commands.fail("exec", name, "a", "true")
    commands.run("down", "--missing-ok", name)


def test_a_host_that_is_not_there(commands: Commands) -> None:
    lab = commands.up("a=bookworm")
    assert "has no host b; it has a" in commands.fail("exec", lab["name"], "b", "true")
    commands.run("down", lab["name"])


def test_root_of_a_user_namespace_is_not_enough(commands: Commands) -> None:
    name = commands.name()
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", TOOL, "up", "--name", name, "a=bookworm"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("lab: the lab makes hosts out of namespaces and needs root")
    assert done.stderr.count("\n") == 1
    assert nothing_left(name)


def _parent(pid: int) -> int:
    # proc_pid_stat(5): the command's name may hold anything, so what follows the last ")" counts.
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
