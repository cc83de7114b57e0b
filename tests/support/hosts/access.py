# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How one gets to the hosts: keys made for this lab alone, and an ssh that enters its network."""

from __future__ import annotations

import subprocess
from pathlib import Path

from . import cgroups
from .plan import Plan
from .recipe import USER

IDENTITY = "id_ed25519"
_HOST_KEYS = "host-keys"


def make_keys(plan: Plan) -> None:
    """A key for the user and one for each host, with what ssh has to know of them."""
    (plan.directory / _HOST_KEYS).mkdir()
    _keygen(plan.directory / IDENTITY, f"{USER}@{plan.name}")
    known = []
    for host in plan.hosts:
        public = _keygen(host_key(plan, host.name), host.name)
        kind, key, _comment = public.split()
        known.append(f"{host.name},{host.address.ipv4},{host.address.ipv6} {kind} {key}\n")
    (plan.directory / "known_hosts").write_text("".join(known), encoding="ascii")


def host_key(plan: Plan, host: str) -> Path:
    """The private key by which a host shows who it is."""
    return plan.directory / _HOST_KEYS / host


def public_key(plan: Plan) -> str:
    """What the hosts let in."""
    return (plan.directory / f"{IDENTITY}.pub").read_text(encoding="ascii")


def write_ssh(plan: Plan, keeper: int) -> None:
    """``ssh`` in the lab's directory: the ssh of this machine, inside the lab's network.

    It joins the lab's cgroup first, so that it, and the master connection that it may leave
    behind, end with the lab. When the lab is down there is no such cgroup: it fails, and does not
    go looking for these addresses anywhere else.
    """
    directory = plan.directory
    config = [
        "Host *",
        f"  User {USER}",
        f"  IdentityFile {directory / IDENTITY}",
        "  IdentitiesOnly yes",
        f"  UserKnownHostsFile {directory / 'known_hosts'}",
        "  GlobalKnownHostsFile /dev/null",
        "  StrictHostKeyChecking yes",
    ]
    for host in plan.hosts:
        config += [f"Host {host.name}", f"  HostName {host.address.ipv4}"]
    (directory / "ssh_config").write_text("\n".join(config) + "\n", encoding="ascii")
    script = directory / "ssh"
    script.write_text(
        "#!/bin/sh\n"
        f"echo $$ >{plan.cgroup / cgroups.VISITORS}/cgroup.procs || exit 255\n"
        f'exec nsenter --net=/proc/{keeper}/ns/net ssh -F {directory}/ssh_config "$@"\n',
        encoding="ascii",
    )
    script.chmod(0o700)


def _keygen(path: Path, comment: str) -> str:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)],
        stdin=subprocess.DEVNULL,
        check=True,
    )
    return path.with_name(f"{path.name}.pub").read_text(encoding="ascii")
