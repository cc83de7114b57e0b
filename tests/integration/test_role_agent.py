# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Role agent: rejected variables, and removal. Installation is tested on the hosts of the lab."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
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
            "nothing was sent. policy.mod: ",
            "did you mean mode",
            " policy.limits.max_sockets: ",
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


def run_role(
    controller: Controller, folder: Path, *arguments: str, check: bool = True, **role: Any
) -> str:
    """Run the role, or tasks_from, with `vars` on the controller itself. Returns the output."""
    variables = role.pop("vars")
    task = {
        "ansible.builtin.include_role": {"name": "linuxnet.sockets.agent", **role},
        "vars": variables,
    }
    playbook = folder / "play.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
    inventory = str(ROOT / "tools" / "inventory.yml")
    return controller.run(
        "ansible-playbook", "-i", inventory, str(playbook), *arguments, check=check
    )


def test_pip_needs_the_hash_and_hides_its_arguments(controller: Controller, tmp_path: Path) -> None:
    """A wheel with the right name and other content, and a password in the arguments."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "pyroute2-0.9.7-py3-none-any.whl", "w") as wheel:
        wheel.writestr("pyroute2/__init__.py", "raise SystemExit\n")
    (tmp_path / "lib").mkdir()
    password = "hunter2"
    variables = {
        "agent__library": str(tmp_path / "lib"),
        "agent_install": "pip",
        "agent_python": sys.executable,
        "agent_pip_wheels": str(wheels),
        "agent_pip_arguments": f"--extra-index-url https://user:{password}@127.0.0.1:1/simple",
    }
    output = run_role(
        controller, tmp_path, "-vvv", check=False, tasks_from="pip.yml", vars=variables
    )
    assert "pip could not install pyroute2==0.9.7" in output
    assert "DO NOT MATCH THE HASHES" in " ".join(output.split())
    assert password not in output


@pytest.mark.parametrize("target", ["ours", "other", "file"])
def test_only_our_metrics_link_is_removed(
    controller: Controller, tmp_path: Path, target: str
) -> None:
    metrics, link = tmp_path / "metrics.prom", tmp_path / "agent.prom"
    if target == "file":
        link.write_text("other 1\n")
    else:
        link.symlink_to(metrics if target == "ours" else tmp_path / "other.prom")
    variables = {"agent__metrics": str(metrics), "agent__metrics_link": str(link)}
    run_role(controller, tmp_path, tasks_from="metrics_absent.yml", vars=variables)
    assert os.path.lexists(link) == (target != "ours")


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
    run_role(controller, tmp_path, vars=variables)
    remaining = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    # The directory facts.d is shared with other software.
    assert remaining == {"play.yml", "etc", "lib", "ansible", "ansible/facts.d"}


def test_absent_removes_the_directories_that_the_role_created(
    controller: Controller, tmp_path: Path
) -> None:
    """Seven levels instead of two, so that a random order cannot pass by chance."""
    library = tmp_path / "lib"
    library.mkdir()
    inner = tmp_path / "1/2/3/4/5/6/7"
    inner.mkdir(parents=True)
    directories = [str(path) for path in (inner, *list(inner.parents)[:6])]
    (library / "created-directories").write_text("\n".join(reversed(directories)))
    variables = {
        "agent_state": "absent",
        "agent_user": "nobody-of-that-name",
        "agent__config_directory": str(tmp_path / "etc"),
        "agent__library": str(library),
        "agent__command": str(tmp_path / "socket-agent"),
        "agent__socketctl": str(tmp_path / "socketctl"),
        "agent__state_directory": str(tmp_path / "state"),
        "agent__unit_file": str(tmp_path / "socket-agent.service"),
        "agent__fact_file": str(inner / "linuxnet_sockets.fact"),
        "agent__fact_directories": directories,
    }
    run_role(controller, tmp_path, vars=variables)
    assert {path.name for path in tmp_path.iterdir()} == {"play.yml"}
