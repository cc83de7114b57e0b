# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What looks like a mistake, and what was bidden, destroys nothing, and all is told."""

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
from tests.support.topologies.networks import Talk, Uplinks, ip
from tests.support.topologies.states import linger_reset
from tests.support.topologies.waiting import until

_GONE = {"name": "gone", "match": {"stranded": ["address_gone"]}}


@pytest.fixture
def doomed(uplinks: Uplinks) -> list[Talk]:
    """Connections that violate the policy above, from before any agent started."""
    talks = [uplinks.tcp(uplinks.service4) for _each in range(5)]
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    return talks


def _all_live(agent: RunningAgent, talks: list[Talk], held_back: str) -> None:
    """Nothing was destroyed, the three say so, and the program's own status is not 0."""
    agent.poke()
    until(lambda: agent.status()["inhibited_by"] == held_back, "the status says why")
    assert all(alive(talk.sock) for talk in talks)
    assert agent.destroyed() == {}
    name = f'inhibited{{reason="{held_back}"}}'
    # They are written right after the status.
    until(lambda: agent.metrics_file.exists() and agent.metrics()[name] == 1, "so do the metrics")
    code, _text = agent.command("status")
    assert (code, "running" in _text and "not running" in _text) == (1, False)


WRONG: list[tuple[object, str]] = [
    (None, os.strerror(errno.ENOENT)),
    (policy(), "rules"),
    (policy({"name": "all", "match": {}}), "match"),
    (policy({"name": "all", "match": {"protocol": "tcp"}}), "match"),
    (policy({"name": "none", "match": {"remote": []}}), "remote"),
    (policy({"name": "null", "match": {"remote": None}}), "remote"),
    (b"", "JSON"),
    (b"{}", "version"),
    (b"\xff\xfe{", "JSON"),
    (b"[" * 100_000, "100 deep"),
]


def test_policies_that_came_out_wrong(
    uplinks: Uplinks, doomed: list[Talk], start_agent: StartAgent
) -> None:
    """The first at the agent's start, the others one after the other: none comes into force."""
    agent = start_agent(uplinks.host, None)
    for number, (document, words) in enumerate(WRONG, start=1):
        if document is not None:
            agent.write(document)
            agent.signal(signal.SIGHUP)
        until(
            lambda count=number: agent.metrics().get("policy_rejections_total") == count,
            "it was refused",
        )
        # What the status says is written after the metrics.
        until(
            lambda said=words: said in " ".join(agent.status()["rejected"]["errors"]),
            "the status says why",
        )
        assert agent.log_lines("policy", words)
        assert agent.metrics()["policy_rejected"] == 1
    _all_live(agent, doomed, "no_policy")


def test_a_wrong_one_does_not_take_the_place_of_a_good_one(
    uplinks: Uplinks, start_agent: StartAgent
) -> None:
    talk = uplinks.tcp(uplinks.service4)
    agent = start_agent(uplinks.host, policy(_GONE))
    digest = agent.status()["policy"]["digest"]
    agent.reload(policy())
    told = agent.status()
    assert told["policy"]["digest"] == digest
    assert "rules" in told["rejected"]["errors"][0]
    assert agent.metrics()["policy_rejected"] == 1
    assert agent.log_lines(digest[:12], "rules: ")
    assert agent.command("status")[0] == 1
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    until(lambda: not alive(talk.sock), "the old one is enforced")
    agent.reload(policy({**_GONE, "name": "better"}))
    assert agent.status()["rejected"] is None
    assert agent.command("status")[0] == 0


MISSPELT: dict[str, dict[str, Any]] = {
    "key": {"match": {"local": "interface:etth0"}},
    "not": {"match": {"remote_port": 4433, "not": {"local": "interface:etth0"}}},
    "to": {"match": {"stranded": [{"verdict": "rerouted", "to": ["etth0"]}]}},
    "while": {
        "while": {"not": {"interface": "etth0", "is": "up"}},
        "match": {"remote_port": 4433},
    },
}


def test_a_misspelt_interface(uplinks: Uplinks, start_agent: StartAgent) -> None:
    talks = [uplinks.tcp(uplinks.service4), uplinks.tcp(uplinks.service6)]
    rules = [{"name": name, **keys} for name, keys in MISSPELT.items()]
    agent = start_agent(uplinks.host, policy(*rules))
    agent.poke()
    assert all(alive(talk.sock) for talk in talks)
    told = agent.command("status")[1]
    for rule in agent.status()["rules"]:
        assert rule["violations"] == 0
        assert rule["missing_interfaces"] == ["etth0"]
        assert agent.metrics()[f'missing_interfaces{{rule="{rule["name"]}"}}'] == 1
        assert agent.log_lines(f"rule {rule['name']} ", "etth0")
    assert told.count("etth0") == len(MISSPELT)


