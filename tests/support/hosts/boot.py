# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a forked process to a running init: one host's namespaces, files and first program.

The steps are those of a container runtime: leave the namespaces, get a root file system of one's
own, leave the machine's root behind, drop what could change the machine, and become init. Before
the root is left and again after, the marker of the lab's root file systems has to be there.
"""

from __future__ import annotations

import os
import socket
import subprocess
import uuid
from pathlib import Path

from . import access, cgroups, syscalls
from .errors import Refused
from .places import require_rootfs
from .plan import PREFIX_LENGTHS, Host, Plan
from .recipe import USER

INIT = "/lib/systemd/systemd"

# What a program in the host could do to the kernel that the machine shares with it.
_DROPPED = (syscalls.CAP_SYS_MODULE, syscalls.CAP_SYS_RAWIO, syscalls.CAP_SYS_TIME)

_DEVICES = ("full", "null", "random", "tty", "urandom", "zero")
_NOTIFY = "run/host/notify"


def notify_path(stage: Path, host: Host) -> Path:
    """The keeper's end of the socket by which the host's systemd says that it has started."""
    return stage / host.name / "notify"


def prepare(stage: Path, host: Host) -> None:
    """In the keeper: the directories of the host, on a file system that goes with the keeper; those
    that are there when it boots again stay."""
    for part in ("upper", "work", "lower", "root"):
        (stage / host.name / part).mkdir(parents=True, exist_ok=True)


def leave_namespaces(plan: Plan, host: Host) -> None:
    """In the process that becomes the host's: everything of its own but the process numbers."""
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
    """With the link there: loopback and the two addresses."""
    commands = [
        "link set lo up",
        f"address add {host.address.ipv4}/{PREFIX_LENGTHS[0]} dev eth0",
        f"address add {host.address.ipv6}/{PREFIX_LENGTHS[1]} dev eth0 nodad",
        "link set eth0 up",
    ]
    subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)


def become_init(plan: Plan, host: Host, stage: Path, init: str = INIT) -> None:
    """As PID 1 of the host's PID namespace: its files, its root, its init. Does not return."""
    if os.getpid() != 1:
        raise Refused("only PID 1 of a PID namespace becomes the init of a host")
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
    # The machine's root is out of reach now; what is here has to be a host's.
    if os.readlink("/proc/self") != "1":
        raise Refused("this /proc is not that of a host's own PID namespace")
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
    """In the host's root file system, not yet booted: who it is and whom it lets in."""
    if Path("etc/machine-id").stat().st_size:
        return  # It boots again.
    names = ["127.0.0.1 localhost", "::1 localhost"]
    for name, address in plan.others():
        names += [f"{address.ipv4} {name}", f"{address.ipv6} {name}"]
    _write("etc/hosts", "\n".join(names) + "\n")
    _write("etc/hostname", f"{host.name}\n")
    _write("etc/machine-id", f"{uuid.uuid4().hex}\n")
    key = access.host_key(plan, host.name)
    _write("etc/ssh/ssh_host_ed25519_key", key.read_text(encoding="ascii"), mode=0o600)
    _write("etc/ssh/ssh_host_ed25519_key.pub", key.with_suffix(".pub").read_text(encoding="ascii"))
    uid, gid = _ids_of(USER)
    home = Path("home") / USER / ".ssh"
    home.mkdir(mode=0o700)
    _write(str(home / "authorized_keys"), access.public_key(plan), mode=0o600)
    for path in (home, home / "authorized_keys"):
        os.chown(path, uid, gid)


def _write(path: str, text: str, mode: int = 0o644) -> None:
    """A regular file in the root file system; a link that stands there is not followed."""
    Path(path).unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "w", encoding="utf-8") as handle:
        os.fchmod(descriptor, mode)
        handle.write(text)


def _ids_of(user: str) -> tuple[int, int]:
    """The user's numbers as the root file system has them, not as the machine does."""
    for line in Path("etc/passwd").read_text(encoding="utf-8").splitlines():
        name, _password, uid, gid, *_rest = line.split(":")
        if name == user:
            return int(uid), int(gid)
    raise Refused(f"the root file system has no user {user}")


def _mount_kernel_files() -> None:
    """proc, sysfs and cgroup2. Settings can be changed below /proc/sys/net alone: that is where a
    network namespace has its own; nearly all others are the machine's."""
    plain = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    syscalls.mount("proc", "proc", "proc", plain)
    # The part that stays writable is fetched from below the part that no longer is.
    net = os.open("proc/sys/net", os.O_PATH)
    syscalls.bind("proc/sys", "proc/sys", read_only=True)
    syscalls.bind(f"/proc/self/fd/{net}", "proc/sys/net")
    os.close(net)
    if Path("proc/sysrq-trigger").exists():
        syscalls.bind("proc/sysrq-trigger", "proc/sysrq-trigger", read_only=True)
    syscalls.mount("sysfs", "sys", "sysfs", plain | syscalls.MS_RDONLY)
    syscalls.mount("cgroup2", "sys/fs/cgroup", "cgroup2", plain)


def _mount_devices() -> None:
    """/dev with what every program expects, and no disk in it."""
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
