# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root file systems are created once, and only completely."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hosts.commands import wait_until
from tests.support.hosts import paths, rootfs
from tests.support.hosts.paths import CHECKOUT, MARKER, LabPaths
from tests.support.hosts.recipe import Recipe

pytestmark = pytest.mark.slow

# Minimal root file systems: mmdebstrap only unpacks a package.
SMALL = Recipe("bookworm", variant="extract", packages=("base-files",), hooks=())
SMALL_TOO = Recipe("bookworm", variant="extract", packages=("base-passwd",), hooks=())


@pytest.fixture
def cache(_root: None, tmp_path: Path) -> LabPaths:
    return LabPaths(run=tmp_path / "run", cache=tmp_path / "cache")


def test_interrupted_creation_is_repeated(
    cache: LabPaths,
) -> None:
    path = rootfs.rootfs_path(cache, SMALL)
    temporary = path.with_name(f"{path.name}.making")
    program = (
        "from pathlib import Path\n"
        "from tests.support.hosts import rootfs\n"
        "from tests.hosts.test_rootfs import SMALL, LabPaths\n"
        f"rootfs.create_rootfs(LabPaths(cache=Path({str(cache.cache)!r})), SMALL, print)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=CHECKOUT) as process:
        wait_until(lambda: temporary.is_dir() and any(temporary.iterdir()), 60)
        process.send_signal(signal.SIGKILL)
    assert not path.exists()
    output: list[str] = []
    # Waits until the kernel has ended the mmdebstrap of the killed process.
    rootfs.create_rootfs(cache, SMALL, output.append)
    assert [text.split(" (")[0] for text in output] == ["creating the root file system of bookworm"]
    paths.require_rootfs(path, SMALL.digest)
    assert (path / "etc" / "debian_version").is_file()
    assert not temporary.exists()

    # It is not created again.
    created = (path / MARKER).stat().st_mtime_ns
    assert rootfs.create_rootfs(cache, SMALL, output.append) == path
    assert len(output) == 1
    assert (path / MARKER).stat().st_mtime_ns == created

    # Another recipe gets another one. The old one is removed when no lab uses it.
    used = rootfs.hold_rootfs(path)
    other = rootfs.create_rootfs(cache, SMALL_TOO, output.append)
    assert other != path
    assert path.is_dir()
    os.close(used)
    third = Recipe("bookworm", variant="extract", packages=("netbase",), hooks=())
    rootfs.create_rootfs(cache, third, output.append)
    assert not path.exists()
    assert not other.exists()
