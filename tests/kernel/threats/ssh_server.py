# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real sshd of root, with an account for an unprivileged user."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

from tests.support.topologies.topology import LabNamespace
from tests.support.topologies.waiting import until
from tests.support.unit_agent import Adversary

PORT = 2022
USER = "lns"
_TOOLS = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
SSHD = shutil.which("sshd", path=_TOOLS)

_OWN_ACCOUNTS = """
for name in passwd group shadow; do mount --bind "$0/$name" "/etc/$name"; done
exec "$@"
"""


def unavailable_reason() -> str | None:
    """Why no sshd can run here, or None."""
    if SSHD is None or not all(map(shutil.which, ("ssh", "ssh-keygen"))):
        return "needs sshd and ssh of OpenSSH"
    return None


class SshServer:
    """sshd in a namespace, on all addresses, with an account for an Adversary.

    keys: the authorized keys. key: that of the user. process: the daemon.
    """

    def __init__(self, where: LabNamespace, user: Adversary, folder: Path) -> None:
        assert SSHD is not None
        self.where = where
        self._user = user
        self._folder = folder
        for name in ("host", "root"):
            self._key(folder / name)
        self.key = user.home / "key"
        self._key(self.key)
        for file in (self.key, self.key.with_suffix(".pub")):
            os.chown(file, user.uid, user.uid)
        self.keys = folder / "keys"
        self.keys.write_text(
            (folder / "root.pub").read_text() + self.key.with_suffix(".pub").read_text()
        )
        self._write_accounts()
        own_accounts = ("unshare", "--mount", "sh", "-ec", _OWN_ACCOUNTS, str(folder))
        # ssh refuses a user without an account.
        user.prefix = own_accounts
        config = folder / "sshd_config"
        config.write_text(settings(folder / "host", self.keys, PORT, "PidFile none"))
        Path("/run/sshd").mkdir(exist_ok=True)
        self.log = folder / "sshd.log"
        self.process = where.spawn(
            *own_accounts,
            *(SSHD, "-D", "-f", str(config), "-E", str(self.log)),
        )
        wait_for_sshd(where, PORT)

    @staticmethod
    def _key(file: Path) -> None:
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)]
        subprocess.run(words, check=True)

    def _write_accounts(self) -> None:
        """sshd refuses a locked account, and each user needs an entry."""
        uid, home = self._user.uid, self._user.home
        own = {
            "passwd": f"{USER}:x:{uid}:{uid}::{home}:/bin/sh\n",
            "group": f"{USER}:x:{uid}:\n",
            "shadow": f"root:*:19000:0:99999:7:::\n{USER}:*:19000:0:99999:7:::\n",
        }
        for name, lines in own.items():
            kept = "" if name == "shadow" else Path("/etc", name).read_text(encoding="utf-8")
            (self._folder / name).write_text(kept + lines)
            (self._folder / name).chmod(0o640 if name == "shadow" else 0o644)

    def client(self, address: str, *words: str, port: int = PORT, root: bool = False) -> list[str]:
        """The words of ssh(1) that log in as the user, or as root."""
        key = self._folder / "root" if root else self.key
        return [
            *("ssh", "-F", "none", "-i", str(key), "-p", str(port)),
            *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
            *("-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"),
            *("-o", "ExitOnForwardFailure=yes"),
            *(f"{'root' if root else USER}@{address}", *words),
        ]


def settings(host_key: Path, authorized_keys: Path, port: int, *more: str) -> str:
    """The text of an sshd_config."""
    lines = [
        f"Port {port}",
        f"HostKey {host_key}",
        f"AuthorizedKeysFile {authorized_keys}",
        "PermitRootLogin prohibit-password",
        "PasswordAuthentication no",
        "StrictModes no",
        "UsePAM no",
        *more,
    ]
    return "".join(f"{line}\n" for line in lines)


def wait_for_sshd(where: LabNamespace, port: int) -> None:
    """Wait until an sshd answers on a port of the namespace's loopback."""

    def answers() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    until(lambda: where.run(answers), "an sshd that answers", seconds=10)
