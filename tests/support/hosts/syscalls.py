# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""System calls that Python 3.11 does not provide."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

# include/uapi/linux/sched.h
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# include/uapi/linux/mount.h
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

PR_SET_PDEATHSIG = 1
PR_CAPBSET_DROP = 24

# include/uapi/linux/capability.h
CAP_SYS_MODULE = 16
CAP_SYS_RAWIO = 17
CAP_SYS_TIME = 25

# pivot_root(2) has no wrapper in the C library. Its number by architecture.
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, operation: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{operation}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Move this process to new namespaces. flags: CLONE_NEW... values."""
    _check(_libc.unshare(flags), "unshare")


def mount(
    source: str, target: str | Path, kind: str = "", flags: int = 0, options: str = ""
) -> None:
    """Call mount(2). Empty strings for ``kind`` and ``options`` are passed as NULL."""
    _check(
        _libc.mount(
            source.encode(),
            os.fsencode(target),
            kind.encode() if kind else None,
            ctypes.c_ulong(flags),
            options.encode() if options else None,
        ),
        f"mount {source} on {target}",
    )


def bind(source: str | Path, target: str | Path, *, read_only: bool = False) -> None:
    """Bind-mount ``source`` on ``target``. Read-only needs a second call (mount(2))."""
    mount(str(source), target, flags=MS_BIND)
    if read_only:
        mount("none", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def keep_mounts_private() -> None:
    """Stop the propagation of mounts to and from other mount namespaces."""
    mount("none", "/", flags=MS_REC | MS_PRIVATE)


def pivot_into(directory: Path) -> None:
    """Make the mount ``directory`` the root, and detach the old root.

    pivot_root(".", ".") mounts the old root over the new one (pivot_root(2), NOTES).
    """
    number = _SYS_PIVOT_ROOT[os.uname().machine]
    os.chdir(directory)
    _check(_libc.syscall(number, b".", b"."), f"pivot_root into {directory}")
    _check(_libc.umount2(b".", MNT_DETACH), "umount of the old root")
    os.chdir("/")


def drop_capability(number: int) -> None:
    """Drop a capability from the bounding set of this process and its children."""
    _check(_libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0), "prctl PR_CAPBSET_DROP")


def die_with_parent(number: signal.Signals) -> None:
    """Send this process a signal when the thread that forked it ends."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0), "prctl PR_SET_PDEATHSIG")
