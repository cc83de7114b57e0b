# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The kernel's build configuration: its socket diag options and modules.

The configuration is supplementary: replies of the running kernel take precedence
(query/capabilities). Only the configuration distinguishes a module from built-in code.
"""

from __future__ import annotations

import gzip
import re
import zlib
from typing import NamedTuple

# net/ipv4/Kconfig and net/mptcp/Kconfig
OPTIONS = (
    "CONFIG_INET_DIAG",
    "CONFIG_INET_TCP_DIAG",
    "CONFIG_INET_UDP_DIAG",
    "CONFIG_INET_RAW_DIAG",
    "CONFIG_INET_MPTCP_DIAG",
    "CONFIG_INET_DIAG_DESTROY",
)

_LINE = re.compile(r"^(?:(CONFIG_\w+)=([ymn])|# (CONFIG_\w+) is not set)$", re.MULTILINE)
_MAX_BYTES = 4 * 1024 * 1024


class KernelConfig(NamedTuple):
    """The socket diag options of a kernel.

    source: the file that was read; None: no readable configuration. options: y, m or n for each of
    OPTIONS; None: not in the source, or no source.
    """

    source: str | None
    options: dict[str, str | None]


def sources(proc: str, root: str, release: str) -> tuple[str, ...]:
    """The possible paths of a kernel's configuration, the most reliable first."""
    return (
        f"{proc}/config.gz",
        f"{root}/boot/config-{release}",
        f"{root}/lib/modules/{release}/config",
        f"{root}/usr/lib/modules/{release}/config",
    )


def read_config(proc: str, root: str, release: str) -> KernelConfig:
    """Read the configuration from the first readable source."""
    for source in sources(proc, root, release):
        text = _read(source)
        if text is not None and _LINE.search(text):
            return KernelConfig(source, parse(text))
    return KernelConfig(None, dict.fromkeys(OPTIONS))


def parse(text: str) -> dict[str, str | None]:
    """Parse y, m or n for each of OPTIONS; None for an option that the text lacks."""
    found: dict[str, str | None] = dict.fromkeys(OPTIONS)
    for name, value, unset in _LINE.findall(text):
        if name in found:
            found[name] = value
        elif unset in found:
            found[unset] = "n"
    return found


def _read(source: str) -> str | None:
    opener = gzip.open if source.endswith(".gz") else open
    try:
        with opener(source, "rb") as stream:
            return stream.read(_MAX_BYTES).decode("utf-8", "replace")
    except (OSError, EOFError, zlib.error):
        return None


def module_available(root: str, release: str, module: str) -> bool | None:
    """True if this kernel has the module, loadable or built in; None if no list is readable.

    The lists are modules.dep and modules.builtin (depmod(8)).
    """
    pattern = re.compile(rf"^[^\s:]*/{re.escape(module)}\.ko(?:\.\w+)?(?::|$)", re.MULTILINE)
    readable = False
    for name in ("modules.dep", "modules.builtin"):
        for prefix in ("/lib/modules", "/usr/lib/modules"):
            try:
                with open(f"{root}{prefix}/{release}/{name}", encoding="utf-8") as stream:
                    text = stream.read()
            except (OSError, UnicodeDecodeError):
                continue
            readable = True
            if pattern.search(text):
                return True
    return False if readable else None
