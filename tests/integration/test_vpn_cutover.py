# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbook linuxnet.sockets.vpn_cutover: preview and rejected input, on hosts that are namespaces.

The hosts have no init system, so the cutover itself is tested by the molecule scenario vpn_cutover.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.integration.conftest import StartProcess
from tests.integration.controller import ROOT, run_playbook
from tests.support.topologies.networks import Uplinks, ip, tun
from tests.support.topologies.topology import Lab

PORT, PROTECTED_PORT = 8443, 8444
MARK = 51820
PLAYBOOKS = ROOT / "playbooks"
# First task on the hosts, and first task that changes them.
FIRST_QUERY = yaml.safe_load((PLAYBOOKS / "tasks" / "vpn_cutover_check.yml").read_text())[0]["name"]
FIRST_CHANGE = yaml.safe_load((PLAYBOOKS / "vpn_cutover.yml").read_text())[1]["tasks"][1]["name"]
# The agent requires systemd, which these hosts may lack.
HAS_SYSTEMD = Path("/run/systemd/system").is_dir()

Connections = list[dict[str, Any]]


class Host:
    """A host with connections from before the VPN was up, and some through the VPN."""

    def __init__(self, lab: Lab, start_process: StartProcess, *, tunnel: str) -> None:
        """tunnel: up, down or none."""
        self.uplinks = Uplinks(lab)
        far = start_process(self.uplinks.far)
        for port in (PORT, PROTECTED_PORT):
            far.listen("::", port, mapped=True)
        far.listen("::", PORT, kind="udp", mapped=True)
        self.process = start_process(self.uplinks.host)
        self.process.listen("::", PORT, mapped=True)
        self.bypassing = [
            *self.process.connect(Uplinks.service4, PORT, 3),
            *self.process.connect(Uplinks.service6, PORT, 2),
            *self.process.connect(f"::ffff:{Uplinks.service4}", PORT),
            *self.process.connect(Uplinks.service4, PORT, kind="udp"),
        ]
        self.protected = self.process.connect(Uplinks.service4, PROTECTED_PORT)
        # The LAN, the host itself, and the VPN's transport.
        self.allowed = [
            *self.process.connect(Uplinks.eth4_gateway, PORT),
            *self.process.connect(Uplinks.eth6_gateway, PORT),
            *self.process.connect("127.0.0.1", PORT),
            *self.process.connect(Uplinks.service4, PORT, kind="udp", mark=MARK),
        ]
        self.tunnel = tun(self.uplinks.host, "tun0") if tunnel != "none" else None
        if tunnel == "up":
            self._route()
            self.through = self.process.connect(
                Uplinks.service4, PORT, kind="udp", source=("10.9.0.1", 0)
            )
        if tunnel == "down":
            ip(self.uplinks.host, "link set tun0 down")

    def _route(self) -> None:
        """Set up addresses, routes and rules as wg-quick(8) does."""
        ip(
            self.uplinks.host,
            "addr add 10.9.0.1/32 dev tun0",
            "addr add fd00:9::1/128 dev tun0 nodad",
            f"route add default dev tun0 table {MARK}",
            f"-6 route add default dev tun0 table {MARK}",
            *(
                f"{family} rule add {rule}"
                for family in ("-4", "-6")
                for rule in (
                    f"not fwmark {MARK} table {MARK}",
                    "table main suppress_prefixlength 0",
                )
            ),
        )

    def all_alive(self) -> bool:
        numbers = [
            connection["number"] for connection in (*self.bypassing, *self.protected, *self.allowed)
        ]
        return set(self.process.state(*numbers)) == {"open"}


