# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role agent refuses before it does anything; what it does is seen on the lab's hosts."""

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
# What is given, and what the message has to say.
REFUSALS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "no policy": ({}, ("agent_policy is missing", "agent_state: absent")),
    "two mistakes": (
        {"agent_policy": {**POLICY, "mod": "report", "limits": {"max_sockets": "many"}}},
        (
            "nothing was sent:\n- policy.mod: ",
            "did you mean mode",
            "\n- policy.limits.max_sockets: ",
        ),
    ),
    "what is protected": (
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
            ("agent_confirm_within", "10 minutes"),
            ("agent_resync", "often"),
            ("agent_resync", "500ms"),
            ("agent_watchdog", 0),
            ("agent_watchdog", "1m\n[Install]"),
        )
    },
}


def test_what_makes_no_sense_is_refused_before_anything_is_sent(
    controller: Controller, tmp_path: Path
) -> None:
    role = {"name": "linuxnet.sockets.agent", "tasks_from": "preflight.yml"}
    tasks = [
        {
            "block": [{"ansible.builtin.include_role": role, "vars": given}],
            "rescue": [{"ansible.builtin.set_fact": {f"said_{at}": "{{ ansible_failed_result }}"}}],
        }
        for at, (given, _words) in enumerate(REFUSALS.values())
    ]
    keep = {
        "ansible.builtin.copy": {
            "content": "{{ said | to_json }}",
            "dest": str(tmp_path / "said.json"),
            "mode": "0600",
        },
        "vars": {"said": [f"{{{{ said_{at} | default({{}}) }}}}" for at in range(len(REFUSALS))]},
    }
    playbook = tmp_path / "play.yml"
    playbook.write_text(
        yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": [*tasks, keep]}])
    )
    controller.run("ansible-playbook", "-i", str(ROOT / "tools" / "inventory.yml"), str(playbook))
    answers = json.loads((tmp_path / "said.json").read_text())
    for (name, (_given, words)), answer in zip(REFUSALS.items(), answers, strict=True):
        told = [answer, *answer.get("results", [])]
        failures = "\n".join(each["msg"] for each in told if each.get("failed"))
        missing = [word for word in words if word not in failures]
        assert missing == [], f"{name}: {answer}"


def test_a_run_that_ended_before_it_wrote_its_unit_leaves_nothing_behind(
    controller: Controller, tmp_path: Path
) -> None:
    """As it is on a host where the policy was refused: directories, and what is protected."""
    etc, library = tmp_path / "etc" / "linuxnet-sockets", tmp_path / "lib" / "linuxnet-sockets"
    (etc / "protect.d").mkdir(parents=True)
    (etc / "protect.d" / "agent-mine.json").write_text("[]")
    (library / "core-1").mkdir(parents=True)
    facts = tmp_path / "ansible" / "facts.d"
    facts.mkdir(parents=True)
    given = {
        "agent_state": "absent",
        "agent_user": "nobody-of-that-name",
        "agent__config_directory": str(etc),
        "agent__library": str(library),
        "agent__command": str(tmp_path / "socket-agent"),
        "agent__state_directory": str(tmp_path / "state"),
        "agent__unit_file": str(tmp_path / "socket-agent.service"),
        "agent__fact_file": str(facts / "linuxnet_sockets.fact"),
    }
    task = {"ansible.builtin.include_role": {"name": "linuxnet.sockets.agent"}, "vars": given}
    playbook = tmp_path / "play.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
    controller.run("ansible-playbook", "-i", str(ROOT / "tools" / "inventory.yml"), str(playbook))
    left = {str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*")}
    # Facts of others are looked for in a directory that is theirs.
    assert left == {"play.yml", "etc", "lib", "ansible", "ansible/facts.d"}
