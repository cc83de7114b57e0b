# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SSH access to the hosts: keys of the lab, and a program `ssh` that enters its network."""

from __future__ import annotations

import subprocess
from pathlib import Path

from . import cgroups
from .plan import Plan
from .recipe import USER

IDENTITY = "id_ed25519"
_HOST_KEYS = "host-keys"


def make_keys(plan: Plan) -> None:
    """Create the keys of the user and of each host, and known_hosts."""
    (plan.directory / _HOST_KEYS).mkdir()
    _keygen(plan.directory / IDENTITY, f"{USER}@{plan.name}")
    known = []
    for host in plan.hosts:
        public = _keygen(host_key_path(plan, host.name), host.name)
        kind, key, _comment = public.split()
        known.append(f"{host.name},{host.address.ipv4},{host.address.ipv6} {kind} {key}\n")
    (plan.directory / "known_hosts").write_text("".join(known), encoding="ascii")


def host_key_path(plan: Plan, host: str) -> Path:
    """Path of the private key of a host."""
    return plan.directory / _HOST_KEYS / host


def public_key(plan: Plan) -> str:
    """Public key that the hosts accept."""
    return (plan.directory / f"{IDENTITY}.pub").read_text(encoding="ascii")


def write_ssh(plan: Plan, lab_init: int) -> None:
    """Write the program ``ssh`` to the directory of the lab: it runs ssh in the lab's network.

    It first joins a cgroup of the lab, so it ends with the lab, and so does a master connection in
    the background. Without the lab the cgroup does not exist and the program fails. It never
    connects to these addresses in another network.
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
        f"echo $$ >{plan.cgroup / cgroups.CLIENTS}/cgroup.procs || exit 255\n"
        f'exec nsenter --net=/proc/{lab_init}/ns/net ssh -F {directory}/ssh_config "$@"\n',
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