class Run(NamedTuple):
    status: int
    output: str

    def lines(self) -> list[str]:
        """Lines of the preview, found by the header of its table."""
        found = re.search(r"=> \n(    msg:\n    - host .+?)\n\n", self.output, re.DOTALL)
        assert found, self.output
        return list(yaml.safe_load(found.group(1))["msg"])

    def row(self, host: str) -> list[str]:
        (found,) = [line for line in self.lines() if re.match(rf"{host}  ", line)]
        return re.split(r" {2,}", found)

    def blocked(self, host: str) -> list[str]:
        """The reasons that prevent a cutover, except a missing systemd on the test machine."""
        prefix = f"{host}: BLOCKED: "
        reasons = [line[len(prefix) :] for line in self.lines() if line.startswith(prefix)]
        others = [line for line in reasons if "the agent needs systemd" not in line]
        assert len(reasons) - len(others) == (0 if HAS_SYSTEMD else 1), self.output
        return others


Play = Callable[..., Run]


@pytest.fixture(scope="module")
def hosts(lab: Lab, start_process: StartProcess) -> Iterator[dict[str, Host]]:
    found = {
        "one": Host(lab, start_process, tunnel="up"),
        "two": Host(lab, start_process, tunnel="up"),
        "low": Host(lab, start_process, tunnel="down"),
        "bare": Host(lab, start_process, tunnel="none"),
    }
    found["two"].uplinks.host.sysctl("ipv4/ip_forward", 1)
    yield found
    for host in found.values():
        if host.tunnel is not None:
            host.tunnel.close()


@pytest.fixture(scope="module")
def play(hosts: dict[str, Host], tmp_path_factory: pytest.TempPathFactory) -> Play:
    folder = tmp_path_factory.mktemp("site")
    members: dict[str, dict[str, str]] = {}
    for name, host in hosts.items():
        wrapper = folder / f"python-{name}"
        command = " ".join(host.uplinks.host.command(sys.executable))
        wrapper.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        wrapper.chmod(0o755)
        members[name] = {"ansible_python_interpreter": str(wrapper)}
    members["gone"] = {
        "ansible_connection": "ssh",
        "ansible_host": "127.0.0.1",
        "ansible_port": "1",
    }
    shared = {
        "ansible_connection": "local",
        "ansible_remote_tmp": str(folder / "remote"),
        "agent_python": sys.executable,
        "vpn_cutover_become": False,
        "vpn_cutover_interface": "tun0",
    }
    defaults = {
        "vpn_cutover_hold": "200ms",
        "vpn_cutover_protect": {"selectors": [{"remote_port": PROTECTED_PORT}]},
    }
    inventory = folder / "inventory.yml"
    inventory.write_text(yaml.safe_dump({"all": {"hosts": members, "vars": shared}}))

    def run(variables: dict[str, Any], *arguments: str, with_defaults: bool = True) -> Run:
        custom = variables.keys() & {"vpn_cutover_src", "vpn_cutover_policy"}
        chosen = {**defaults, **variables} if with_defaults and not custom else variables
        done = run_playbook(
            "vpn_cutover", inventory, chosen, *arguments, variables={"ANSIBLE_FORKS": "4"}
        )
        assert f"TASK [{FIRST_CHANGE}]" not in done.stdout
        assert all(host.all_alive() for host in hosts.values())
        return Run(done.returncode, done.stdout)

    return run


def test_preview(hosts: dict[str, Host], play: Play) -> None:
    run = play({"vpn_cutover_hosts": "one,two", "vpn_cutover_stage": "preview"})

    assert run.status == (0 if HAS_SYSTEMD else 2), run.output
    for host in ("one", "two"):
        # Interface, connections through the VPN, to destroy, protected, reported.
        assert run.row(host) == [host, "up", "1", "7", "1", "0"]
        assert run.blocked(host) == []
        for made in (*hosts[host].bypassing, *hosts[host].protected):
            assert f":{made['port']} " in run.output
    assert run.row("total") == ["total", "2", "14", "2", "0"]
    (forwarding,) = [line for line in run.lines() if "forward packets" in line]
    assert forwarding.startswith("- two forward")
    assert run.lines()[-1] == "Preview only: no host was changed."


