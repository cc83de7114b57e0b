# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rejected policies, inhibitors and budgets destroy nothing, and every output says why."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.agent.conftest import StartAgent
from tests.kernel.agent.running import RunningAgent, alive, policy
from tests.support.topologies.networks import UplinkConnection, Uplinks, ip
from tests.support.topologies.states import linger_reset
from tests.support.topologies.waiting import until

_GONE = {"name": "gone", "match": {"stranded": ["address_gone"]}}


@pytest.fixture
def violating(uplinks: Uplinks) -> list[UplinkConnection]:
    """Connections that violate the policy before the agent starts."""
    opened_connections = [uplinks.tcp(uplinks.service4) for _connection in range(5)]
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    return opened_connections


def _assert_inhibited(
    agent: RunningAgent, opened_connections: list[UplinkConnection], reason: str
) -> None:
    """Check the connections, status.json, the log, the metrics and the exit status."""
    agent.notify()
    until(lambda: agent.status()["inhibited_by"] == reason, "inhibited_by in the status")
    assert all(alive(connection.sock) for connection in opened_connections)
    assert agent.destroyed() == {}
    name = f'inhibited{{reason="{reason}"}}'
    until(
        lambda: agent.metrics_file.exists() and agent.metrics()[name] == 1, "reason in the metrics"
    )
    code, text = agent.command("status")
    assert (code, "not running" in text) == (1, False)


INVALID: list[tuple[object, str]] = [
    (None, os.strerror(errno.ENOENT)),
    (policy(), "rules"),
    (policy({"name": "all", "match": {}}), "match"),
    (policy({"name": "all", "match": {"protocol": "tcp"}}), "match"),
    (policy({"name": "none", "match": {"remote": []}}), "remote"),
    (policy({"name": "null", "match": {"remote": None}}), "remote"),
    (b"", "JSON"),
    (b"{}", "version"),
    (b"\xff\xfe{", "JSON"),
    (b"[" * 100_000, "100 levels"),
]


def test_invalid_policies_are_rejected(
    uplinks: Uplinks, violating: list[UplinkConnection], start_agent: StartAgent
) -> None:
    """The first is there at the start of the agent, the others replace it one by one."""
    agent = start_agent(uplinks.host, None)
    for number, (document, text) in enumerate(INVALID, start=1):
        if document is not None:
            agent.write(document)
            agent.signal(signal.SIGHUP)
        until(
            lambda count=number: agent.metrics().get("policy_rejections_total") == count,
            "policy rejected",
        )
        # The agent writes the status after the metrics.
        until(
            lambda part=text: part in " ".join(agent.status()["rejected"]["errors"]),
            "error in the status",
        )
        assert agent.log_lines("policy", text)
        assert agent.metrics()["policy_rejected"] == 1
    _assert_inhibited(agent, violating, "no_policy")


def test_rejected_policy_does_not_replace_the_policy_in_force(
    uplinks: Uplinks, start_agent: StartAgent
) -> None:
    connection = uplinks.tcp(uplinks.service4)
    agent = start_agent(uplinks.host, policy(_GONE))
    digest = agent.status()["policy"]["digest"]
    agent.reload(policy())
    status = agent.status()
    assert status["policy"]["digest"] == digest
    assert "rules" in status["rejected"]["errors"][0]
    assert agent.metrics()["policy_rejected"] == 1
    assert agent.log_lines(digest[:12], "rules: ")
    assert agent.command("status")[0] == 1
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    until(lambda: not alive(connection.sock), "old policy enforced")
    agent.reload(policy({**_GONE, "name": "better"}))
    assert agent.status()["rejected"] is None
    assert agent.command("status")[0] == 0


UNKNOWN_INTERFACE: dict[str, dict[str, Any]] = {
    "key": {"match": {"local": "interface:etth0"}},
    "not": {"match": {"remote_port": 4433, "not": {"local": "interface:etth0"}}},
    "to": {"match": {"stranded": [{"verdict": "rerouted", "to": ["etth0"]}]}},
    "while": {
        "while": {"not": {"interface": "etth0", "is": "up"}},
        "match": {"remote_port": 4433},
    },
}


def test_unknown_interface_is_reported_and_matches_nothing(
    uplinks: Uplinks, start_agent: StartAgent
) -> None:
    opened_connections = [uplinks.tcp(uplinks.service4), uplinks.tcp(uplinks.service6)]
    rules = [{"name": name, **keys} for name, keys in UNKNOWN_INTERFACE.items()]
    agent = start_agent(uplinks.host, policy(*rules))
    agent.notify()
    assert all(alive(connection.sock) for connection in opened_connections)
    text = agent.command("status")[1]
    for rule in agent.status()["rules"]:
        assert rule["violations"] == 0
        assert rule["missing_interfaces"] == ["etth0"]
        assert agent.metrics()[f'missing_interfaces{{rule="{rule["name"]}"}}'] == 1
        assert agent.log_lines(f"(rule {rule['name']})", "etth0")
    assert text.count("etth0") == len(UNKNOWN_INTERFACE)


