# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that run a kernel: QEMU, and user-mode-linux as a process."""

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

# Low priority; the machine is killed when this process exits.
_LOW_PRIORITY = ("setpriv", "--pdeathsig", "KILL", "nice", "-n", "5")

MARK = "@results "  # as in guest/run.py


# No cmpxchg16b: QEMU 7.2 corrupts the flags after it, including the direction flag. Kernels with
# it in their memory allocator crash. No five-level page tables: their emulation is slow.
_CPU = "max,-cx16,-la57"


class BootError(Exception):
    """The guest reported no valid results."""


def _wait(process: subprocess.Popen[bytes], seconds: float, release: str) -> None:
    """Wait until the machine is off. Kills it and raises BootError after the time limit."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise BootError(
            f"{release} did not finish within {seconds:.0f} s and was stopped"
        ) from None
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _read_results(log: Path) -> dict[str, Any]:
    """Read the results from the console log. Raises BootError."""
    lines = log.read_text(errors="replace").splitlines()
    reports = [line[len(MARK) :] for line in lines if line.startswith(MARK)]
    try:
        results = json.loads(reports[-1])
    except (IndexError, ValueError) as error:
        raise BootError(f"the guest reported no results; see {log}") from error
    assert isinstance(results, dict)
    return results


def qemu(
    boot: Boot, initrd: Path, disk: Path, parameters: str, log: Path, seconds: float
) -> dict[str, Any]:
    """Run a kernel in an emulated PC without a network and return the results of its guest.

    disk: image of its only disk. parameters: additional kernel parameters.
    """
    # The mitigations for CPU vulnerabilities take a fifth of the time.
    append = (
        f"console=ttyS0 loglevel=5 oops=panic panic=-1 mitigations=off rdinit=/init {parameters}"
    )
    process = subprocess.Popen(
        [
            *(*_LOW_PRIORITY, "qemu-system-x86_64"),
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
    return _read_results(log)


@contextlib.contextmanager
def _chroot(
    boot: Boot, initrd: Path, libraries: Sequence[Package], directory: Path
) -> Iterator[Path]:
    """Directory that contains only user-mode-linux, its C library and its initrd."""
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


# User-mode-linux can access all files of its process (hostfs). It therefore runs in its own mount
# namespace with a read-only root and a /tmp in memory, without a network, without other visible
# processes, and as an unprivileged user.
_ENTER = """
set -eu
root=$1 user=$2
shift 2
mount --make-rprivate /
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t tmpfs -o mode=1777,size=3g tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
cd "$root"
exec chroot $user "$root" /linux.uml "$@"
"""


def uml(
    boot: Boot,
    initrd: Path,
    libraries: Sequence[Package],
    parameters: str,
    log: Path,
    seconds: float,
) -> dict[str, Any]:
    """Run user-mode-linux in a chroot and return the results of its guest."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    user = "--userspec=65534:65534" if os.geteuid() == 0 else ""
    with _chroot(boot, initrd, libraries, log.with_suffix(".root").absolute()) as root:
        with log.open("wb") as console:
            process = subprocess.Popen(
                [
                    *(*_LOW_PRIORITY, str(PROJECT / "tools" / "in-userns")),
                    *("unshare", "--mount", "--net", "--ipc", "--pid", "--fork", "--kill-child"),
                    *("sh", "-c", _ENTER, "uml", str(root), user),
                    *("mem=2G", "initrd=/initrd", "rdinit=/init", "quiet", "panic=-1"),
                    *("con=null", "con0=fd:0,fd:1", "ssl=null", *parameters.split()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={"PATH": path, "HOME": "/tmp", "TMPDIR": "/tmp"},
                start_new_session=True,
            )
            _wait(process, seconds, boot.release)
        return _read_results(log)
