# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules on every installed target Python, with only the standard library."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.integration.controller import Controller, cookies, task
from tests.integration.socket_process import SocketProcess
from tests.support.topologies.topology import Pair

OLDEST = 9
NEWEST = 14


def interpreters() -> dict[str, str]:
    """Interpreters by version. With pyenv, the interpreters and not their shims."""
    found = {f"3.{sys.version_info.minor}": os.path.realpath(sys.executable)}
    folders = []
    if shutil.which("pyenv"):
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=True)
        folders = [str(path) for path in Path(root.stdout.strip()).glob("versions/3.*/bin")]
    path = os.pathsep.join((*folders, "/usr/local/bin", "/usr/bin"))
    for minor in range(OLDEST, NEWEST + 1):
        python = shutil.which(f"python3.{minor}", path=path)
        if python is not None:
            found.setdefault(f"3.{minor}", os.path.realpath(python))
    return found


def without_site_packages(python: str, wrapper: Path) -> str:
    """Write a script that runs Python with only its standard library."""
    wrapper.write_text(f'#!/bin/sh\nexec {python} -E -s -S "$@"\n')
    wrapper.chmod(0o755)
    return str(wrapper)


def test_every_python_version(
    pair: Pair, client: SocketProcess, server: SocketProcess, controller: Controller, tmp_path: Path
) -> None:
    port = server.listen(pair.server4)["port"]
    match = {"remote_port": port}
    expected = []
    tasks = []
    pythons = interpreters()
    for number, python in enumerate(pythons.values()):
        (made,) = client.connect(pair.server4, port, source=(pair.client4, 8100 + number))
        expected.append({made["cookie"]})
        local_match = {**match, "local_port": 8100 + number}
        variables = {
            "ansible_python_interpreter": without_site_packages(
                python, tmp_path / f"python-{number}"
            )
        }
        tasks += [
            task("socket_diag_info", {"match": local_match, "details": ["info"]}, vars=variables),
            task("socket_diag_facts", vars=variables),
            task("socket_destroy", {"match": local_match}, diff=True, vars=variables),
        ]

    results = controller.play(*tasks)

    assert [result for result in results if result["failed"]] == []
    assert [cookies(result["sockets"]) for result in results[::3]] == expected
    assert [cookies(result["destroyed"]) for result in results[2::3]] == expected
    assert len(results) == 3 * len(pythons)
