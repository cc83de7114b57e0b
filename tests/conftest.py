# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the core importable as linuxnet_sockets, the name of its package in the wheel."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

_CORE = Path(__file__).parent.parent / "plugins" / "module_utils" / "_core"


def _map_core() -> None:
    if "linuxnet_sockets" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        "linuxnet_sockets", _CORE / "__init__.py", submodule_search_locations=[str(_CORE)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["linuxnet_sockets"] = module
    spec.loader.exec_module(module)


_map_core()
# Some users have the umask 0002, and files that the group may write are not trusted.
os.umask(0o022)
