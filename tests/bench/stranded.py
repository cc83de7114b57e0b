# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge every connection of this namespace stranded or not; as a program: in how much memory.

    stranded.py SOCKETS STRANDED

ends with status 1 where it finds others, and prints the megabytes that the process had at most.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

# For what it does: it maps the core to linuxnet_sockets.
import tests.conftest  # noqa: F401  # pylint: disable=unused-import

# isort: split
from linuxnet_sockets.host import host, namespaces
from linuxnet_sockets.query import find
from linuxnet_sockets.selector.parse import parse_selector
from linuxnet_sockets.sockets.session import NamespaceSession
from linuxnet_sockets.verdicts.stranded import STRANDED


def judge(here: host.Host, *, stranded: bool = True) -> int:
    """How many connections are stranded in any way; or how many are so in none, for sure."""
    of_any = {"stranded": list(STRANDED)}
    selector = parse_selector(of_any if stranded else {"not": of_any}, names=here)
    with NamespaceSession(here, namespaces.resolve(["current"])[0]) as session:
        return len(find.find(session, selector))


def main() -> int:
    gc.disable()
    before = _peak()
    here = host.Host()
    found = judge(here), judge(here, stranded=False)
    print(f"{_peak():.0f} MiB at most, {before:.0f} MiB before")
    sockets, stranded = map(int, sys.argv[1:])
    return 0 if found == (stranded, sockets - stranded) else 1


def _peak() -> float:
    """Megabytes. getrusage(2) would also count those of the process that started this one."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the kernel does not tell the peak of the resident memory")


if __name__ == "__main__":
    sys.exit(main())
