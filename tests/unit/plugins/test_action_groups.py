# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each module belongs to the action groups of the collection."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

_ROOT = Path(__file__).parents[3]
_GROUPS = yaml.safe_load((_ROOT / "meta" / "runtime.yml").read_text(encoding="utf-8"))[
    "action_groups"
]


@pytest.mark.parametrize("group", ["all", "sockets"])
def test_groups_have_all_modules(group: str) -> None:
    modules = {path.stem for path in (_ROOT / "plugins" / "modules").glob("*.py")} - {"__init__"}
    assert sorted(_GROUPS[group]) == sorted(modules)
