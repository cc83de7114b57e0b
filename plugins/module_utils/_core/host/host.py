# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the seams between the core and the machine that it runs on."""

from __future__ import annotations

import os
import pwd
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..netlink import destroy_events
from ..netlink.connection import NetlinkSocket
from . import namespaces


def _open_destroy_events(namespace: namespaces.Namespace) -> destroy_events.DestroyEventListener:
    return namespaces.inside(namespace, destroy_events.subscribe)


def read_boot_id(proc: str) -> str:
    """The id of this boot of the kernel (random(4)). Raises OSError and UnicodeDecodeError."""
    with open(f"{proc}/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


@dataclass(frozen=True)
class Host:
    """Where the core looks and what it calls. The defaults are this machine; tests replace them.

    root: what stands before /boot, /lib and /usr/lib.
    open_netlink(namespace, netlink protocol) opens a socket inside a namespace.
    environ: the environment of the process that was asked (for SSH_CONNECTION); pid: that process.
    release: the kernel's, as uname -r prints it.
    open_destroy_events(namespace) subscribes to the sockets destroyed there (raises OSError).
    wait_for_destroy_events(listeners, seconds) waits for one of them.
    """

    proc: str = "/proc"
    root: str = ""
    netns_directories: tuple[str, ...] = namespaces.DIRECTORIES
    protect_directory: str = "/etc/linuxnet-sockets/protect.d"
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    pid: int = field(default_factory=os.getpid)
    release: str = field(default_factory=lambda: os.uname().release)
    open_netlink: Callable[[namespaces.Namespace, int], NetlinkSocket] = namespaces.open_netlink
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    open_destroy_events: Callable[[namespaces.Namespace], destroy_events.DestroyEventListener] = (
        _open_destroy_events
    )
    wait_for_destroy_events: Callable[
        [Sequence[destroy_events.DestroyEventListener], float], bool
    ] = destroy_events.wait

    def user_id(self, name: str) -> int | None:
        """The uid of a user of this machine; None if there is no such user."""
        try:
            return pwd.getpwnam(name).pw_uid
        except (KeyError, ValueError):
            # ValueError: characters that no name can have.
            return None

    def user_name(self, uid: int) -> str | None:
        """The name of a uid of this machine; None if it has none."""
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return None

    def service_port(self, name: str, protocol: str) -> int | None:
        """The port of a service in this machine's /etc/services; None if it is not there."""
        try:
            return socket.getservbyname(name, protocol)
        except (OSError, ValueError):
            return None
