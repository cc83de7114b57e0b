# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts, addresses and files of a lab."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import LabError
from .paths import host_name
from .recipe import RECIPES

# Networks for documentation (RFC 5737, RFC 3849), in an isolated network namespace.
_IPV4 = "192.0.2."
_IPV6 = "2001:db8::"
PREFIX_LENGTHS = (24, 64)
_CONTROLLER = 254

# inotify instances of a host's systemd. All hosts share the limit of root.
_INOTIFY_PER_HOST = 6


@dataclass(frozen=True)
class Address:
    """Addresses of one host, or of the controller, on the bridge."""

    ipv4: str
    ipv6: str

    @classmethod
    def number(cls, number: int) -> Address:
        """Return the addresses with this host number."""
        return cls(f"{_IPV4}{number}", f"{_IPV6}{number:x}")


CONTROLLER = Address.number(_CONTROLLER)


@dataclass(frozen=True)
class Host:
    """One host of a lab."""

    name: str
    suite: str
    address: Address

    @property
    def link(self) -> str:
        """Name of its link on the bridge."""
        return f"v-{self.name}"

    @property
    def mac_address(self) -> str:
        """Link address of eth0: locally administered (IEEE 802), derived from the IPv4 address.

        It must not change at a reboot: neighbours use the old one for up to a minute.
        """
        return ":".join(["02", "00", *(f"{int(x):02x}" for x in self.address.ipv4.split("."))])


@dataclass(frozen=True)
class Plan:
    """Directory, cgroup, hosts and root file systems of a lab."""

    name: str
    directory: Path
    cgroup: Path
    hosts: tuple[Host, ...]
    rootfs: dict[str, Path]
    digests: dict[str, str]

    def names_and_addresses(self) -> list[tuple[str, Address]]:
        """All names and addresses in the lab, for /etc/hosts."""
        return [("controller", CONTROLLER), *((host.name, host.address) for host in self.hosts)]

    def as_json(self) -> dict[str, Any]:
        """Description of the lab, as `lab show` prints it."""
        return {
            "name": self.name,
            "directory": str(self.directory),
            "ssh": str(self.directory / "ssh"),
            "identity_file": str(self.directory / "id_ed25519"),
            "controller": dataclasses.asdict(CONTROLLER),
            "hosts": {
                host.name: {"suite": host.suite, **dataclasses.asdict(host.address)}
                for host in self.hosts
            },
        }


def parse_hosts(arguments: list[str]) -> tuple[Host, ...]:
    """Parse hosts in the form ``NAME=SUITE``. Raises LabError."""
    hosts: list[Host] = []
    for number, argument in enumerate(arguments, start=1):
        name, _equals, suite = argument.partition("=")
        if suite not in RECIPES:
            raise LabError(
                f"host {argument!r}: write NAME=SUITE; the suites are {', '.join(RECIPES)}"
            )
        if host_name(name) in [host.name for host in hosts] or name == "controller":
            raise LabError(f"host {argument!r}: the name is already used")
        hosts.append(Host(name, suite, Address.number(number)))
    instances = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text(encoding="ascii"))
    if not 1 <= len(hosts) <= instances // _INOTIFY_PER_HOST or len(hosts) >= _CONTROLLER:
        raise LabError(
            f"{len(hosts)} hosts: a lab here has 1 to "
            f"{min(instances // _INOTIFY_PER_HOST, _CONTROLLER - 1)} hosts "
            f"(sysctl fs.inotify.max_user_instances is {instances}, and each host uses "
            f"{_INOTIFY_PER_HOST}; the lab does not change this setting)"
        )
    return tuple(hosts)