def test_exceeded_budget_destroys_nothing(
    uplinks: Uplinks, violating: list[UplinkConnection], start_agent: StartAgent
) -> None:
    agent = start_agent(uplinks.host, policy(_GONE, limits={"max_sockets": 4, "per": "1m"}))
    _assert_inhibited(agent, violating, "budget_exceeded")
    (exceeded,) = agent.status()["budget"]["exceeded"]
    assert exceeded == {
        "rule": _GONE["name"],
        "uid": 0,
        "user": "root",
        "due": 5,
        "destroyed_in_window": 0,
    }
    (line,) = agent.log_lines("budget")
    assert re.findall(r"\d+", line) == ["0", "5", "4", "60"]
    metrics = agent.metrics()
    assert metrics["budget_exceeded_total"] >= 1
    labels = f'rule="{_GONE["name"]}",uid="0",user="root"'
    assert metrics[f"budget_exceeded{{{labels}}}"] == 5
    sock = violating.pop().sock
    linger_reset(sock)
    sock.close()
    agent.where.output("ip", "address", "add", "127.200.0.1/32", "dev", "lo")
    until(
        lambda: not any(alive(connection.sock) for connection in violating),
        "destroyed within the budget",
    )


def test_on_excess_pace_spreads_the_destroys(
    uplinks: Uplinks, violating: list[UplinkConnection], start_agent: StartAgent
) -> None:
    limits = {"max_sockets": 2, "per": "1s", "on_excess": "pace"}
    agent = start_agent(uplinks.host, policy(_GONE, limits=limits))
    remaining = [len(violating)]

    def count_living() -> int:
        remaining.append(sum(alive(connection.sock) for connection in violating))
        return remaining[-1]

    until(lambda: count_living() == 0, "all destroyed", seconds=10)
    assert {5 - 2, 5 - 4} <= set(remaining)
    until(lambda: len(agent.destroyed()) == 5, "all in the log")


def test_pause_survives_a_restart(uplinks: Uplinks, start_agent: StartAgent) -> None:
    connection = uplinks.tcp(uplinks.service4)
    agent = start_agent(uplinks.host, policy(_GONE))
    assert agent.command("pause", "--reason", "replacing a switch") == (0, "paused\n")
    until(lambda: agent.status()["inhibited_by"] == "paused", "paused")
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    until(lambda: agent.status()["rules"][0]["inhibited"] == 1, "violation counted as inhibited")
    _assert_inhibited(agent, [connection], "paused")
    assert "replacing a switch" in agent.log()
    assert "replacing a switch" in agent.command("status")[1]
    agent.stop()
    agent.start()
    _assert_inhibited(agent, [connection], "paused")
    assert agent.command("resume") == (0, "resumed\n")
    until(lambda: not alive(connection.sock), "enforced again")
    code, text = agent.command("resume")
    assert (code, "not paused" in text) == (0, True)


def test_pause_by_file_and_with_a_duration(
    uplinks: Uplinks, violating: list[UplinkConnection], start_agent: StartAgent
) -> None:
    agent = start_agent(uplinks.host, policy(_GONE), start=False)
    (agent.state / "paused").write_text("by hand")
    agent.start()
    _assert_inhibited(agent, violating, "paused")
    assert agent.command("pause", "--for", "1500ms")[0] == 0
    until(
        lambda: not any(alive(connection.sock) for connection in violating),
        "pause ended",
        seconds=20,
    )


def test_trial_expires(
    uplinks: Uplinks, violating: list[UplinkConnection], start_agent: StartAgent
) -> None:
    agent = start_agent(uplinks.host, None, start=False)
    agent.write(policy({"name": "nothing", "match": {"remote_port": 1}}))
    code, text = agent.command("trial", "--within", "2s", str(agent.policy))
    assert (code, text.startswith("on trial: ")) == (0, True)
    agent.start()
    assert agent.status()["inhibited_by"] is None
    assert 0 < agent.status()["trial"]["remaining_s"] <= 2
    until(lambda: agent.status()["inhibited_by"] == "unconfirmed", "trial expired")
    # One line for its start, one for its end.
    assert len(agent.log_lines("confirmed")) == 2
    assert agent.metrics()['inhibited{reason="unconfirmed"}'] == 1
    # Another policy, which is not on trial, is in force at once.
    agent.command("trial", "--within", "1s", str(agent.policy))
    agent.reload(policy(_GONE))
    until(lambda: not any(alive(connection.sock) for connection in violating), "enforced")


