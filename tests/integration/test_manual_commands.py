# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands and examples of the README files and the manual, run literally.

Each block runs here, or a table says which other test runs it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from linuxnet_sockets import api
from tests.integration.manual_host import ManualHost, missing_programs
from tests.support.documents import Block, blocks
from tests.support.topologies.topology import Lab

BLOCKS = blocks()
CONSOLE = [block for block in BLOCKS if block.language == "console"]
YAML = [block for block in BLOCKS if block.language in ("yaml", "yaml+jinja")]
RST = "docs/docsite/rst/"

# Commands that run elsewhere, by a pattern of the command: who runs them.
ELSEWHERE = {
    r"make (demo|test|build|molecule)\b|sudo make molecule": "CI, and tests/integration/test_demo",
    r"\. \.venv/bin/activate": "a shell of the reader",
    r"(salt|salt-run|salt-ssh|salt-pip)\b": "tests/salt",
    r"systemctl restart salt-minion": "needs systemd",
    r"pip install ('linuxnet-sockets\[salt\]'|\.build/)": "tests/salt, test_wheel_alone",
    r"pip download": "needs a package index; the scenario agent of molecule",
    r"ansible-galaxy collection install": "test_installed_tarball",
    r"(sudo )?(tools/(molecule|lab)|/run/linuxnet-sockets-lab)": "the scenarios of molecule",
    r"sudo \.venv/bin/ansible ": "needs the hosts of the lab",
    r"git ls-files|python -m pytest": "development",
    r"cd plugins/module_utils|find \. -name '\*\.py'": "tests/unit/kernel_matrix",
    r"grep INET_DIAG_DESTROY /boot": "needs the kernel's package",
    r"modprobe": "changes the machine",
}
# Playbooks and roles that need systemd or a load balancer on the hosts: only their syntax is
# checked here. The scenarios of molecule run them.
SYNTAX_ONLY = {
    "roles/agent/README.md",
    "roles/kernel_support/README.md",
    f"{RST}agent.rst",
}
# Tasks that need a load balancer: tests/integration/test_drain_haproxy.py runs them.
NEEDS_BALANCER = "groups.balancers"
# Arguments that a command gets in addition, and why.
ADDED = {
    # Deploys the agent, which needs systemd. The scenario vpn_cutover of molecule runs it.
    "vpn_cutover -i inventory.yml -e @vpn.yml": "--check",
    "vpn_cutover_stage=rollback": "--check",
}
# Commands that run until they are interrupted: what they print when a policy is loaded.
ENDLESS = {
    "socket-agent events": '"event":"policy"',
    "socket-agent events --pretty": "policy",
}
# Commands that ask on the terminal before they change anything.
ASKS = re.compile(r"(sudo )?socketctl (destroy|drain|policy enforce)(?!.*--(yes|dry-run))")
# Commands that need systemd on the hosts. Without it they end with this message.
NEEDS_SYSTEMD = "linuxnet.sockets.vpn_cutover"
HAS_SYSTEMD = Path("/run/systemd/system").is_dir()


class Kind(NamedTuple):
    """What a YAML block is, and its documents."""

    name: str
    documents: list[Any]


def kind_of(block: Block) -> Kind:
    if re.search(r"^\S*\w+\.sls|^\S[\w-]*:\n +sockets\.|^beacons:|^reactor:|^linuxnet_sockets:",
                 block.text, re.MULTILINE):  # fmt: skip
        return Kind("salt", [])
    documents = [yaml.safe_load(part) for part in _parts(block.text)]
    first = documents[0]
    if isinstance(first, list) and all("alert" in each for each in first):
        return Kind("alerts", documents)
    if isinstance(first, list):
        return Kind("playbook" if all("hosts" in each for each in first) else "tasks", documents)
    for key, name in (
        ("rules", "policy"),
        ("match", "selectors"),
        ("while", "part"),
        ("limits", "part"),
    ):
        if key in first:
            return Kind(name, documents)
    for key, name in (("stuck", "selector"), ("protect", "options")):
        if key in first:
            return Kind(name, documents)
    if all(re.match(r"(drain|vpn_cutover|agent|stuck_report)_", key) for key in first):
        return Kind("variables", documents)
    if all(isinstance(group, dict) and "hosts" in group for group in first.values()):
        return Kind("inventory", documents)
    return Kind("unknown", documents)


def _parts(text: str) -> list[str]:
    """The documents of a block. Several selectors in one block are separated by empty lines."""
    if len(re.findall(r"^match:", text, re.MULTILINE)) > 1:
        return text.split("\n\n")
    return [text]


def of_kind(name: str) -> list[tuple[Block, Any]]:
    return [
        (block, document)
        for block in YAML
        for kind in [kind_of(block)]
        if kind.name == name
        for document in kind.documents
    ]


def variables_file(block: Block) -> str | None:
    """The name in the first line of a block of variables: `# drain.yml`."""
    match = re.match(r"# (\S+\.yml)\n", block.text)
    return match[1] if match else None


POLICY = next(document for block, document in of_kind("policy") if block.page == f"{RST}policy.rst")


@pytest.fixture(scope="module")
def host(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ManualHost]:
    missing = missing_programs()
    if missing:
        pytest.skip(f"these programs are missing: {', '.join(missing)}")
    host = ManualHost(lab, tmp_path_factory.mktemp("manual"))
    try:
        _prepare(host)
        yield host
    finally:
        host.close()