def test_minimal_call(play: Play) -> None:
    """Only the required variables: nothing is protected for the VPN or by the user."""
    run = play({"vpn_cutover_hosts": "one", "vpn_cutover_stage": "preview"}, with_defaults=False)

    assert run.status == (0 if HAS_SYSTEMD else 2), run.output
    assert run.blocked("one") == []
    assert run.row("one") == ["one", "up", "1", "8", "0", "0"]


def test_full_call(play: Play) -> None:
    """All variables of the generated policy, and those of the playbook that the preview uses."""
    run = play(
        {
            "vpn_cutover_hosts": "one",
            "vpn_cutover_stage": "preview",
            "vpn_cutover_lan": [f"{Uplinks.eth4_gateway}/32", f"{Uplinks.eth6_gateway}/128"],
            "vpn_cutover_users": [0, "1000-60000"],
            "vpn_cutover_endpoints": "203.0.113.200",
            "vpn_cutover_mark": MARK,
            "vpn_cutover_max_sockets": 50,
            "vpn_cutover_per": "2m",
            "vpn_cutover_namespaces": ["current"],
            "vpn_cutover_on_excess": "pace",
            "vpn_cutover_confirm": True,
            "vpn_cutover_confirm_within": "5m",
            "vpn_cutover_limit": 1,
            "vpn_cutover_serial": ["50%"],
            "vpn_cutover_timeout": 60,
            "vpn_cutover_rollback_to": "report",
            "vpn_cutover_other_variables": ["vpn_cutover_site"],
            "vpn_cutover_site": "north",
        }
    )

    assert run.status == (0 if HAS_SYSTEMD else 2), run.output
    assert run.blocked("one") == []
    # The listed connection, and how many more: the limit is one.
    assert [line for line in run.lines() if re.match(r"and \d+ more$", line)]


def test_preview_names_blockers(play: Play) -> None:
    """Limits too low, no VPN, host unreachable. The preview of the other hosts is complete."""
    run = play({"vpn_cutover_hosts": "all", "vpn_cutover_max_sockets": 3}, "--check")

    assert run.status == 2, run.output
    assert run.row("one") == ["one", "up", "1", "7", "1", "0"]
    assert run.row("low")[:2] == ["low", "down"]
    assert run.row("bare")[:2] == ["bare", "missing"]
    (limits,), (down,), (missing,) = map(run.blocked, ("one", "low", "bare"))
    assert re.search(r"\b7 sockets\b", limits)
    assert "limits.max_sockets" in limits
    assert "tun0 is down" in down
    assert "no interface tun0" in missing
    assert re.search(r"Existing interfaces: .*\blo\b.*\.$", missing)
    assert run.lines()[-1] == "Preview only: no host was changed."
    assert run.row("gone")[1] == "unknown"
    (answer,) = [line for line in run.lines() if line.startswith("gone: BLOCKED: ")]
    assert "No answer: " in answer
    assert "Connection refused" in answer


def test_host_that_stops_answering_is_bounded(play: Play, tmp_path: Path) -> None:
    """Its Python never ends, as a connection to a host that lost its network."""
    frozen = tmp_path / "frozen"
    frozen.write_text("#!/bin/sh\nexec sleep 30\n")
    frozen.chmod(0o755)
    inventory = tmp_path / "frozen.yml"
    variables = {"ansible_python_interpreter": str(frozen)}
    inventory.write_text(yaml.safe_dump({"all": {"hosts": {"two": variables}}}))
    chosen = {"vpn_cutover_hosts": "one,two", "vpn_cutover_timeout": 10}

    run = play({**chosen, "vpn_cutover_stage": "preview"}, "-i", str(inventory))

    assert run.status == 2, run.output
    assert "timed out after 10 second" in run.output.lower()
    assert run.row("one")[:2] == ["one", "up"]
    assert run.row("two")[:2] == ["two", "unknown"]


