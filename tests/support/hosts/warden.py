# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that looks after one lab: it starts the keeper, and clears up when anything ends.

It ends the lab when it is told to (SIGTERM), when the keeper has ended, when the lab's owner has
ended, and when the command that asked for the lab went away before it was up. If the warden itself
is killed, the keeper ends, and all hosts with it; what has a name then (a directory, empty cgroups)
is removed by the next `lab up` or by `lab reap`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from pathlib import Path

from . import access, cgroups, keeper, registry, rootfs, syscalls
from .errors import LabError
from .places import Places, remove_tree
from .plan import Plan, hosts_of
from .recipe import RECIPES


def plan_of(places: Places, name: str, wanted: list[str]) -> Plan:
    """The plan of a lab from what was asked for."""
    hosts = hosts_of(wanted)
    suites = {host.suite for host in hosts}
    return Plan(
        name=name,
        directory=places.lab(name),
        cgroup=cgroups.of_lab(name),
        hosts=hosts,
        rootfs={suite: rootfs.path_of(places, RECIPES[suite]) for suite in suites},
        digests={suite: RECIPES[suite].digest for suite in suites},
    )


def main() -> None:
    """Run as a program by `lab up`, with its orders as JSON in the first argument.

    To the descriptor ``status`` goes keeper.READY or what went wrong. The lab stays up if
    keeper.READY comes back through ``leash``.
    """
    orders = json.loads(sys.argv[1])
    places = Places(Path(orders["run"]), Path(orders["cache"]))
    name, status, leash, owner = (orders[key] for key in ("name", "status", "leash", "owner"))
    for descriptor in (orders["lock"], status, leash, owner):
        if descriptor is not None:
            os.set_inheritable(descriptor, False)
    os.chdir("/")
    os.umask(0o022)
    stopped = _stop_signals()
    try:
        plan = plan_of(places, name, orders["hosts"])
        cgroups.create(name, [host.name for host in plan.hosts])
    except LabError as error:
        remove_tree(places.lab(name), below=places.run)
        os.write(status, str(error).encode())
        return
    try:
        for path in plan.rootfs.values():
            rootfs.use(path)
        access.make_keys(plan)
        # Its write end is held here alone: however this process ends, the keeper is told.
        keeper_leash, hold = os.pipe()
        report, report_here = os.pipe()
        process = _start_keeper(
            plan, keeper_leash, report_here, close=[hold, report, status, leash]
        )
        ends = [os.pidfd_open(process), stopped, *([] if owner is None else [owner])]
        answer = _first(report, [*ends, leash])
        if answer == keeper.READY:
            access.write_ssh(plan, process)
            registry.describe(places, name, {**plan.as_json(), "keeper": process})
        os.write(status, (answer or "it ended before it was up").encode())
        os.close(status)
        if answer == keeper.READY and _first(leash, ends) == keeper.READY:
            os.close(leash)
            _first(None, ends)
    except (LabError, OSError) as error:
        os.write(status, str(error).encode())
    finally:
        registry.clear(places, name)


def _start_keeper(plan: Plan, leash: int, report: int, close: list[int]) -> int:
    """The keeper's number here; what it holds of the descriptors is its leash and its report."""
    syscalls.unshare(syscalls.CLONE_NEWPID)

    def work() -> None:
        for signal_number in _STOP:
            signal.signal(signal_number, signal.SIG_DFL)
        for descriptor in close:
            os.close(descriptor)
        keeper.run(plan, leash, report)

    process = keeper.in_child(plan.directory / "keeper.log", work)
    os.close(leash)
    os.close(report)
    return process


_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def _stop_signals() -> int:
    """A descriptor that becomes readable when this process is told to stop."""
    told, tell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(tell)
    for signal_number in _STOP:
        signal.signal(signal_number, lambda *_: None)
    return told


def _first(message: int | None, ends: list[int]) -> str:
    """What can be read from ``message``; empty if it closed, or one of ``ends`` came before it."""
    poll = select.poll()
    for descriptor in ends if message is None else [*ends, message]:
        poll.register(descriptor, select.POLLIN)
    if message in [descriptor for descriptor, _events in poll.poll()]:
        return os.read(message, 65536).decode(errors="replace")
    return ""


if __name__ == "__main__":
    main()
