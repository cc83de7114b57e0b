# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No init is started but in a host of the lab."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.commands import Commands
from tests.support.hosts import access, boot, cgroups, keeper, syscalls
from tests.support.hosts.errors import Refused
from tests.support.hosts.places import MARKER, Places
from tests.support.hosts.plan import Plan
from tests.support.hosts.warden import plan_of

# In place of an init: that it has run is seen by its exit status, 0.
_INIT = "/bin/true"
_REFUSED = 1


class Stage:
    """One host, brought as far as its init."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self.plan, self.directory = plan, directory
        (self.host,) = plan.hosts
        boot.prepare(directory, self.host)
        boot.notify_path(directory, self.host).touch()
        self.upper = directory / self.host.name / "upper"

    def boot(self) -> tuple[int, str]:
        """The exit status of what took the init's place or was to, and what was said."""
        log = self.directory / "log"

        def first() -> None:
            boot.leave_namespaces(self.plan, self.host)
            syscalls.unshare(syscalls.CLONE_NEWPID)
            init = keeper.in_child(
                log, lambda: boot.become_init(self.plan, self.host, self.directory, _INIT)
            )
            os._exit(os.waitstatus_to_exitcode(os.waitpid(init, 0)[1]))

        process = keeper.in_child(log, first)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        return status, log.read_text(encoding="utf-8")


@pytest.fixture
def stage(commands: Commands, tmp_path: Path) -> Iterator[Stage]:
    name = commands.name()
    places = Places(run=tmp_path / "run")
    plan = plan_of(places, name, ["deb12=bookworm"])
    plan.directory.mkdir(parents=True)
    access.make_keys(plan)
    cgroups.create(name, ["deb12"])
    yield Stage(plan, tmp_path / "stage")
    cgroups.remove(name)


def test_in_a_host_init_runs(stage: Stage) -> None:
    assert stage.boot() == (0, "")


def test_without_the_marker_in_the_root_file_system_it_does_not(
    stage: Stage, tmp_path: Path
) -> None:
    stage.plan.rootfs["bookworm"] = tmp_path
    status, said = stage.boot()
    assert status == _REFUSED
    assert f"Refused: {tmp_path} is no root file system of the lab" in said


def test_nor_without_the_marker_in_the_root_that_it_would_run_on(stage: Stage) -> None:
    # An overlay's whiteout (Documentation/filesystems/overlayfs.rst) hides the file below it.
    os.mknod(stage.upper / MARKER, stat.S_IFCHR, os.makedev(0, 0))
    status, said = stage.boot()
    assert status == _REFUSED
    assert "Refused: / is no root file system of the lab" in said


def test_nor_with_the_machines_root(stage: Stage) -> None:
    stage.plan.rootfs["bookworm"] = Path("/")
    status, said = stage.boot()
    assert status == _REFUSED
    assert "Refused: / is the root of this machine" in said


def test_nor_outside_a_pid_namespace(stage: Stage) -> None:
    with pytest.raises(Refused, match="only PID 1 of a PID namespace"):
        boot.become_init(stage.plan, stage.host, stage.directory, _INIT)
