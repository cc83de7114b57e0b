# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Boot of a host: from a forked process to its init.

The steps are those of a container runtime: create namespaces, mount a root file system, pivot into
it, drop capabilities, and execute init. The marker of the lab's root file systems is checked before
and after the pivot.
"""

from __future__ import annotations

import os
import socket
import subprocess
import uuid
from pathlib import Path

from . import access, cgroups, syscalls
from .errors import UnsafeOperation
from .paths import require_rootfs
from .plan import PREFIX_LENGTHS, Host, Plan
from .recipe import USER

INIT = "/lib/systemd/systemd"

# Capabilities that affect the kernel that the machine shares with the host.
_DROPPED = (syscalls.CAP_SYS_MODULE, syscalls.CAP_SYS_RAWIO, syscalls.CAP_SYS_TIME)

_DEVICES = ("full", "null", "random", "tty", "urandom", "zero")
_NOTIFY = "run/host/notify"


def notify_path(stage: Path, host: Host) -> Path:
    """Path of the socket on which the host's systemd reports that it has started."""
    return stage / host.name / "notify"


def prepare(stage: Path, host: Host) -> None:
    """Create the directories of the host on the lab's tmpfs. A reboot keeps their contents.

    Called by the first process of the lab.
    """
    for part in ("upper", "work", "lower", "root"):
        (stage / host.name / part).mkdir(parents=True, exist_ok=True)


def leave_namespaces(plan: Plan, host: Host) -> None:
    """Join the cgroup of the host and create its namespaces, except the PID namespace."""
    cgroups.join(plan.cgroup / f"{cgroups.HOST}{host.name}")
    syscalls.unshare(
        syscalls.CLONE_NEWNS
        | syscalls.CLONE_NEWUTS
        | syscalls.CLONE_NEWIPC
        | syscalls.CLONE_NEWNET
        | syscalls.CLONE_NEWCGROUP
    )
    syscalls.keep_mounts_private()


def configure_network(host: Host) -> None:
    """Configure the loopback and eth0, after the link was created."""
    commands = [
        "link set lo up",
        f"address add {host.address.ipv4}/{PREFIX_LENGTHS[0]} dev eth0",
        f"address add {host.address.ipv6}/{PREFIX_LENGTHS[1]} dev eth0 nodad",
        "link set eth0 up",
    ]
    subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)


def become_init(plan: Plan, host: Host, stage: Path, init: str = INIT) -> None:
    """Mount the files of the host and execute its init, as PID 1. Does not return."""
    if os.getpid() != 1:
        raise UnsafeOperation("only PID 1 of a PID namespace may become the init of a host")
    digest = plan.digests[host.suite]
    require_rootfs(plan.rootfs[host.suite], digest)
    os.chdir(stage / host.name)
    syscalls.bind(plan.rootfs[host.suite], "lower", read_only=True)
    layers = "lowerdir=lower,upperdir=upper,workdir=work"
    syscalls.mount("overlay", "root", "overlay", options=layers)
    os.chdir("root")
    _write_files(plan, host)
    _mount_kernel_files()
    _mount_devices()
    syscalls.mount("tmpfs", "run", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755")
    Path("run/host").mkdir()
    Path(_NOTIFY).touch()
    syscalls.bind(notify_path(stage, host), _NOTIFY)
    syscalls.pivot_into(Path.cwd())
    # The root of the machine is detached. The new root must be that of a host.
    if os.readlink("/proc/self") != "1":
        raise UnsafeOperation("/proc does not belong to the PID namespace of the host")
    require_rootfs(Path("/"), digest, inside=True)
    socket.sethostname(host.name)
    for capability in _DROPPED:
        syscalls.drop_capability(capability)
    os.execve(
        init,
        [init, "--system"],
        {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "container": "linuxnet-sockets-lab",
            "NOTIFY_SOCKET": f"/{_NOTIFY}",
        },
    )


def _write_files(plan: Plan, host: Host) -> None:
    """Write names, keys and the machine id, unless the host has booted before."""
    if Path("etc/machine-id").stat().st_size:
        return  # a reboot
    names = ["127.0.0.1 localhost", "::1 localhost"]
    for name, address in plan.names_and_addresses():
        names += [f"{address.ipv4} {name}", f"{address.ipv6} {name}"]
    _write("etc/hosts", "\n".join(names) + "\n")
    _write("etc/hostname", f"{host.name}\n")
    _write("etc/machine-id", f"{uuid.uuid4().hex}\n")
    key = access.host_key_path(plan, host.name)
    _write("etc/ssh/ssh_host_ed25519_key", key.read_text(encoding="ascii"), mode=0o600)
    _write("etc/ssh/ssh_host_ed25519_key.pub", key.with_suffix(".pub").read_text(encoding="ascii"))
    uid, gid = _ids_of(USER)
    home = Path("home") / USER / ".ssh"
    home.mkdir(mode=0o700)
    _write(str(home / "authorized_keys"), access.public_key(plan), mode=0o600)
    for path in (home, home / "authorized_keys"):
        os.chown(path, uid, gid)


def _write(path: str, text: str, mode: int = 0o644) -> None:
    """Write a regular file in the root file system. Symbolic links are replaced, not followed."""
    Path(path).unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "w", encoding="utf-8") as handle:
        os.fchmod(descriptor, mode)
        handle.write(text)


def _ids_of(user: str) -> tuple[int, int]:
    """User and group id, from the passwd file of the root file system."""
    for line in Path("etc/passwd").read_text(encoding="utf-8").splitlines():
        name, _password, uid, gid, *_rest = line.split(":")
        if name == user:
            return int(uid), int(gid)
    raise UnsafeOperation(f"the root file system has no user {user}")


def _mount_kernel_files() -> None:
    """Mount proc, sysfs and cgroup2.

    Only /proc/sys/net is writable: network namespaces have their own copy. Nearly all other
    settings are global.
    """
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    syscalls.mount("proc", "proc", "proc", flags)
    # Bind the writable part from a descriptor that was opened before.
    net = os.open("proc/sys/net", os.O_PATH)
    syscalls.bind("proc/sys", "proc/sys", read_only=True)
    syscalls.bind(f"/proc/self/fd/{net}", "proc/sys/net")
    os.close(net)
    if Path("proc/sysrq-trigger").exists():
        syscalls.bind("proc/sysrq-trigger", "proc/sysrq-trigger", read_only=True)
    syscalls.mount("sysfs", "sys", "sysfs", flags | syscalls.MS_RDONLY)
    syscalls.mount("cgroup2", "sys/fs/cgroup", "cgroup2", flags)


def _mount_devices() -> None:
    """Mount a /dev with the standard devices and without disks."""
    syscalls.mount("tmpfs", "dev", "tmpfs", syscalls.MS_NOSUID, "mode=755")
    for device in _DEVICES:
        Path("dev", device).touch()
        syscalls.bind(f"/dev/{device}", f"dev/{device}")
    Path("dev/pts").mkdir()
    options = "newinstance,ptmxmode=0666,mode=620,gid=5"
    syscalls.mount("devpts", "dev/pts", "devpts", syscalls.MS_NOSUID, options)
    Path("dev/shm").mkdir()
    syscalls.mount("tmpfs", "dev/shm", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=1777")
    links = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd"}
    links |= {"stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
    for name, target in links.items():
        Path("dev", name).symlink_to(target)
