# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first process of a lab: PID 1 of its PID namespace, with its network and its mounts.

Every host is a descendant; one that reboots is booted again, with the files that it had. When the
keeper ends, for whatever reason, the kernel kills them all; the mounts, the bridge and the links go
with the namespaces that nobody holds any more.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from . import boot, cgroups, syscalls
from .errors import LabError
from .plan import CONTROLLER, PREFIX_LENGTHS, Host, Plan

READY = "ready"

_UNSHARED = b"u"
_CONNECTED = b"c"

# A host starts in half a second; twenty at once, on two busy processors, take longer.
_BOOT_SECONDS = 120.0
_BRIDGE = "br0"


def run(plan: Plan, leash: int, report: int) -> None:
    """Boot the hosts, write READY or what went wrong to ``report``, stay until ``leash`` ends."""
    try:
        inits = _boot_all(plan, leash)
    except (LabError, OSError) as error:
        os.write(report, str(error).encode())
        return
    os.write(report, READY.encode())
    os.close(report)
    _keep(plan, inits, leash)


def in_child(log: Path, work: Callable[[], None]) -> int:
    """Fork, and in the child do ``work``; whatever becomes of it, the child ends there."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        work()
        status = 0
    except BaseException:  # noqa: BLE001 -- a forked child must not return into its parent's code
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(status)


def _boot_all(plan: Plan, leash: int) -> dict[int, Host]:
    """The hosts by the numbers of their inits."""
    cgroups.join(plan.cgroup / cgroups.KEEPER)
    syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET)
    syscalls.keep_mounts_private()
    stage = plan.directory / "stage"
    stage.mkdir()
    syscalls.mount("tmpfs", stage, "tmpfs", syscalls.MS_NODEV, "mode=700")
    # The sockets' addresses are relative: a path of theirs may have 107 characters.
    os.chdir(stage)
    _ip(_bridge())
    births = [_Birth(plan, host, stage) for host in plan.hosts]
    inits = _bear(plan, births)
    _wait_until_started(plan, births, leash)
    return inits


def _bear(plan: Plan, births: list[_Birth]) -> dict[int, Host]:
    """Connect the hosts and let them start; they by the numbers of their inits."""
    for birth in births:
        if birth.gate.recv(1) != _UNSHARED:
            raise LabError(_failed(plan, f"{birth.host.name} did not get namespaces of its own"))
    for birth in births:
        _ip(_link(birth.host, birth.pid))
    inits = {}
    for birth in births:
        birth.gate.send(_CONNECTED)
        init = birth.gate.recv(32)
        if os.waitstatus_to_exitcode(os.waitpid(birth.pid, 0)[1]) != 0:
            raise LabError(_failed(plan, f"{birth.host.name} could not be connected"))
        inits[int(init)] = birth.host
    return inits


def _keep(plan: Plan, inits: dict[int, Host], leash: int) -> None:
    """Until ``leash`` ends: leave no zombies, and boot those again that rebooted."""
    children, tell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poll = select.poll()
    for descriptor in (leash, children):
        poll.register(descriptor, select.POLLIN)
    ended = _reap()
    while True:
        for number, status in ended:
            host = inits.pop(number, None)
            # reboot(2): in a PID namespace, SIGHUP ends the init that wanted to reboot.
            if host and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGHUP:
                inits.update(_boot_again(plan, host))
        ready = [descriptor for descriptor, _events in poll.poll()]
        if leash in ready:
            return
        os.read(children, 4096)
        ended = _reap()


def _reap() -> list[tuple[int, int]]:
    """Number and status of each child that has ended."""
    ended = []
    with suppress(ChildProcessError):
        while (child := os.waitpid(-1, os.WNOHANG))[0]:
            ended.append(child)
    return ended


def _boot_again(plan: Plan, host: Host) -> dict[int, Host]:
    try:
        cgroups.clear(plan.cgroup / f"{cgroups.HOST}{host.name}")
        # It goes with the namespace that it led into, which may take a moment, or be over by now.
        with suppress(LabError):
            _ip([f"link delete {host.link}"])
        return _bear(plan, [_Birth(plan, host, plan.directory / "stage")])
    except (LabError, OSError) as error:
        os.write(2, f"{host.name} did not boot again: {error}\n".encode())
        return {}


class _Birth:
    """One host on its way: the process that gets its namespaces, and how the keeper talks to it."""

    def __init__(self, plan: Plan, host: Host, stage: Path) -> None:
        boot.prepare(stage, host)
        self.host = host
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        boot.notify_path(stage, host).unlink(missing_ok=True)
        self.notify.bind(f"{host.name}/notify")
        self.gate, theirs = socket.socketpair()
        self.pid = in_child(_log(plan, host), partial(_host, plan, host, stage, theirs))
        theirs.close()


def _host(plan: Plan, host: Host, stage: Path, gate: socket.socket) -> None:
    """What becomes a host: network first, then a PID namespace, whose first process is its init."""
    boot.leave_namespaces(plan, host)
    gate.send(_UNSHARED)
    if gate.recv(1) != _CONNECTED:
        raise LabError("the keeper ended")
    boot.configure_network(host)
    syscalls.unshare(syscalls.CLONE_NEWPID)
    init = in_child(_log(plan, host), partial(boot.become_init, plan, host, stage))
    gate.send(str(init).encode())


def _bridge() -> list[str]:
    """A bridge with the controller's addresses."""
    return [
        "link set lo up",
        f"link add {_BRIDGE} type bridge",
        f"address add {CONTROLLER.ipv4}/{PREFIX_LENGTHS[0]} dev {_BRIDGE}",
        f"address add {CONTROLLER.ipv6}/{PREFIX_LENGTHS[1]} dev {_BRIDGE} nodad",
        f"link set {_BRIDGE} up",
    ]


