# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Role agent: rejected variables, and removal. Installation is tested on the hosts of the lab."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.integration.controller import ROOT, Controller

POLICY = {
    "version": 1,
    "limits": {"max_sockets": 1},
    "rules": [{"name": "one", "match": {"remote": "192.0.2.1"}}],
}
# Variables, and substrings of the message.
INVALID: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "no policy": ({}, ("agent_policy is missing. ", "agent_state: absent")),
    "a policy of another type": (
        {"agent_policy": ["one"]},
        ("agent_policy is not a mapping. ", "agent_state: absent"),
    ),
    "bad name in agent_protect": (
        {"agent_policy": POLICY, "agent_protect": {"a/b": {"remote": "192.0.2.9"}}},
        ("agent_protect: 'a/b': not a valid name.",),
    ),
    "no python": (
        {"agent_policy": POLICY, "agent_python": "/no/such/python"},
        ("agent_python: '/no/such/python': it cannot be run: ", "needs Python 3.9 or newer."),
    ),
    "an old python": (
        {"agent_policy": POLICY, "agent_python": "{{ old_python }}"},
        ("Python 3.6, which is too old. The agent needs Python 3.9 or newer.",),
    ),
    "two mistakes": (
        {"agent_policy": {**POLICY, "mod": "report", "limits": {"max_sockets": "many"}}},
        (
            "nothing was sent:\n- policy.mod: ",
            "did you mean mode",
            "\n- policy.limits.max_sockets: ",
        ),
    ),
    **(
        {}
        if Path("/run/systemd/system").exists()
        else {
            "no systemd": (
                {"agent_policy": POLICY},
                ("the agent needs systemd as init, but this host has ",),
            )
        }
    ),
    "invalid selector in agent_protect": (
        {"agent_policy": POLICY, "agent_protect": {"mine": {"remot": "192.0.2.9"}}},
        ("agent_protect", "remot: ", "did you mean remote"),
    ),
    **{
        f"{option}: {value}": (
            {"agent_policy": POLICY, option: value},
            (f"{option}: '{value}'", "10m"),
        )
        for option, value in (
            ("agent_confirm_within", "soon"),
            ("agent_confirm_within", "10 minuten"),
            ("agent_resync", "often"),
            ("agent_resync", "500ms"),
            ("agent_watchdog", 0),
            ("agent_watchdog", "1m\n[Install]"),
        )
    },
}


def test_invalid_variables_rejected_before_transfer(controller: Controller, tmp_path: Path) -> None:
    old_python = tmp_path / "old-python"
    old_python.write_text("#!/bin/sh\necho 3.6\n")
    old_python.chmod(0o755)
    role = {"name": "linuxnet.sockets.agent", "tasks_from": "preflight.yml"}
    tasks = [
        {
            "block": [{"ansible.builtin.include_role": role, "vars": variables}],
            "rescue": [
                {"ansible.builtin.set_fact": {f"failure_{number}": "{{ ansible_failed_result }}"}}
            ],
        }
        for number, (variables, _words) in enumerate(INVALID.values())
    ]
    save = {
        "ansible.builtin.copy": {
            "content": "{{ failures | to_json }}",
            "dest": str(tmp_path / "failures.json"),
            "mode": "0600",
        },
        "vars": {
            "failures": [f"{{{{ failure_{n} | default({{}}) }}}}" for n in range(len(INVALID))]
        },
    }
    playbook = tmp_path / "play.yml"
    playbook.write_text(
        yaml.safe_dump(
            [
                {
                    "hosts": "all",
                    "gather_facts": False,
                    "vars": {"old_python": str(old_python)},
                    "tasks": [*tasks, save],
                }
            ]
        )
    )
    controller.run("ansible-playbook", "-i", str(ROOT / "tools" / "inventory.yml"), str(playbook))
    results = json.loads((tmp_path / "failures.json").read_text())
    for (name, (_variables, words)), result in zip(INVALID.items(), results, strict=True):
        items = [result, *result.get("results", [])]
        messages = "\n".join(item["msg"] for item in items if item.get("failed"))
        missing = [word for word in words if word not in messages]
        assert missing == [], f"{name}: {result}"
        if "agent_python" not in INVALID[name][0]:
            assert "Python" not in messages


def test_absent_after_incomplete_installation(controller: Controller, tmp_path: Path) -> None:
    """State of a host on which the policy was rejected: directories and protect files, no unit."""
    etc, library = tmp_path / "etc" / "linuxnet-sockets", tmp_path / "lib" / "linuxnet-sockets"
    (etc / "protect.d").mkdir(parents=True)
    (etc / "protect.d" / "agent-mine.json").write_text("[]")
    (library / "core-1").mkdir(parents=True)
    facts = tmp_path / "ansible" / "facts.d"
    facts.mkdir(parents=True)
    variables = {
        "agent_state": "absent",
        "agent_user": "nobody-of-that-name",
        "agent__config_directory": str(etc),
        "agent__library": str(library),
        "agent__command": str(tmp_path / "socket-agent"),
        "agent__socketctl": str(tmp_path / "socketctl"),
        "agent__state_directory": str(tmp_path / "state"),
        "agent__unit_file": str(tmp_path / "socket-agent.service"),
        "agent__fact_file": str(facts / "linuxnet_sockets.fact"),
    }
    task = {"ansible.builtin.include_role": {"name": "linuxnet.sockets.agent"}, "vars": variables}
    playbook = tmp_path / "play.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
    controller.run("ansible-playbook", "-i", str(ROOT / "tools" / "inventory.yml"), str(playbook))
    remaining = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    # The directory facts.d is shared with other software.
    assert remaining == {"play.yml", "etc", "lib", "ansible", "ansible/facts.d"}
