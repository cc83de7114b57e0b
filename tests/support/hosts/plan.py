# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab consists of, before and while it runs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import LabError
from .places import host_name
from .recipe import RECIPES

# Networks for documentation (RFC 5737, RFC 3849), inside a network namespace without a way out.
_IPV4 = "192.0.2."
_IPV6 = "2001:db8::"
PREFIX_LENGTHS = (24, 64)
_CONTROLLER = 254

# What systemd takes of fs.inotify.max_user_instances, which all hosts share as root.
_INOTIFY_PER_HOST = 6


@dataclass(frozen=True)
class Address:
    """One end on the lab's bridge."""

    ipv4: str
    ipv6: str

    @classmethod
    def number(cls, number: int) -> Address:
        """The address of host ``number``, or of the controller."""
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
        """The bridge's end of its link, in the lab's network."""
        return f"v-{self.name}"

    @property
    def hardware(self) -> str:
        """The link address of its end: the same after a reboot, or its neighbours go on sending to
        the one before for up to a minute. Locally administered (IEEE 802), with its IPv4 address.
        """
        return ":".join(["02", "00", *(f"{int(x):02x}" for x in self.address.ipv4.split("."))])


@dataclass(frozen=True)
class Plan:
    """A lab: its directory, its cgroup, and its hosts with the root file systems they boot."""

    name: str
    directory: Path
    cgroup: Path
    hosts: tuple[Host, ...]
    rootfs: dict[str, Path]
    digests: dict[str, str]

    def others(self) -> list[tuple[str, Address]]:
        """Every name in the lab with its address, for the hosts' files."""
        return [("controller", CONTROLLER), *((host.name, host.address) for host in self.hosts)]

    def as_json(self) -> dict[str, Any]:
        """The public description of the lab."""
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


def hosts_of(wanted: list[str]) -> tuple[Host, ...]:
    """``NAME=SUITE`` each, as hosts. Raises LabError for what the lab does not have."""
    hosts: list[Host] = []
    for number, item in enumerate(wanted, start=1):
        name, _equals, suite = item.partition("=")
        if suite not in RECIPES:
            raise LabError(f"host {item!r}: write NAME=SUITE; the suites are {', '.join(RECIPES)}")
        if host_name(name) in [host.name for host in hosts] or name == "controller":
            raise LabError(f"host {item!r}: the name is taken")
        hosts.append(Host(name, suite, Address.number(number)))
    instances = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text(encoding="ascii"))
    if not 1 <= len(hosts) <= instances // _INOTIFY_PER_HOST or len(hosts) >= _CONTROLLER:
        raise LabError(
            f"{len(hosts)} hosts: one to {min(instances // _INOTIFY_PER_HOST, _CONTROLLER - 1)} "
            f"are possible here (sysctl fs.inotify.max_user_instances is {instances}, each host "
            f"takes {_INOTIFY_PER_HOST}; the lab does not change the machine's settings)"
        )
    return tuple(hosts)