def test_unconfirmed_policy_destroys_nothing_until_confirmed(
    uplinks: Uplinks, start_agent: StartAgent
) -> None:
    connection = uplinks.tcp(uplinks.service4)
    agent = start_agent(uplinks.host, policy(_GONE), start=False)
    agent.command("trial", "--within", "1s", str(agent.policy))
    agent.start()
    until(lambda: agent.status()["inhibited_by"] == "unconfirmed", "trial expired")
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    until(lambda: agent.status()["rules"][0]["inhibited"] == 1, "violation counted as inhibited")
    _assert_inhibited(agent, [connection], "unconfirmed")
    code, text = agent.command("confirm", "--digest", "0123" * 16)
    assert (code, "not confirmed" in text) == (1, True)
    assert agent.command("confirm") == (0, "confirmed\n")
    until(lambda: not alive(connection.sock), "enforced")


def test_report_mode(
    uplinks: Uplinks, violating: list[UplinkConnection], start_agent: StartAgent
) -> None:
    agent = start_agent(uplinks.host, policy(_GONE, mode="report"))
    assert agent.status()["inhibited_by"] == "report_mode"
    assert agent.status()["rules"][0]["inhibited"] == len(violating)
    agent.wait_for_pass()
    assert all(alive(connection.sock) for connection in violating)
    assert agent.command("status")[0] == 0


def test_check_and_plan(
    uplinks: Uplinks, violating: list[UplinkConnection], start_agent: StartAgent, tmp_path: Path
) -> None:
    agent = start_agent(uplinks.host, policy({**_GONE, "hold": "10m"}))
    digest = agent.status()["policy"]["digest"]
    code, text = agent.command("check", str(agent.policy), own_directories=False)
    assert (code, digest in text) == (0, True)
    code, text = agent.command("plan", str(agent.policy), own_directories=False)
    assert code == 0
    (rule_line,) = [line for line in text.splitlines() if line.startswith("gone: ")]
    assert re.findall(r"\d+", rule_line) == ["5", "600"]
    assert "destroy" in rule_line
    assert text.count("tcp established 192.0.2.1:") == 5
    assert text.count("stranded: address_gone") == 5
    code, text = agent.command("plan", "--json", str(agent.policy), own_directories=False)
    (rule,) = json.loads(text)["rules"]
    assert {entry["record"]["cookie"] for entry in rule["sockets"]} == {
        f"{connection.cookie:x}" for connection in violating
    }
    assert all(alive(connection.sock) for connection in violating)
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(policy({"name": "x", "match": {"remot": "10.0.0.1"}})))
    code, text = agent.command("check", str(bad), own_directories=False)
    assert (code, "rules[0].match" in text and "remot" in text) == (1, True)
    agent.stop()
    code, text = agent.command("status")
    assert (code, text.startswith("not running: ")) == (3, True)


def test_event_socket_sends_each_destroyed_socket(
    uplinks: Uplinks, start_agent: StartAgent
) -> None:
    connection = uplinks.tcp(uplinks.service4)
    agent = start_agent(uplinks.host, policy(_GONE))
    with agent.listen() as events:
        ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
        event = json.loads(events.readline())
    assert (event["event"], event["outcome"], event["rule"]) == ("socket", "destroyed", "gone")
    assert event["record"]["cookie"] == f"{connection.cookie:x}"
    assert event["evidence"] == ["stranded: address_gone"]


def test_missing_runtime_directory_does_not_stop_the_agent(
    uplinks: Uplinks, start_agent: StartAgent
) -> None:
    """The agent reports the fault, enforces, and writes its files when it can again."""
    connection = uplinks.tcp(uplinks.service4)
    agent = start_agent(uplinks.host, policy(_GONE))
    agent.metrics_file.unlink()
    aside = agent.runtime.rename(agent.runtime.with_name("aside"))
    agent.where.output("ip", "address", "add", "127.200.0.1/32", "dev", "lo")
    missing = (os.strerror(errno.ENOENT), str(agent.runtime))
    until(lambda: agent.log_lines(*missing), "fault in the log")
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    until(lambda: not alive(connection.sock), "destroyed without a status file")
    aside.rename(agent.runtime)
    before = agent.passes()
    agent.where.output("ip", "address", "del", "127.200.0.1/32", "dev", "lo")
    until(lambda: agent.passes() > before, "status written again")


def test_changed_policy_is_loaded_without_sighup(
    uplinks: Uplinks, violating: list[UplinkConnection], start_agent: StartAgent
) -> None:
    agent = start_agent(uplinks.host, policy({"name": "nothing", "match": {"remote_port": 1}}))
    agent.write(policy(_GONE))
    agent.notify()
    until(
        lambda: not any(alive(connection.sock) for connection in violating),
        "new policy enforced",
        seconds=15,
    )


def test_sigterm_and_sigint_end_the_agent(uplinks: Uplinks, start_agent: StartAgent) -> None:
    agent = start_agent(uplinks.host, policy(_GONE))
    assert agent.stop() == 0
    assert not (agent.runtime / "agent.sock").exists()
    agent.start()
    agent.signal(signal.SIGINT)
    process = agent.process
    assert process is not None
    assert process.wait(timeout=5) == 0