def test_custom_policy_with_unknown_interface(play: Play, tmp_path: Path) -> None:
    rules = [
        {"name": "typo", "match": {"local": "interface:tnu0"}},
        {"name": "elsewhere", "match": {"local": "interface:wlan0"}, "action": "report"},
    ]
    policy = {"version": 1, "limits": {"max_sockets": 9}, "rules": rules}
    (tmp_path / "policy.yml").write_text(yaml.safe_dump(policy))
    hosts = {"vpn_cutover_hosts": "one,two", "vpn_cutover_src": str(tmp_path / "policy.yml")}

    both = play({**hosts, "vpn_cutover_users": 1000})
    assert both.status == 2
    assert "vpn_cutover_src and vpn_cutover_users: " in both.output

    run = play(hosts)
    assert run.status == 2, run.output
    (reason,) = run.blocked("two")
    assert "rule typo" in reason
    assert "interface tnu0" in reason


def test_generated_policy_paces_excess(play: Play) -> None:
    """The limits that block the preview with the default only delay the destruction."""
    variables = {"vpn_cutover_hosts": "one", "vpn_cutover_stage": "preview"}

    run = play({**variables, "vpn_cutover_max_sockets": 3, "vpn_cutover_on_excess": "pace"})

    assert run.status == (0 if HAS_SYSTEMD else 2), run.output
    assert run.blocked("one") == []
    # Seven sockets at three per minute.
    assert "one: the limits of the policy pace the destruction over about 120 s" in run.output


def test_paced_limits(play: Play) -> None:
    """Seven sockets at two per minute take three minutes."""
    rerouted = {"verdict": "rerouted", "to": ["tun0"]}
    match = {"protocol": ["tcp", "udp"], "stranded": rerouted, "remote_port": PORT}
    policy = {
        "version": 1,
        "limits": {"max_sockets": 2, "per": "1m", "on_excess": "pace"},
        "rules": [{"name": "slowly", "match": match, "hold": "200ms"}],
    }
    # --limit selects one of the two hosts.
    variables = {"vpn_cutover_hosts": "one,two", "vpn_cutover_policy": policy}

    run = play({**variables, "vpn_cutover_confirm_within": "3m"}, "--limit", "two")
    assert [line for line in run.lines() if re.match(r"two: .*\b180 s$", line)]
    assert run.row("two") == ["two", "up", "1", "7", "0", "0"]
    assert run.blocked("two") == []
    assert not [line for line in run.lines() if line.startswith("one")]

    run = play({**variables, "vpn_cutover_confirm_within": "179s"}, "--limit", "two")
    assert run.status == 2, run.output
    (reason,) = run.blocked("two")
    assert "about 180 s" in reason
    assert "179s" in reason
    assert "vpn_cutover_confirm_within" in reason


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({}, "vpn_cutover_hosts is not set"),
        ({"vpn_cutover_stage": "go"}, "vpn_cutover_stage is go"),
        ({"vpn_cutover_hosts": "nowhere"}, "vpn_cutover_hosts (nowhere) matches no host"),
        ({"vpn_cutover_protekt": {}}, "did you mean vpn_cutover_protect?"),
        ({"vpn_cutover_users": 1000}, "vpn_cutover_lan is not"),
        ({"vpn_cutover_firewall": True}, "vpn_cutover_users is not set"),
        ({"vpn_cutover_lan": "ten"}, "nothing was sent. policy.rules"),
        ({"vpn_cutover_interface": ""}, "vpn_cutover_interface is not set"),
        ({"vpn_cutover_on_excess": "wait"}, "nothing was sent. policy.limits.on_excess"),
        ({"vpn_cutover_confirm_within": "soon"}, "vpn_cutover_confirm_within is soon"),
    ],
)
def test_invalid_variables_rejected_before_queries(
    play: Play, variables: dict[str, Any], reason: str
) -> None:
    hosts = {"vpn_cutover_hosts": "one"} if variables else {}
    run = play({**hosts, **variables})

    assert run.status == 2, run.output
    assert reason in " ".join(run.output.split())
    assert f"TASK [{FIRST_QUERY}]" not in run.output
