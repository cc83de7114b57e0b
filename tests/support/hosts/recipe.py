# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Contents of the root file systems. All of it is data, identified by a digest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass

USER = "ops"

PACKAGES = (
    "dbus",
    "iproute2",
    "kmod",
    "libpam-systemd",
    "nftables",
    "openssh-server",
    "procps",
    "python3",
    "sudo",
    "systemd-sysv",
)

# Packages that tests install from a repository in the host, which has no other network.
REPOSITORY_PACKAGES = ("python3-apt", "python3-pyroute2", "python3-venv")

# Units for hardware, consoles and external networks, which a host does not have, and for file
# systems of the kernel that it shares with the machine.
MASKED_UNITS = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "getty.target",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-timesyncd.service",
)

# Download the packages with their dependencies, and write the index of the repository.
_REPOSITORY_HOOKS = (
    'mkdir -p "$1/srv/packages/partial"',
    'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get --quiet --yes --no-install-recommends '
    '--download-only -o Dir::Cache::archives="$1/srv/packages" install '
    + " ".join(REPOSITORY_PACKAGES),
    (
        'cd "$1/srv/packages" && rm -rf partial lock && '
        'for deb in *.deb; do dpkg-deb --field "$deb"; '
        'printf "Filename: ./%s\\nSize: %s\\nSHA256: %s\\n\\n" "$deb" "$(stat --format %s "$deb")" '
        '"$(sha256sum <"$deb" | cut -d " " -f 1)"; done >Packages'
    ),
)

# Shell commands. "$1" is the new root file system.
HOOKS = (
    f'chroot "$1" useradd --create-home --shell /bin/bash {USER}',
    f'echo "{USER} ALL=(ALL) NOPASSWD: ALL" >"$1/etc/sudoers.d/{USER}"',
    f'chmod 440 "$1/etc/sudoers.d/{USER}"',
    # Each host gets its own key at boot.
    'rm -f "$1"/etc/ssh/ssh_host_*',
    'printf "UseDNS no\\nMaxStartups 100:30:200\\n" >"$1/etc/ssh/sshd_config.d/lab.conf"',
    ': >"$1/etc/machine-id"',
    ': >"$1/etc/resolv.conf"',
    'chroot "$1" systemctl --quiet mask ' + " ".join(MASKED_UNITS),
    *_REPOSITORY_HOOKS,
    'rm -f "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*',
    'echo "deb [trusted=yes] file:/srv/packages ./" >"$1/etc/apt/sources.list.d/lab.list"',
)


@dataclass(frozen=True)
class Recipe:
    """Arguments of mmdebstrap for one root file system."""

    suite: str
    variant: str = "minbase"
    packages: tuple[str, ...] = PACKAGES
    hooks: tuple[str, ...] = HOOKS

    @property
    def digest(self) -> str:
        """Digest of the recipe. It is part of the name of the root file system."""
        canonical = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


# Debian 11, 12 and 13: Python 3.9, 3.11 and 3.13.
RECIPES = {suite: Recipe(suite) for suite in ("bullseye", "bookworm", "trixie")}
