# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Whether /proc shows every process of the machine to this process.

Where it does not, a socket without a visible holder may have a hidden one. Mount options hide
processes (proc(5)), and a PID namespace hides those outside it (pid_namespaces(7)).
"""

from __future__ import annotations

import os

from .user_ids import sees_all_ids

_CAP_SYS_PTRACE = 19  # include/uapi/linux/capability.h
_PF_KTHREAD = 0x00200000  # include/linux/sched.h
_KTHREADD = 2
# fs/proc/root.c; numbers before Linux 5.8.
_SHOWS_ALL = frozenset({"0", "off"})


def hidden_processes_reason(proc: str) -> str | None:
    """Why some processes may be hidden, as a phrase; None: /proc shows all of them."""
    try:
        options = _mount_options(proc)
    except OSError:
        # A directory without `self` is no procfs.
        return f"{proc} has no entry for this process" if os.path.lexists(f"{proc}/self") else None
    if options is None:
        return None
    hidepid = options.get("hidepid", "0")
    if hidepid not in _SHOWS_ALL and not _may_trace_all(proc):
        return f"{proc} is mounted with hidepid={hidepid}"
    if "subset" in options:
        return f"{proc} is mounted with subset={options['subset']}"
    if not _shows_kernel_threads(proc):
        return f"{proc} shows only one PID namespace"
    return None


def _mount_options(proc: str) -> dict[str, str] | None:
    """The options of the procfs mounted at this path; None: none is.

    Raises OSError if this process is not in its PID namespace.
    """
    found: dict[str, str] | None = None
    with open(f"{proc}/self/mountinfo", "rb") as lines:
        for line in lines:
            mount, _dash, filesystem = line.rstrip(b"\n").partition(b" - ")
            fields = mount.split(b" ")
            kind, _space, source_and_options = filesystem.partition(b" ")
            if kind != b"proc" or len(fields) < 5 or fields[4] != os.fsencode(proc):
                continue
            options = os.fsdecode(source_and_options.rpartition(b" ")[2])
            pairs = (option.partition("=") for option in options.split(","))
            found = {name: value for name, _equals, value in pairs}
    return found


def _may_trace_all(proc: str) -> bool:
    """Whether hidepid hides nothing from this process (has_pid_permissions, fs/proc/base.c).

    It has CAP_SYS_PTRACE in the initial user namespace.
    """
    try:
        if not sees_all_ids(proc):
            return False
        with open(f"{proc}/self/status", "rb") as lines:
            for line in lines:
                if line.startswith(b"CapEff:"):
                    return bool(int(line.split()[1], 16) >> _CAP_SYS_PTRACE & 1)
    except (OSError, ValueError, IndexError):
        pass
    return False


def _shows_kernel_threads(proc: str) -> bool:
    """Whether this is the procfs of the initial PID namespace: kernel threads are only there."""
    try:
        with open(f"{proc}/{_KTHREADD}/stat", "rb") as stream:
            # proc_pid_stat(5): field 2, the command, may contain spaces and parentheses.
            fields = stream.read().rpartition(b")")[2].split()
        return bool(int(fields[6]) & _PF_KTHREAD)
    except (OSError, IndexError, ValueError):
        return False
