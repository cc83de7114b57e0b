# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Host: the seam between the core and the machine, replaced by tests."""

from __future__ import annotations

import os
import pwd
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from .. import text
from ..bpf import socket_destroy
from ..netlink import destroy_events
from ..netlink.connection import NetlinkSocket
from . import namespaces
from .subuid import SUBUID, SubordinateUids


def _open_destroy_events(namespace: namespaces.Namespace) -> destroy_events.DestroyEventListener:
    return namespaces.inside(namespace, destroy_events.subscribe)


def _destroy_by_bpf(
    namespace: namespaces.Namespace, protocol: str, cookies: Sequence[int]
) -> dict[int, int]:
    return socket_destroy.destroy(
        protocol, cookies, lambda work: namespaces.inside(namespace, work)
    )


def read_boot_id(proc: str) -> str:
    """The id of this boot of the kernel (random(4)). Raises OSError and UnicodeDecodeError."""
    with open(f"{proc}/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


@dataclass(frozen=True)
class Host:
    """The paths that the core reads and the functions that it calls on a machine.

    The defaults are those of this machine.

    proc: the mount point of procfs. root: the prefix of /boot, /lib and /usr/lib.
    netns_directories: where named namespaces are mounted. protect_directory: the guard's files.
    subuid: the file of subordinate uids.
    environ, pid: the environment (for SSH_CONNECTION) and the pid of the calling process.
    release: the kernel's, as `uname -r` prints it.
    open_netlink(namespace, protocol): open a netlink socket inside a namespace.
    monotonic, sleep: seconds, as in `time`.
    stat: file status, as in `os`; for the owner of a file.
    open_destroy_events(namespace): subscribe to destroy notifications there; raises OSError.
    wait_for_destroy_events(listeners, timeout_s): wait for one; returns False after the timeout.
    probe_bpf(protocol): whether bpf_sock_destroy can be used.
    destroy_by_bpf(namespace, protocol, cookies): use it; see bpf.socket_destroy.destroy.
    """

    proc: str = "/proc"
    root: str = ""
    netns_directories: tuple[str, ...] = namespaces.DIRECTORIES
    protect_directory: str = "/etc/linuxnet-sockets/protect.d"
    subuid: str = SUBUID
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    pid: int = field(default_factory=os.getpid)
    release: str = field(default_factory=lambda: os.uname().release)
    open_netlink: Callable[[namespaces.Namespace, int], NetlinkSocket] = namespaces.open_netlink
    stat: Callable[[str], os.stat_result] = os.stat
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    open_destroy_events: Callable[[namespaces.Namespace], destroy_events.DestroyEventListener] = (
        _open_destroy_events
    )
    wait_for_destroy_events: Callable[
        [Sequence[destroy_events.DestroyEventListener], float], bool
    ] = destroy_events.wait
    probe_bpf: Callable[[str], socket_destroy.Support] = socket_destroy.probe
    destroy_by_bpf: Callable[[namespaces.Namespace, str, Sequence[int]], dict[int, int]] = (
        _destroy_by_bpf
    )

    def user_id(self, name: str) -> int | None:
        """The uid of a user; None if there is no such user."""
        for spelling in text.spellings(name):
            # ValueError: a NUL in the name. pwd encodes and decodes names as the locale says.
            with suppress(KeyError, ValueError):
                return pwd.getpwnam(os.fsdecode(text.encode(spelling))).pw_uid
        return None

    def user_name(self, uid: int) -> str | None:
        """The user name of a uid; None if it has none."""
        try:
            return text.decode(os.fsencode(pwd.getpwuid(uid).pw_name))
        except KeyError:
            return None

    def subordinate_uids(self) -> SubordinateUids:
        """The users of subordinate uids."""
        return SubordinateUids(self.user_id, self.subuid)

    def service_port(self, name: str, protocol: str) -> int | None:
        """The port of a service (services(5)); None if there is no such service."""
        try:
            return socket.getservbyname(name, protocol)
        except (OSError, ValueError):
            return None
