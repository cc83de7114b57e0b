# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Import plugins of the collection under the names that Ansible gives them."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

# `make setup` links the checkout here, so that Ansible finds it.
_COLLECTIONS = Path(__file__).resolve().parents[2] / ".build" / "collections"


def load_plugin(name: str) -> Any:
    """Import a plugin of the collection by its name in Ansible, such as `modules.socket_drain`."""
    if str(_COLLECTIONS) not in sys.path:
        sys.path.append(str(_COLLECTIONS))
    return import_module(f"ansible_collections.linuxnet.sockets.plugins.{name}")