def _link(host: Host, process: int) -> list[str]:
    """A link from the bridge into the namespace of the process."""
    return [
        f"link add {host.link} type veth peer name eth0 address {host.hardware} netns {process}",
        f"link set {host.link} master {_BRIDGE} up",
    ]


def _ip(commands: list[str]) -> None:
    done = subprocess.run(
        ["ip", "-batch", "-"],
        input="\n".join(commands),
        text=True,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise LabError(f"the lab's network could not be made: {done.stderr.strip()}")


def _wait_until_started(plan: Plan, births: list[_Birth], leash: int) -> None:
    """Until each host's systemd has reached its default target: sd_notify(3), READY=1."""
    deadline = time.monotonic() + _BOOT_SECONDS
    poll = select.poll()
    waiting = {birth.notify.fileno(): birth for birth in births}
    for descriptor in (leash, *waiting):
        poll.register(descriptor, select.POLLIN)
    while waiting:
        late = ", ".join(birth.host.name for birth in waiting.values())
        if os.waitpid(-1, os.WNOHANG)[0]:
            raise LabError(_failed(plan, f"one of {late} ended while it started"))
        if time.monotonic() > deadline:
            raise LabError(_failed(plan, f"{late} did not start in {_BOOT_SECONDS:g} s"))
        for descriptor, _events in poll.poll(100):
            if descriptor == leash:
                raise LabError("called off")
            if b"READY=1" in waiting[descriptor].notify.recv(4096).split(b"\n"):
                poll.unregister(descriptor)
                del waiting[descriptor]


def _log(plan: Plan, host: Host) -> Path:
    return plan.directory / f"{host.name}.log"


def _failed(plan: Plan, what: str) -> str:
    """What happened, with the last words of the hosts that left some."""
    words = [(host.name, _log(plan, host).read_text(errors="replace")) for host in plan.hosts]
    return "\n".join([what, *(f"{name}: {text[-2000:]}" for name, text in words if text)])
