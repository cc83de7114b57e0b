# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the JSON Schema of the policy to docs/docsite/policy.schema.json, for the manual."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "docs" / "docsite" / "policy.schema.json"


def text() -> str:
    sys.path.insert(0, str(ROOT))
    import tests.conftest  # noqa: F401  # pylint: disable=unused-import
    from linuxnet_sockets.policy.schema.policy import SCHEMA

    return json.dumps(SCHEMA, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
