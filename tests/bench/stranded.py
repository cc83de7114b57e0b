# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluate the verdict `stranded` for every connection of this namespace.

    stranded.py SOCKETS STRANDED

Prints the peak memory of the process. Exits with status 1 if it finds other numbers of sockets.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

# Imported for its side effect: it maps the core to linuxnet_sockets.
import tests.conftest  # noqa: F401  # pylint: disable=unused-import

# isort: split
from linuxnet_sockets.host import host, namespaces
from linuxnet_sockets.query import find
from linuxnet_sockets.selector.parse import parse_selector
from linuxnet_sockets.sockets.session import NamespaceSession
from linuxnet_sockets.verdicts.stranded import STRANDED


def count(local_host: host.Host, *, stranded: bool = True) -> int:
    """Number of connections with any `stranded` verdict, or with certainly none."""
    any_verdict = {"stranded": list(STRANDED)}
    selector = parse_selector(any_verdict if stranded else {"not": any_verdict}, names=local_host)
    with NamespaceSession(local_host, namespaces.resolve(["current"])[0]) as session:
        return len(find.find(session, selector))


def main() -> int:
    gc.disable()
    before = _peak()
    local_host = host.Host()
    found = count(local_host), count(local_host, stranded=False)
    print(f"peak {_peak():.0f} MiB, before {before:.0f} MiB")
    sockets, stranded = map(int, sys.argv[1:])
    return 0 if found == (stranded, sockets - stranded) else 1


def _peak() -> float:
    """Peak resident memory in MiB. getrusage(2) would include the memory before exec(2)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status has no VmHWM")


if __name__ == "__main__":
    sys.exit(main())
