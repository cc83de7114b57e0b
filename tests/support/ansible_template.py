# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluate template expressions with Ansible, and with the collection from the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def templated(
    expression: str, records: object, **variables: object
) -> subprocess.CompletedProcess[str]:
    """Evaluate a template expression with Ansible and the collection from the checkout.

    The expression can use `records` and the variables.
    """
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")
    }
    return subprocess.run(
        [
            Path(sys.executable).with_name("ansible"),
            "localhost",
            "-m",
            "ansible.builtin.debug",
            "-a",
            json.dumps({"msg": "{{ " + expression + " }}"}),
            "-e",
            json.dumps({"records": records, **variables}),
        ],
        cwd=ROOT,
        env={**inherited, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "true"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
