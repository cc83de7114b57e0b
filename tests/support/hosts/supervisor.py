# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Supervisor of one lab: starts its first process, and removes the lab at the end.

It stops the lab on SIGTERM, when the first process or the owner ends, and when `lab up` ends before
the lab has started. If the supervisor itself is killed, the first process and all hosts end. The
next `lab up` or `lab reap` then removes the directory and the empty cgroups.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from pathlib import Path

from . import access, cgroups, lab_init, registry, rootfs, syscalls
from .errors import LabError
from .paths import LabPaths, remove_tree
from .plan import Plan, parse_hosts
from .recipe import RECIPES


def create_plan(paths: LabPaths, name: str, hosts: list[str]) -> Plan:
    """Return the plan of a lab. hosts: NAME=SUITE each."""
    parsed = parse_hosts(hosts)
    suites = {host.suite for host in parsed}
    return Plan(
        name=name,
        directory=paths.lab(name),
        cgroup=cgroups.lab_cgroup(name),
        hosts=parsed,
        rootfs={suite: rootfs.rootfs_path(paths, RECIPES[suite]) for suite in suites},
        digests={suite: RECIPES[suite].digest for suite in suites},
    )


def main() -> None:
    """Run as a program by `lab up`, with options as JSON in the first argument.

    Writes READY or an error message to the descriptor ``status``. The lab keeps running if READY
    comes back through ``parent_pipe``.
    """
    options = json.loads(sys.argv[1])
    paths = LabPaths(Path(options["run"]), Path(options["cache"]))
    name, status, parent_pipe, owner = (
        options[key] for key in ("name", "status", "parent_pipe", "owner")
    )
    for descriptor in (options["lock"], status, parent_pipe, owner):
        if descriptor is not None:
            os.set_inheritable(descriptor, False)
    os.chdir("/")
    os.umask(0o022)
    stopped = _stop_signals()
    try:
        plan = create_plan(paths, name, options["hosts"])
        cgroups.create(name, [host.name for host in plan.hosts])
    except LabError as error:
        remove_tree(paths.lab(name), below=paths.run)
        os.write(status, str(error).encode())
        return
    try:
        for path in plan.rootfs.values():
            rootfs.hold_rootfs(path)
        access.make_keys(plan)
        # Only this process holds the write end: its end closes the pipe.
        init_parent_pipe, hold = os.pipe()
        report, report_here = os.pipe()
        process = _start_lab_init(
            plan, init_parent_pipe, report_here, close=[hold, report, status, parent_pipe]
        )
        ends = [os.pidfd_open(process), stopped, *([] if owner is None else [owner])]
        answer = _first(report, [*ends, parent_pipe])
        if answer == lab_init.READY:
            access.write_ssh(plan, process)
            registry.describe(paths, name, {**plan.as_json(), "init": process})
        os.write(status, (answer or "it ended during its start").encode())
        os.close(status)
        if answer == lab_init.READY and _first(parent_pipe, ends) == lab_init.READY:
            os.close(parent_pipe)
            _first(None, ends)
    except (LabError, OSError) as error:
        os.write(status, str(error).encode())
    finally:
        registry.remove_lab(paths, name)


def _start_lab_init(plan: Plan, parent_pipe: int, report: int, close: list[int]) -> int:
    """Start the first process of the lab, which gets only two pipes. Returns its process id."""
    syscalls.unshare(syscalls.CLONE_NEWPID)

    def work() -> None:
        for signal_number in _STOP:
            signal.signal(signal_number, signal.SIG_DFL)
        for descriptor in close:
            os.close(descriptor)
        lab_init.run(plan, parent_pipe, report)

    process = lab_init.in_child(plan.directory / "init.log", work)
    os.close(parent_pipe)
    os.close(report)
    return process


_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def _stop_signals() -> int:
    """Return a descriptor that becomes readable on a stop signal."""
    stop_read, stop_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(stop_write)
    for signal_number in _STOP:
        signal.signal(signal_number, lambda *_: None)
    return stop_read


def _first(message: int | None, ends: list[int]) -> str:
    """Read from ``message``. Returns "" if it closes, or if one of ``ends`` is ready first."""
    poll = select.poll()
    for descriptor in ends if message is None else [*ends, message]:
        poll.register(descriptor, select.POLLIN)
    if message in [descriptor for descriptor, _events in poll.poll()]:
        return os.read(message, 65536).decode(errors="replace")
    return ""


if __name__ == "__main__":
    main()
