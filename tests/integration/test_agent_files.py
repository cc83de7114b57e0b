# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Salt state agent_running installs the same files as the role agent."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.support.ansible_template import ROOT, templated

ROLE = ROOT / "roles" / "agent"
SALT = ROOT / "src" / "saltext" / "linuxnet_sockets"
CORE = ROOT / "plugins" / "module_utils" / "_core"
MANAGED = "Ansible managed"
POLICY = {
    "version": 1,
    "limits": {"max_sockets": 1, "per": "1m"},
    "rules": [{"name": "one", "match": {"remote": "192.0.2.1"}}],
}
# Policies that differ in what the agent needs: reads_owners, namespaces and engine.
NEEDS: list[tuple[bool, list[str], str]] = [
    (False, ["current"], "netlink"),
    (False, ["current"], "auto"),
    (True, ["current"], "netlink"),
    (True, ["current"], "pidfd"),
    (True, ["current"], "bpf"),
    (False, ["current", "blue"], "netlink"),
    (False, ["all"], "netlink"),
    (False, ["pid:1"], "auto"),
    (True, ["current", "blue"], "netlink"),
]
UNITS = [
    {
        "owners": owners,
        "namespaces": namespaces,
        "engine": engine,
        "systemd": systemd,
        "metrics": metrics,
    }
    for owners, namespaces, engine in NEEDS
    for systemd in (247, 253)
    for metrics in ("", "/var/lib/node-exporter/agent.prom")
]


@pytest.fixture(scope="module")
def files() -> ModuleType:
    """agent_files.py of the Salt extension, which imports nothing of Salt."""
    spec = importlib.util.spec_from_file_location("agent_files", SALT / "agent_files.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def of_role() -> dict[str, Any]:
    """What Ansible makes of the role's variables and templates, in one run."""
    unit = (
        "lookup('ansible.builtin.template', records.role ~ '/templates/socket-agent.service.j2',"
        " template_vars=dict(agent__reads_owners=item.owners,"
        " agent__policy_check=dict(reads_owners=item.owners, namespaces=item.namespaces),"
        " agent__engine=item.engine,"
        " agent__foreign_namespaces=item.namespaces | reject('eq', 'current') | list,"
        " agent__command='/usr/local/sbin/socket-agent',"
        " agent__metrics='/run/linuxnet-sockets/metrics.prom',"
        " agent_metrics_file=item.metrics, agent_resync='30s', agent_watchdog='60s',"
        " agent_user='linuxnet-sockets',"
        " ansible_facts=dict(systemd=dict(version=item.systemd))))"
    )
    units = ", ".join(
        unit.replace("item.", f"records.units[{number}].") for number in range(len(UNITS))
    )
    launcher = (
        "lookup('ansible.builtin.template', records.role ~ '/templates/launcher.j2',"
        " template_vars=dict(agent__module='linuxnet_sockets.cli', agent__program='/program'))"
    )
    expression = f"""({{
        'units': [{units}],
        'launcher': {launcher},
        'digest': (agent__bundle | hash('sha256'))[:16],
        'policy': records.policy | to_nice_json ~ '\n',
        'paths': [agent__library, agent__command, agent__policy_file, agent__protect_directory,
                  agent__state_directory, agent__runtime_directory, agent__unit_file,
                  agent__metrics, agent__user_comment],
    }}) | to_json"""
    variables = yaml.safe_load((ROLE / "vars" / "main.yml").read_text(encoding="utf-8"))
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text(encoding="utf-8"))
    records = {"role": str(ROLE), "units": UNITS, "policy": POLICY}
    done = templated(expression, records, **defaults, **variables, role_path=str(ROLE))
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(yaml.safe_load(done.stdout.partition("=>")[2])["msg"])
    return found


def test_the_unit_is_the_same(files: ModuleType, of_role: dict[str, Any]) -> None:
    for number, needs in enumerate(UNITS):
        settings = files.Settings(
            user="linuxnet-sockets",
            resync="30s",
            watchdog="60s",
            metrics_file=needs["metrics"],
            reads_owners=needs["owners"],
            namespaces=needs["namespaces"],
            engine=needs["engine"],
            systemd=needs["systemd"],
        )
        assert files.unit(settings, managed=MANAGED) == of_role["units"][number], needs


SYSTEMD_ANALYZE = shutil.which("systemd-analyze")


