# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root file systems are made once, whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hosts.commands import wait_until
from tests.support.hosts import places, rootfs
from tests.support.hosts.places import CHECKOUT, MARKER, Places
from tests.support.hosts.recipe import Recipe

pytestmark = pytest.mark.slow

# The smallest that mmdebstrap makes: a few packages unpacked, nothing run in it.
SMALL = Recipe("bookworm", variant="extract", packages=("base-files",), hooks=())
SMALL_TOO = Recipe("bookworm", variant="extract", packages=("base-passwd",), hooks=())


@pytest.fixture
def cache(_root: None, tmp_path: Path) -> Places:
    return Places(run=tmp_path / "run", cache=tmp_path / "cache")


def test_interrupted_making_leaves_nothing_half_and_the_next_one_makes_it_anew(
    cache: Places,
) -> None:
    path = rootfs.path_of(cache, SMALL)
    making = path.with_name(f"{path.name}.making")
    program = (
        "from pathlib import Path\n"
        "from tests.support.hosts import rootfs\n"
        "from tests.hosts.test_rootfs import SMALL, Places\n"
        f"rootfs.make(Places(cache=Path({str(cache.cache)!r})), SMALL, print)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=CHECKOUT) as maker:
        wait_until(lambda: making.is_dir() and any(making.iterdir()), 60)
        maker.send_signal(signal.SIGKILL)
    assert not path.exists()
    said: list[str] = []
    # Waits for the mmdebstrap of the one that was killed to end; it is told so by the kernel.
    rootfs.make(cache, SMALL, said.append)
    assert [text.split(" (")[0] for text in said] == ["making the root file system of bookworm"]
    places.require_rootfs(path, SMALL.digest)
    assert (path / "etc" / "debian_version").is_file()
    assert not making.exists()

    # It is there now, and is not made again.
    made = (path / MARKER).stat().st_mtime_ns
    assert rootfs.make(cache, SMALL, said.append) == path
    assert len(said) == 1
    assert (path / MARKER).stat().st_mtime_ns == made

    # Another recipe makes another one. The old one goes when no lab uses it.
    used = rootfs.use(path)
    other = rootfs.make(cache, SMALL_TOO, said.append)
    assert other != path
    assert path.is_dir()
    os.close(used)
    third = Recipe("bookworm", variant="extract", packages=("netbase",), hooks=())
    rootfs.make(cache, third, said.append)
    assert not path.exists()
    assert not other.exists()
