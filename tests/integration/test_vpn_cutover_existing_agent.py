# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of an existing agent that the playbook vpn_cutover reads and keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.controller import ROOT, Controller

PLAYBOOKS = ROOT / "playbooks"
DEFAULTS = yaml.safe_load((ROOT / "roles" / "agent" / "defaults" / "main.yml").read_text())
UNIT = """\
[Service]
ExecStart=/usr/local/sbin/socket-agent run --resync 20s --metrics /var/lib/linuxnet-sockets/a.prom

Restart=always
WatchdogSec=45s
User=sockets
Group=sockets

[X-Role]
MetricsLink=/var/lib/node exporter/a.prom
"""
SETTINGS = ("install", "metrics_file", "protect", "python", "resync", "user", "watchdog")
SELECTORS = [{"remote_port": "7001", "local": "192.0.2.2/32"}, {"uid": 7}]


@pytest.fixture
def read(controller: Controller, tmp_path: Path) -> Any:
    """Run the tasks on the files of a host and return the kept settings."""

    def run(user_variables: dict[str, Any]) -> dict[str, Any]:
        names = ("policy.json", "memory.json", "unit", "command")
        variables = {
            **user_variables,
            "vpn_cutover_become": False,
            "vpn_cutover__paths": [str(tmp_path / name) for name in names],
            "vpn_cutover__protect_directory": str(tmp_path / "protect.d"),
        }
        copy = {
            "content": "{{ vpn_cutover__agent_settings | to_json }}",
            "dest": str(tmp_path / "kept"),
        }
        play = {
            "hosts": "all",
            "gather_facts": False,
            "vars_files": [str(PLAYBOOKS / "vars" / "vpn_cutover.yml")],
            "tasks": [
                {"ansible.builtin.import_tasks": str(PLAYBOOKS / "tasks" / "vpn_cutover_read.yml")},
                {"ansible.builtin.copy": {**copy, "mode": "0600"}},
            ],
        }
        (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
        inventory = str(ROOT / "tools" / "inventory.yml")
        arguments = ("-i", inventory, "-e", json.dumps(variables), str(tmp_path / "play.yml"))
        controller.run("ansible-playbook", *arguments)
        return json.loads((tmp_path / "kept").read_text())

    return run


def test_existing_agent_settings_kept(read: Any, tmp_path: Path) -> None:
    (tmp_path / "unit").write_text(UNIT)
    (tmp_path / "command").write_text("#!/opt/python/bin/python3 -IB\n#\n")
    protect_files = tmp_path / "protect.d"
    protect_files.mkdir()
    (protect_files / "agent-data-base.json").write_text(json.dumps(SELECTORS))
    (protect_files / "mine.json").write_text("not the role's")
    settings = {
        "install": "packages",
        "metrics_file": "/var/lib/node exporter/a.prom",
        "protect": {"data-base": SELECTORS},
        "python": "/opt/python/bin/python3",
        "resync": "20s",
        "user": "sockets",
        "watchdog": "45s",
    }

    assert read({}) == settings
    user_variables = {"agent_protect": {}, "agent_user": "others", "agent_resync": "1m"}
    assert read(user_variables) == {**settings, "protect": {}, "user": "others", "resync": "1m"}

    (tmp_path / "command").write_text("#!/usr/local/lib/linuxnet-sockets/venv/bin/python3 -IB\n")
    assert read({}) == {**settings, "install": "pip", "python": "/usr/bin/python3"}


def test_role_defaults_without_agent(read: Any) -> None:
    assert read({}) == {name: DEFAULTS[f"agent_{name}"] for name in SETTINGS}
