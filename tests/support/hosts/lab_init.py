# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""First process of a lab: PID 1 of its PID namespace, with its network and mounts.

All hosts are descendants. A host that reboots is started again with its files. When this process
ends, the kernel kills all hosts and removes the mounts, the bridge and the links together with the
namespaces.
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

# A host starts in half a second. Twenty at once on two busy processors take longer.
_BOOT_SECONDS = 120.0
_BRIDGE = "br0"


def run(plan: Plan, parent_pipe: int, report: int) -> None:
    """Boot the hosts, and run until ``parent_pipe`` closes.

    report: pipe for READY or an error message.
    """
    try:
        inits = _boot_all(plan, parent_pipe)
    except (LabError, OSError) as error:
        os.write(report, str(error).encode())
        return
    os.write(report, READY.encode())
    os.close(report)
    _supervise_hosts(plan, inits, parent_pipe)


def in_child(log: Path, work: Callable[[], None]) -> int:
    """Fork and call ``work`` in the child, which then exits. Returns the child's process id."""
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


def _boot_all(plan: Plan, parent_pipe: int) -> dict[int, Host]:
    """Boot all hosts. Returns them by the process id of their init."""
    cgroups.join(plan.cgroup / cgroups.INIT)
    syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET)
    syscalls.keep_mounts_private()
    stage = plan.directory / "stage"
    stage.mkdir()
    syscalls.mount("tmpfs", stage, "tmpfs", syscalls.MS_NODEV, "mode=700")
    # Use relative socket addresses: their length is limited to 107 characters.
    os.chdir(stage)
    _ip(_bridge())
    starting = [_StartingHost(plan, host, stage) for host in plan.hosts]
    inits = _start_hosts(plan, starting)
    _wait_until_started(plan, starting, parent_pipe)
    return inits


def _start_hosts(plan: Plan, starting: list[_StartingHost]) -> dict[int, Host]:
    """Connect the hosts to the bridge and boot them. Returns them by the process id of init."""
    for started in starting:
        if started.gate.recv(1) != _UNSHARED:
            raise LabError(_failed(plan, f"{started.host.name} could not create its namespaces"))
    for started in starting:
        _ip(_link(started.host, started.pid))
    inits = {}
    for started in starting:
        started.gate.send(_CONNECTED)
        init = started.gate.recv(32)
        if os.waitstatus_to_exitcode(os.waitpid(started.pid, 0)[1]) != 0:
            raise LabError(
                _failed(plan, f"{started.host.name} could not be connected to the bridge")
            )
        inits[int(init)] = started.host
    return inits


def _supervise_hosts(plan: Plan, inits: dict[int, Host], parent_pipe: int) -> None:
    """Reap children and restart hosts that reboot, until ``parent_pipe`` closes."""
    children, stop_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(stop_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poll = select.poll()
    for descriptor in (parent_pipe, children):
        poll.register(descriptor, select.POLLIN)
    ended = _reap()
    while True:
        for number, status in ended:
            host = inits.pop(number, None)
            # reboot(2): in a PID namespace, an init that reboots is terminated by SIGHUP.
            if host and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGHUP:
                inits.update(_boot_again(plan, host))
        ready = [descriptor for descriptor, _events in poll.poll()]
        if parent_pipe in ready:
            return
        os.read(children, 4096)
        ended = _reap()


def _reap() -> list[tuple[int, int]]:
    """Process id and status of each child that has ended."""
    ended = []
    with suppress(ChildProcessError):
        while (child := os.waitpid(-1, os.WNOHANG))[0]:
            ended.append(child)
    return ended


def _boot_again(plan: Plan, host: Host) -> dict[int, Host]:
    try:
        cgroups.remove_children(plan.cgroup / f"{cgroups.HOST}{host.name}")
        # The kernel removes the link with its namespace, now or a moment later.
        with suppress(LabError):
            _ip([f"link delete {host.link}"])
        return _start_hosts(plan, [_StartingHost(plan, host, plan.directory / "stage")])
    except (LabError, OSError) as error:
        os.write(2, f"{host.name} did not reboot: {error}\n".encode())
        return {}


class _StartingHost:
    """A host that starts: the process that creates its namespaces, and the socket to it."""

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
    """Set up the network of a host, then start its init in a new PID namespace."""
    boot.leave_namespaces(plan, host)
    gate.send(_UNSHARED)
    if gate.recv(1) != _CONNECTED:
        raise LabError("the first process of the lab ended")
    boot.configure_network(host)
    syscalls.unshare(syscalls.CLONE_NEWPID)
    init = in_child(_log(plan, host), partial(boot.become_init, plan, host, stage))
    gate.send(str(init).encode())


def _bridge() -> list[str]:
    """Commands that create a bridge with the addresses of the controller."""
    return [
        "link set lo up",
        f"link add {_BRIDGE} type bridge",
        f"address add {CONTROLLER.ipv4}/{PREFIX_LENGTHS[0]} dev {_BRIDGE}",
        f"address add {CONTROLLER.ipv6}/{PREFIX_LENGTHS[1]} dev {_BRIDGE} nodad",
        f"link set {_BRIDGE} up",
    ]


def _link(host: Host, process: int) -> list[str]:
    """Commands that link the bridge to the network namespace of a process."""
    return [
        f"link add {host.link} type veth peer name eth0 address {host.mac_address} netns {process}",
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
        raise LabError(f"cannot set up the network of the lab: {done.stderr.strip()}")


def _wait_until_started(plan: Plan, starting: list[_StartingHost], parent_pipe: int) -> None:
    """Wait until the systemd of each host reports READY=1 (sd_notify(3)). Raises LabError."""
    deadline = time.monotonic() + _BOOT_SECONDS
    poll = select.poll()
    waiting = {started.notify.fileno(): started for started in starting}
    for descriptor in (parent_pipe, *waiting):
        poll.register(descriptor, select.POLLIN)
    while waiting:
        late = ", ".join(started.host.name for started in waiting.values())
        if os.waitpid(-1, os.WNOHANG)[0]:
            raise LabError(_failed(plan, f"one of {late} ended during its start"))
        if time.monotonic() > deadline:
            raise LabError(_failed(plan, f"{late} did not start in {_BOOT_SECONDS:g} s"))
        for descriptor, _events in poll.poll(100):
            if descriptor == parent_pipe:
                raise LabError("stopped during the start")
            if b"READY=1" in waiting[descriptor].notify.recv(4096).split(b"\n"):
                poll.unregister(descriptor)
                del waiting[descriptor]


def _log(plan: Plan, host: Host) -> Path:
    return plan.directory / f"{host.name}.log"


def _failed(plan: Plan, message: str) -> str:
    """Return the message with the last lines of the hosts' logs."""
    logs = [(host.name, _log(plan, host).read_text(errors="replace")) for host in plan.hosts]
    return "\n".join([message, *(f"{name}: {text[-2000:]}" for name, text in logs if text)])
