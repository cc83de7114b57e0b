# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machines that kernels are started in: an emulated PC, and an ordinary process."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.kernel_matrix.image import PROJECT, Boot
from tests.kernel_matrix.packages import Package, unpack

# Behind all else that runs here, and not longer than the one that waits for it.
_UNOBTRUSIVELY = ("setpriv", "--pdeathsig", "KILL", "nice", "-n", "5")

MARK = "@results "  # as in guest/run.py


# Without cmpxchg16b: QEMU 7.2 leaves rubbish in the flags after it, the direction flag included,
# and kernels that use it for their memory allocator fall over. Without five levels of page tables,
# of which each is looked up in software.
_CPU = "max,-cx16,-la57"


class BootError(Exception):
    """The guest told nothing that can be read."""


def _wait(process: subprocess.Popen[bytes], seconds: float, what: str) -> None:
    """Until the machine is off. Raises BootError when the time is over; then it is ended."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise BootError(
            f"{what} was not done within {seconds:.0f} s, and was switched off"
        ) from None
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _told(log: Path) -> dict[str, Any]:
    """What the guest said, after its machine is off. Raises BootError."""
    lines = log.read_text(errors="replace").splitlines()
    told = [line[len(MARK) :] for line in lines if line.startswith(MARK)]
    try:
        found = json.loads(told[-1])
    except (IndexError, ValueError) as error:
        raise BootError(f"the guest told no results; see {log}") from error
    assert isinstance(found, dict)
    return found


def qemu(
    boot: Boot, initrd: Path, disk: Path, told: str, log: Path, seconds: float
) -> dict[str, Any]:
    """Start a kernel in an emulated PC without any network, and give what its guest told.

    disk: a file that the guest finds as its only disk. told: words more for the kernel.
    """
    # What guards against flaws of real processors only takes time here, a fifth of all.
    append = f"console=ttyS0 loglevel=5 oops=panic panic=-1 mitigations=off rdinit=/init {told}"
    process = subprocess.Popen(
        [
            *(*_UNOBTRUSIVELY, "qemu-system-x86_64"),
            *("-machine", "q35,accel=tcg", "-cpu", _CPU, "-m", "1536", "-smp", "1"),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none"),
            *("-kernel", str(boot.kernel), "-initrd", str(initrd), "-append", append),
            *("-drive", f"file={disk},format=raw,if=virtio,cache=unsafe"),
            *("-serial", f"file:{log}"),
        ],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    _wait(process, seconds, boot.release)
    return _told(log)


@contextlib.contextmanager
def _cell(
    boot: Boot, initrd: Path, libraries: Sequence[Package], directory: Path
) -> Iterator[Path]:
    """A directory with user-mode-linux, its C library, its initrd, and nothing else."""
    shutil.rmtree(directory, ignore_errors=True)
    for package in libraries:
        unpack(package, directory)
    for name in ("lib", "lib64"):
        if (directory / "usr" / name).is_dir() and not (directory / name).exists():
            (directory / name).symlink_to(f"usr/{name}")
    for name in ("dev", "proc", "tmp"):
        (directory / name).mkdir()
    shutil.copy(boot.kernel, directory / "linux.uml")
    shutil.copy(initrd, directory / "initrd")
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


# User-mode-linux can read and write what the process that runs it can (hostfs): a private mount
# namespace, in which its cell is the whole file system and read-only but for a /tmp in memory,
# no network, no other processes in sight, and nobody's rights.
_ENTER = """
set -eu
cell=$1 user=$2
shift 2
mount --make-rprivate /
mount --bind "$cell" "$cell"
mount -o remount,bind,ro "$cell"
mount -t tmpfs -o mode=1777,size=3g tmpfs "$cell/tmp"
mount -t proc proc "$cell/proc"
cd "$cell"
exec chroot $user "$cell" /linux.uml "$@"
"""


def uml(
    boot: Boot, initrd: Path, libraries: Sequence[Package], told: str, log: Path, seconds: float
) -> dict[str, Any]:
    """Start user-mode-linux, locked in a directory of its own, and give what its guest told."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    user = "--userspec=65534:65534" if os.geteuid() == 0 else ""
    with _cell(boot, initrd, libraries, log.with_suffix(".cell").absolute()) as cell:
        with log.open("wb") as console:
            process = subprocess.Popen(
                [
                    *(*_UNOBTRUSIVELY, str(PROJECT / "tools" / "in-userns")),
                    *("unshare", "--mount", "--net", "--ipc", "--pid", "--fork", "--kill-child"),
                    *("sh", "-c", _ENTER, "uml", str(cell), user),
                    *("mem=2G", "initrd=/initrd", "rdinit=/init", "quiet", "panic=-1"),
                    *("con=null", "con0=fd:0,fd:1", "ssl=null", *told.split()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={"PATH": path, "HOME": "/tmp", "TMPDIR": "/tmp"},
                start_new_session=True,
            )
            _wait(process, seconds, boot.release)
        return _told(log)
