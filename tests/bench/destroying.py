# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Destroy the connections to one prefix in a process that did nothing before, as a module does.

    destroying.py PREFIX SOCKETS PROTECT

prints the seconds of processor time and on the clock that it took, from the selector to the last
fresh look. The bench's own process forks the holders of connections: every page that it writes to
afterwards is copied first, which is no work of ours.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

# For what it does: it maps the core to linuxnet_sockets.
import tests.conftest  # noqa: F401  # pylint: disable=unused-import

# isort: split
from linuxnet_sockets.destroy.command import destroy
from linuxnet_sockets.destroy.model import DestroyOptions
from linuxnet_sockets.guard.options import parse_guard
from linuxnet_sockets.host import host, namespaces
from linuxnet_sockets.selector.parse import parse_selector
from tests.bench import measure


def taken(prefix: str, sockets: int, protect: dict[str, bool]) -> measure.Taken:
    """What it takes a process of its own, the start of Python apart."""
    program = str(Path(__file__).resolve())
    command = (sys.executable, program, prefix, str(sockets), json.dumps(protect))
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return measure.Taken(*map(float, told))


def main() -> int:
    gc.disable()
    prefix, sockets, protect = sys.argv[1:]
    here = host.Host()
    outcomes: dict[str, int] = {}

    def work() -> None:
        report = destroy(
            here,
            parse_selector({"remote": prefix}, names=here, role="destroy"),
            namespaces.resolve(["current"]),
            DestroyOptions(parse_guard(json.loads(protect), names=here, files=None)),
        )
        outcomes.update(report.counts)

    found = measure.taken(work)
    print(found.cpu, found.wall)
    return 0 if outcomes == {"destroyed": int(sockets)} else 1


if __name__ == "__main__":
    sys.exit(main())