def test_more_than_the_limit(uplinks: Uplinks, doomed: list[Talk], start_agent: StartAgent) -> None:
    agent = start_agent(uplinks.host, policy(_GONE, limits={"max_sockets": 4, "per": "1m"}))
    _all_live(agent, doomed, "budget_exceeded")
    assert agent.status()["budget"]["due"] == 5
    (line,) = agent.log_lines("limit")
    assert re.findall(r"\d+", line) == ["5", "4", "60"]
    assert agent.metrics()["budget_exceeded_total"] >= 1
    one = doomed.pop().sock
    linger_reset(one)
    one.close()
    agent.where.output("ip", "address", "add", "127.200.0.1/32", "dev", "lo")
    until(lambda: not any(alive(talk.sock) for talk in doomed), "no more than the limit now")


def test_paced(uplinks: Uplinks, doomed: list[Talk], start_agent: StartAgent) -> None:
    limits = {"max_sockets": 2, "per": "1s", "on_excess": "pace"}
    agent = start_agent(uplinks.host, policy(_GONE, limits=limits))
    left = [len(doomed)]

    def living() -> int:
        left.append(sum(alive(talk.sock) for talk in doomed))
        return left[-1]

    until(lambda: living() == 0, "all are gone in the end", seconds=10)
    assert {5 - 2, 5 - 4} <= set(left)
    until(lambda: len(agent.destroyed()) == 5, "the log says so")


def test_paused(uplinks: Uplinks, start_agent: StartAgent) -> None:
    talk = uplinks.tcp(uplinks.service4)
    agent = start_agent(uplinks.host, policy(_GONE))
    assert agent.command("pause", "--reason", "a switch is replaced") == (0, "paused\n")
    until(lambda: agent.status()["inhibited_by"] == "paused", "it is paused")
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    until(lambda: agent.status()["rules"][0]["inhibited"] == 1, "what would be destroyed is told")
    _all_live(agent, [talk], "paused")
    assert "a switch is replaced" in agent.log()
    assert "a switch is replaced" in agent.command("status")[1]
    agent.stop()
    agent.start()
    _all_live(agent, [talk], "paused")
    assert agent.command("resume") == (0, "resumed\n")
    until(lambda: not alive(talk.sock), "it is enforced again")
    code, text = agent.command("resume")
    assert (code, "not paused" in text) == (0, True)


def test_paused_for_a_while_or_by_a_file(
    uplinks: Uplinks, doomed: list[Talk], start_agent: StartAgent
) -> None:
    agent = start_agent(uplinks.host, policy(_GONE), start=False)
    (agent.state / "paused").write_text("by hand")
    agent.start()
    _all_live(agent, doomed, "paused")
    assert agent.command("pause", "--for", "1500ms")[0] == 0
    until(lambda: not any(alive(talk.sock) for talk in doomed), "the time is over", seconds=20)


def test_unconfirmed(uplinks: Uplinks, doomed: list[Talk], start_agent: StartAgent) -> None:
    agent = start_agent(uplinks.host, None, start=False)
    agent.write(policy({"name": "nothing", "match": {"remote_port": 1}}))
    code, text = agent.command("trial", "--within", "2s", str(agent.policy))
    assert (code, text.startswith("on trial: ")) == (0, True)
    agent.start()
    assert agent.status()["inhibited_by"] is None
    assert 0 < agent.status()["trial"]["remaining_s"] <= 2
    until(lambda: agent.status()["inhibited_by"] == "unconfirmed", "the time is over")
    # On trial, and at its end.
    assert len(agent.log_lines("confirmed")) == 2
    assert agent.metrics()['inhibited{reason="unconfirmed"}'] == 1
    # Another policy, which nobody put on trial, is in force at once.
    agent.command("trial", "--within", "1s", str(agent.policy))
    agent.reload(policy(_GONE))
    until(lambda: not any(alive(talk.sock) for talk in doomed), "it is enforced")


def test_unconfirmed_destroys_nothing_until_it_is(
    uplinks: Uplinks, start_agent: StartAgent
) -> None:
    talk = uplinks.tcp(uplinks.service4)
    agent = start_agent(uplinks.host, policy(_GONE), start=False)
    agent.command("trial", "--within", "1s", str(agent.policy))
    agent.start()
    until(lambda: agent.status()["inhibited_by"] == "unconfirmed", "the time is over")
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    until(lambda: agent.status()["rules"][0]["inhibited"] == 1, "what would be destroyed is told")
    _all_live(agent, [talk], "unconfirmed")
    code, text = agent.command("confirm", "--digest", "0123")
    assert (code, "not confirmed" in text) == (1, True)
    assert agent.command("confirm") == (0, "confirmed\n")
    until(lambda: not alive(talk.sock), "it is enforced")


