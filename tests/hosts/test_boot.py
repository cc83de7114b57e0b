# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An init starts only in a host of the lab."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.commands import Commands
from tests.support.hosts import access, boot, cgroups, lab_init, syscalls
from tests.support.hosts.errors import UnsafeOperation
from tests.support.hosts.paths import MARKER, LabPaths
from tests.support.hosts.plan import Plan
from tests.support.hosts.supervisor import create_plan

# Replaces init. Its exit status 0 shows that it ran.
_INIT = "/bin/true"
_FAILED = 1


class HostBoot:
    """A host, prepared for the start of its init."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self.plan, self.directory = plan, directory
        (self.host,) = plan.hosts
        boot.prepare(directory, self.host)
        boot.notify_path(directory, self.host).touch()
        self.upper = directory / self.host.name / "upper"

    def boot(self) -> tuple[int, str]:
        """Boot the host. Returns the exit status and the log."""
        log = self.directory / "log"

        def first() -> None:
            boot.leave_namespaces(self.plan, self.host)
            syscalls.unshare(syscalls.CLONE_NEWPID)
            init = lab_init.in_child(
                log, lambda: boot.become_init(self.plan, self.host, self.directory, _INIT)
            )
            os._exit(os.waitstatus_to_exitcode(os.waitpid(init, 0)[1]))

        process = lab_init.in_child(log, first)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        return status, log.read_text(encoding="utf-8")


@pytest.fixture
def host_boot(commands: Commands, tmp_path: Path) -> Iterator[HostBoot]:
    name = commands.name()
    paths = LabPaths(run=tmp_path / "run")
    plan = create_plan(paths, name, ["deb12=bookworm"])
    plan.directory.mkdir(parents=True)
    access.make_keys(plan)
    cgroups.create(name, ["deb12"])
    yield HostBoot(plan, tmp_path / "stage")
    cgroups.remove(name)


def test_init_runs_in_a_host(host_boot: HostBoot) -> None:
    assert host_boot.boot() == (0, "")


def test_init_needs_the_marker_in_the_root_file_system(host_boot: HostBoot, tmp_path: Path) -> None:
    host_boot.plan.rootfs["bookworm"] = tmp_path
    status, output = host_boot.boot()
    assert status == _FAILED
    assert f"UnsafeOperation: {tmp_path} is not a root file system of the lab" in output


def test_init_needs_the_marker_after_the_pivot(host_boot: HostBoot) -> None:
    # An overlay's whiteout (Documentation/filesystems/overlayfs.rst) hides the file below it.
    os.mknod(host_boot.upper / MARKER, stat.S_IFCHR, os.makedev(0, 0))
    status, output = host_boot.boot()
    assert status == _FAILED
    assert "UnsafeOperation: / is not a root file system of the lab" in output


def test_init_does_not_run_on_the_machines_root(host_boot: HostBoot) -> None:
    host_boot.plan.rootfs["bookworm"] = Path("/")
    status, output = host_boot.boot()
    assert status == _FAILED
    assert "UnsafeOperation: / is the root of this machine" in output


def test_init_runs_only_as_pid_1_of_a_namespace(host_boot: HostBoot) -> None:
    with pytest.raises(UnsafeOperation, match="only PID 1 of a PID namespace"):
        boot.become_init(host_boot.plan, host_boot.host, host_boot.directory, _INIT)
