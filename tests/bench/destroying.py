# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Destroy the connections to one prefix in a fresh process, as a module does.

    destroying.py PREFIX SOCKETS PROTECT ENGINE

Prints the CPU time and the elapsed time in seconds, from the selector to the dump that verifies the
result. It is a separate process because the bench forks the processes that hold the connections:
copy-on-write faults in the bench would distort the measurement.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

# Imported for its side effect: it maps the core to linuxnet_sockets.
import tests.conftest  # noqa: F401  # pylint: disable=unused-import

# isort: split
from linuxnet_sockets.destroy.command import destroy
from linuxnet_sockets.destroy.model import DestroyOptions
from linuxnet_sockets.guard.options import parse_guard
from linuxnet_sockets.host import host, namespaces
from linuxnet_sockets.selector.parse import parse_selector
from tests.bench import measure


def destroy_time(
    prefix: str, sockets: int, protect: dict[str, bool], engine: str = "netlink"
) -> measure.Time:
    """Time of the destruction in a separate process, without the start of Python."""
    program = str(Path(__file__).resolve())
    command = (sys.executable, program, prefix, str(sockets), json.dumps(protect), engine)
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return measure.Time(*map(float, output.split()))


def main() -> int:
    gc.disable()
    prefix, sockets, protect, engine = sys.argv[1:]
    local_host = host.Host()
    outcomes: dict[str, int] = {}

    def work() -> None:
        report = destroy(
            local_host,
            parse_selector({"remote": prefix}, names=local_host, role="destroy"),
            namespaces.resolve(["current"]),
            DestroyOptions(
                parse_guard(json.loads(protect), names=local_host, files=None), engine=engine
            ),
        )
        outcomes.update(report.counts)

    time = measure.measure(work)
    print(time.cpu, time.wall)
    return 0 if outcomes == {"destroyed": int(sockets)} else 1


if __name__ == "__main__":
    sys.exit(main())