def _allowed_calls(unit: str) -> set[str]:
    """The system calls that the filter of a unit allows (systemd.exec(5))."""
    listing = subprocess.run(
        [str(SYSTEMD_ANALYZE), "syscall-filter", "--no-pager"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    groups: dict[str, list[str]] = {}
    for line in listing.splitlines():
        if line.startswith("@"):
            members = groups[line.strip()] = []
        elif line.startswith("    ") and not line.strip().startswith("#"):
            members.append(line.strip())

    def calls(word: str) -> set[str]:
        if not word.startswith("@"):
            return {word}
        return set().union(*map(calls, groups[word]))

    allowed: set[str] = set()
    for line in unit.splitlines():
        name, _equals, value = line.partition("=")
        if name == "SystemCallFilter":
            named = set().union(*map(calls, value.removeprefix("~").split()))
            allowed = allowed - named if value.startswith("~") else allowed | named
    return allowed


@pytest.mark.skipif(SYSTEMD_ANALYZE is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("engine", ["netlink", "auto", "bpf", "pidfd"])
def test_engine_has_the_rights_that_it_needs(files: ModuleType, engine: str) -> None:
    unit = files.unit(
        files.Settings(
            user="linuxnet-sockets",
            resync="30s",
            watchdog="60s",
            metrics_file="",
            reads_owners=False,
            namespaces=["current"],
            engine=engine,
            systemd=252,
        )
    )
    allowed = _allowed_calls(unit)
    assert {"connect", "getsockopt", "getsockname"} <= allowed
    assert "ptrace" not in allowed
    borrows = engine in ("auto", "pidfd")
    assert ("pidfd_getfd" in allowed) == borrows
    # Some releases of systemd have it in @system-service.
    assert not borrows or "pidfd_open" in allowed
    assert ("CAP_SYS_PTRACE" in unit) == borrows
    loads = engine in ("auto", "bpf")
    assert ("bpf" in allowed) == loads
    assert ("CAP_BPF CAP_PERFMON" in unit) == loads


def test_the_command_is_the_same(files: ModuleType, of_role: dict[str, Any]) -> None:
    text = files.launcher("linuxnet_sockets.cli", "/program", "/usr/bin/python3", managed=MANAGED)

    assert text == of_role["launcher"]


def test_the_program_is_in_the_same_directory(files: ModuleType, of_role: dict[str, Any]) -> None:
    assert files.digest(files.core_files(CORE)) == of_role["digest"]


def test_the_policy_file_is_the_same(files: ModuleType, of_role: dict[str, Any]) -> None:
    assert files.json_text(POLICY) == of_role["policy"]


def test_the_paths_are_the_same(files: ModuleType, of_role: dict[str, Any]) -> None:
    assert of_role["paths"] == [
        files.LIBRARY,
        files.AGENT,
        files.POLICY_FILE,
        files.PROTECT_DIRECTORY,
        files.STATE_DIRECTORY,
        files.RUNTIME_DIRECTORY,
        files.UNIT_FILE,
        files.METRICS,
        files.USER_COMMENT,
    ]


def test_only_a_link_to_the_metrics_is_ours(files: ModuleType, tmp_path: Path) -> None:
    """The state replaces and removes no other file."""
    regular, other, ours = tmp_path / "regular", tmp_path / "other", tmp_path / "ours"
    regular.write_text("other 1\n")
    other.symlink_to(regular)
    ours.symlink_to(files.METRICS)
    found = [files.is_metrics_link(str(path)) for path in (regular, other, ours, tmp_path / "no")]
    assert found == [False, False, True, False]
    assert not files.is_metrics_link("")


def test_the_program_is_installed_at_once(files: ModuleType, tmp_path: Path) -> None:
    core = files.core_files(CORE)
    target = tmp_path / f"core-{files.digest(core)}"

    files.install(core, str(target))
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=target, check=False
    )

    assert done.returncode == 0
    assert files.is_installed(core, str(target))
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_a_changed_program_is_installed_again(files: ModuleType, tmp_path: Path) -> None:
    core = files.core_files(CORE)
    target = tmp_path / "core-1"
    files.install(core, str(target))
    (target / "linuxnet_sockets" / "values.py").write_text("")

    assert not files.is_installed(core, str(target))
    files.install(core, str(target))
    assert files.is_installed(core, str(target))


def test_replaced_programs_are_obsolete(files: ModuleType, tmp_path: Path) -> None:
    for name in ("core-1", "core-2", ".core-3", "venv"):
        (tmp_path / name).mkdir()

    assert files.obsolete(str(tmp_path / "core-2")) == [
        str(tmp_path / ".core-3"),
        str(tmp_path / "core-1"),
    ]