def _prepare(host: ManualHost) -> None:
    """Provide what the manual assumes: users, the reader's files, connections."""
    server = host.pair.server.socket()
    server.bind(("", 5432))
    server.listen()
    for _each in range(3):
        host.pair.client.socket().connect((str(host.pair.server4), 5432))
    host.write_inventory()
    host.start_agent(POLICY)
    host.shell_ok("useradd bob")
    for name in ("policy.yml", "vpn-policy.yml"):
        host.write(name, POLICY)
    for block, document in of_kind("variables"):
        name = variables_file(block)
        if name is not None:
            host.write(name, document)
    hello = [{"name": "Show a message", "ansible.builtin.debug": {"msg": "done"}}]
    for name in ("leave_balancer", "upgrade", "join_balancer"):
        host.write(f"drain/{name}.yml", hello)
    first = next(b for b, _d in of_kind("playbook") if b.page == f"{RST}guide_start.rst")
    host.write("find.yml", first.text)
    host.shell_ok(
        "ansible-playbook linuxnet.sockets.stuck_report -i inventory.yml -e stuck_report_hosts=web"
        " -e stuck_report_dest=./monday.html"
    )
    host.shell_ok("echo '{\"selectors\": []}' >/etc/linuxnet-sockets/protect.d/FILE.json")


def test_blocks_were_read() -> None:
    assert len(CONSOLE) > 50
    assert len(YAML) > 40
    assert {block.page for block in BLOCKS} >= {"README.md", f"{RST}socketctl.rst"}


def test_each_kind_of_yaml_is_known() -> None:
    assert [block.place for block in YAML if kind_of(block).name == "unknown"] == []


def test_tables_have_no_unused_entries() -> None:
    commands = [command for block in CONSOLE for command in block.commands]
    for pattern in ELSEWHERE:
        assert any(re.match(pattern, command) for command in commands), pattern
    for part in (*ADDED, *ENDLESS):
        assert any(part in command for command in commands), part


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.language == "json"], ids=lambda each: each.place
)
def test_json_is_valid(block: Block) -> None:
    json.loads(block.text)


def test_policies_are_valid() -> None:
    for block, document in of_kind("policy"):
        assert not api.check_policy(document, resolve_names=False).errors, block.place


def test_inventories_are_valid(host: ManualHost) -> None:
    for number, (block, _document) in enumerate(of_kind("inventory")):
        host.write(f"inventory-{number}.yml", block.text)
        listed = host.shell_ok(f"ansible-inventory -i inventory-{number}.yml --list")
        assert json.loads(listed)["_meta"]["hostvars"], block.place


def test_parts_of_policies_are_valid() -> None:
    parts = of_kind("part")
    assert len(parts) > 1
    for block, document in parts:
        rule = {"name": "a", "match": {"remote_port": 1}}
        if "while" in document:
            rule.update(document)
        policy = {**POLICY, **document, "rules": [rule]}
        policy.pop("while", None)
        assert not api.check_policy(policy).errors, block.place


def test_selectors_are_valid(host: ManualHost) -> None:
    selectors = [document["match"] for _block, document in of_kind("selectors")]
    selectors += [document for _block, document in of_kind("selector")]
    selectors += [each for _b, document in of_kind("options")
                  for each in document["protect"]["selectors"]]  # fmt: skip
    assert len(selectors) > 8
    script = (
        "import json, sys\n"
        "from linuxnet_sockets import api\n"
        "for selector in json.load(sys.stdin):\n"
        "    print(api.find(selector).matched)\n"
    )
    host.write("selectors.json", json.dumps(selectors))
    output = host.shell_ok(f"python3 -c '{script}' <selectors.json")
    assert len(output.split()) == len(selectors)


PAGES = sorted({block.page for name in ("playbook", "tasks") for block, _d in of_kind(name)})


@pytest.mark.parametrize("page", PAGES)
def test_playbooks_and_tasks_run(host: ManualHost, page: str) -> None:
    plays: list[Any] = []
    for block in YAML:
        kind = kind_of(block)
        if block.page != page or kind.name not in ("playbook", "tasks"):
            continue
        if variables_file(block) is not None or NEEDS_BALANCER in block.text:
            continue
        (document,) = kind.documents
        if kind.name == "playbook":
            plays += document
        else:
            plays.append({"name": block.place, "hosts": "web1", "become": True, "tasks": document})
    if not plays:
        pytest.skip("its tasks run in the playbook drain")
    host.write("page.yml", plays)
    syntax = "--syntax-check" if page in SYNTAX_ONLY else ""
    done = host.shell(f"ansible-playbook page.yml {syntax}")
    assert done.returncode == 0, done.stdout
    if not syntax:
        assert "failed=0" in done.stdout, done.stdout
        assert "unreachable=0" in done.stdout


@pytest.mark.parametrize("block", CONSOLE, ids=lambda each: each.place)
def test_commands_run(host: ManualHost, block: Block) -> None:
    here = [each for each in block.commands if not _runs_elsewhere(each)]
    if not here:
        pytest.skip("another test runs them")
    # Another block may have paused the agent.
    host.shell("socket-agent resume")
    for command in here:
        expected = ENDLESS.get(command.removeprefix("sudo "))
        if expected is not None:
            assert expected in host.events(command.removeprefix("sudo "), expected)
            continue
        if ASKS.match(command):
            done = host.answer(command, "y")
        else:
            done = host.shell(" ".join([command, *_added(command)]))
        if NEEDS_SYSTEMD in command and not HAS_SYSTEMD and "rollback" not in command:
            assert "the agent needs systemd as init" in done.stdout
            continue
        assert done.returncode == 0, f"{command}\n{done.stdout}"


def _runs_elsewhere(command: str) -> bool:
    return any(re.match(pattern, command) for pattern in ELSEWHERE)


def _added(command: str) -> list[str]:
    return [arguments for part, arguments in ADDED.items() if part in command]
