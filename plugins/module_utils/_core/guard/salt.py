# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The connections of a Salt minion and of a Salt master.

A minion keeps connections to two ports of its master. A port alone proves nothing, since every user
may connect to it and from it. So the socket must also belong to root or to the user `salt`, as
which Salt's packages run the master.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from contextlib import suppress

from ..host.files import read_regular_file
from ..host.host import Host
from ..netlink import constants
from ..netlink.inet_diag import DiagMessage
from ..sockets.slots import Slot
from ..sockets.snapshot import Snapshot

# publish_port and ret_port of a master, which are publish_port and master_port of a minion.
_DEFAULT_PORTS = frozenset({4505, 4506})
_SETTING = re.compile(rb"^(?:publish_port|ret_port|master_port):[ \t]*(\d{1,5})\b", re.MULTILINE)
_USER = "salt"
_ROLES = ("minion", "master")


class SaltSockets:
    """Which sockets of a snapshot are those of Salt."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.ports = _DEFAULT_PORTS | _configured_ports(host.root)
        self._users: dict[int, bool] = {}

    @classmethod
    def of(cls, snapshot: Snapshot) -> SaltSockets:
        """The one instance of a snapshot."""
        return snapshot.get_or_create(_SALT, lambda: cls(snapshot.host))

    def port(self, message: DiagMessage, roots: Collection[int]) -> int | None:
        """The port by which a socket is one of Salt; None: it is none.

        roots: the user ids of root. Sockets without an inode do not count: the kernel reports them
        as those of root, whose ever they were.
        """
        if not message.inode or message.protocol not in constants.STREAMS:
            return None
        for port in (message.dport, message.sport):
            if port in self.ports and (message.uid in roots or self._is_salt(message.uid)):
                return port
        return None

    def _is_salt(self, user: int) -> bool:
        if user not in self._users:
            self._users[user] = self._host.user_id(_USER) == user
        return self._users[user]


def _configured_ports(root: str) -> frozenset[int]:
    """The ports in the configuration files of Salt. Files that cannot be read are skipped."""
    ports: set[int] = set()
    for role in _ROLES:
        files = [f"{root}/etc/salt/{role}"]
        with suppress(OSError):
            directory = f"{files[0]}.d"
            files += [
                os.path.join(directory, name)
                for name in os.listdir(directory)
                if name.endswith(".conf")
            ]
        for file in files:
            with suppress(OSError):
                ports.update(map(int, _SETTING.findall(read_regular_file(file))))
    return frozenset(ports)


_SALT: Slot[SaltSockets] = Slot("salt")