def test_report_mode(uplinks: Uplinks, doomed: list[Talk], start_agent: StartAgent) -> None:
    agent = start_agent(uplinks.host, policy(_GONE, mode="report"))
    assert agent.status()["inhibited_by"] == "report_mode"
    assert agent.status()["rules"][0]["inhibited"] == len(doomed)
    agent.looked_again()
    assert all(alive(talk.sock) for talk in doomed)
    assert agent.command("status")[0] == 0


def test_check_and_plan(
    uplinks: Uplinks, doomed: list[Talk], start_agent: StartAgent, tmp_path: Path
) -> None:
    agent = start_agent(uplinks.host, policy({**_GONE, "hold": "10m"}))
    digest = agent.status()["policy"]["digest"]
    code, text = agent.command("check", str(agent.policy), own_places=False)
    assert (code, digest in text) == (0, True)
    code, text = agent.command("plan", str(agent.policy), own_places=False)
    assert code == 0
    (of_the_rule,) = [line for line in text.splitlines() if line.startswith("gone: ")]
    assert re.findall(r"\d+", of_the_rule) == ["5", "600"]
    assert "destroy" in of_the_rule
    assert text.count("tcp established 192.0.2.1:") == 5
    assert text.count("stranded: address_gone") == 5
    code, text = agent.command("plan", "--json", str(agent.policy), own_places=False)
    (rule,) = json.loads(text)["rules"]
    assert {each["record"]["cookie"] for each in rule["sockets"]} == {
        f"{talk.cookie:x}" for talk in doomed
    }
    assert all(alive(talk.sock) for talk in doomed)
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(policy({"name": "x", "match": {"remot": "10.0.0.1"}})))
    code, text = agent.command("check", str(bad), own_places=False)
    assert (code, "rules[0].match" in text and "remot" in text) == (1, True)
    agent.stop()
    code, text = agent.command("status")
    assert (code, text.startswith("not running: ")) == (3, True)


def test_who_listens_hears_each_socket(uplinks: Uplinks, start_agent: StartAgent) -> None:
    talk = uplinks.tcp(uplinks.service4)
    agent = start_agent(uplinks.host, policy(_GONE))
    with agent.listen() as events:
        ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
        event = json.loads(events.readline())
    assert (event["event"], event["outcome"], event["rule"]) == ("socket", "destroyed", "gone")
    assert event["record"]["cookie"] == f"{talk.cookie:x}"
    assert event["evidence"] == ["stranded: address_gone"]


def test_a_disk_that_is_full(uplinks: Uplinks, start_agent: StartAgent) -> None:
    """Its files cannot be written: it says so, goes on, and writes them when it can again."""
    talk = uplinks.tcp(uplinks.service4)
    agent = start_agent(uplinks.host, policy(_GONE))
    agent.metrics_file.unlink()
    aside = agent.runtime.rename(agent.runtime.with_name("aside"))
    agent.where.output("ip", "address", "add", "127.200.0.1/32", "dev", "lo")
    missing = (os.strerror(errno.ENOENT), str(agent.runtime))
    until(lambda: agent.log_lines(*missing), "the log says it")
    ip(uplinks.host, f"addr del {uplinks.eth4}/24 dev eth0")
    until(lambda: not alive(talk.sock), "it is destroyed all the same")
    aside.rename(agent.runtime)
    before = agent.looks()
    agent.where.output("ip", "address", "del", "127.200.0.1/32", "dev", "lo")
    until(lambda: agent.looks() > before, "it writes again")


def test_a_changed_file_is_noticed_without_a_signal(
    uplinks: Uplinks, doomed: list[Talk], start_agent: StartAgent
) -> None:
    agent = start_agent(uplinks.host, policy({"name": "nothing", "match": {"remote_port": 1}}))
    agent.write(policy(_GONE))
    agent.poke()
    until(lambda: not any(alive(talk.sock) for talk in doomed), "it is in force", seconds=15)


def test_it_ends_when_told_to(uplinks: Uplinks, start_agent: StartAgent) -> None:
    agent = start_agent(uplinks.host, policy(_GONE))
    assert agent.stop() == 0
    assert not (agent.runtime / "events.sock").exists()
    agent.start()
    agent.signal(signal.SIGINT)
    process = agent.process
    assert process is not None
    assert process.wait(timeout=5) == 0
