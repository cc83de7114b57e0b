# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The execution module, loaded by Salt, on connections of the kernel in a network namespace."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import salt.payload
from salt.exceptions import CommandExecutionError

from linuxnet_sockets import api
from tests.kernel.holder import Holder, holder
from tests.salt.conftest import Minion
from tests.support.topologies import states
from tests.support.topologies.topology import Pair, pair, unavailable_reason
from tests.support.topologies.waiting import until

# The network of the pair, which no process outside of the test uses.
REMOTE = "192.0.2.2"


@pytest.fixture(scope="module")
def network() -> Iterator[Pair]:
    reason = unavailable_reason()
    if reason is not None:
        pytest.skip(reason)
    with pair() as made:
        yield made


@pytest.fixture
def held(network: Pair) -> Iterator[Holder]:
    """A connection that another process holds."""
    with holder(network) as made:
        yield made


@pytest.fixture
def where(network: Pair) -> list[str]:
    """The value of `namespaces`."""
    return [network.client.name]


@pytest.fixture
def run(minion: Minion, where: list[str]) -> Callable[..., Any]:
    """Call a function of the module in the namespace, with the arguments of a published job.

    The result has been through Salt's transport.
    """

    def call(name: str, *arguments: Any, **options: Any) -> Any:
        options = {"namespaces": where, "__pub_jid": "20260101", "__pub_ret": "", **options}
        result = minion(f"sockets.{name}", *arguments, **options)
        return salt.payload.loads(salt.payload.dumps(result))

    return call


def cookies(records: list[dict[str, Any]]) -> list[int]:
    return [int(each["cookie"], 16) for each in records]


def policy(where: list[str], **match: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "namespaces": where,
        "limits": {"max_sockets": 10},
        "rules": [{"name": "none", "match": match, "hold": 0}],
    }


def test_selector_keys_are_keyword_arguments(run: Callable[..., Any], held: Holder) -> None:
    found = run("list", remote_port=held.remote_port, details="process")

    assert cookies(found["sockets"]) == [held.cookie]
    assert [each["pid"] for each in found["sockets"][0]["processes"]] == [held.pid]
    assert (found["matched"], found["warnings"], found["failures"]) == (1, [], [])


def test_match_and_keyword_arguments_both_apply(run: Callable[..., Any], held: Holder) -> None:
    match = {"not": {"local_port": held.port}}

    assert run("list", match, remote=REMOTE, remote_port=held.remote_port)["matched"] == 0
    assert run("list", match={"local_port": held.port}, local_port="1-65535")["matched"] == 1


def test_result_is_that_of_the_api(run: Callable[..., Any], held: Holder, where: list[str]) -> None:
    match = {"remote_port": held.remote_port}
    expected = api.find(match, namespaces=where, group_by="remote").to_dict()

    found = run("list", group_by="remote", **match)

    changing = {"idle_ms"}
    for record in (*expected["sockets"], *found["sockets"]):
        for key in changing:
            record.pop(key)
    assert found == {**expected, "warnings": [], "failures": []}


def test_destroy_in_test_mode_names_the_sockets(run: Callable[..., Any], held: Holder) -> None:
    plan = run("destroy", remote_port=held.remote_port, test=True)

    assert (plan["changed"], cookies(plan["destroyed"])) == (True, [held.cookie])
    assert held.alive()


def test_destroy_and_a_second_run(run: Callable[..., Any], minion: Minion, held: Holder) -> None:
    first = run("destroy", remote_port=held.remote_port)
    second = run("destroy", remote_port=held.remote_port)

    assert (first["outcomes"], cookies(first["destroyed"])) == ({"destroyed": 1}, [held.cookie])
    assert (second["changed"], second["outcomes"]) == (False, {})
    assert minion.retcode == 0
    assert not held.alive()


def test_option_test_of_the_minion_is_the_default(
    tmp_path: Path, held: Holder, where: list[str]
) -> None:
    minion = Minion(tmp_path / "testing", test=True)

    assert minion("sockets.destroy", remote_port=held.remote_port, namespaces=where)["changed"]
    assert held.alive()


def test_destroy_above_max_sockets_sets_the_return_code(
    run: Callable[..., Any], minion: Minion, network: Pair, held: Holder
) -> None:
    with holder(network) as other:
        ports = [held.remote_port, other.remote_port]
        result = run("destroy", remote_port=ports, max_sockets=1)

        assert (result["outcomes"], len(result["failures"])) == ({"limit": 2}, 1)
        assert minion.retcode == 1
        assert held.alive()
        assert other.alive()


def test_connection_of_the_minion_itself_is_protected(
    run: Callable[..., Any], minion: Minion, network: Pair
) -> None:
    own = states.established(network)

    result = run("destroy", remote=REMOTE, state="established")

    (entry,) = (each for each in result["protected"] if int(each["cookie"], 16) == own.cookie)
    assert entry["reason"] == "control_connection"
    assert minion.retcode == 0


def test_wrong_input_is_an_execution_error_with_the_sentence_of_other_faces(
    run: Callable[..., Any], held: Holder, where: list[str]
) -> None:
    with pytest.raises(api.SocketsError) as expected:
        api.destroy({"remotes": REMOTE}, namespaces=where)
    with pytest.raises(CommandExecutionError) as caught:
        run("destroy", remotes=REMOTE)

    assert str(caught.value) == api.describe(expected.value)
    assert held.alive()


@pytest.mark.parametrize("match", [{}, None, {"state": None}])
def test_empty_template_variable_destroys_nothing(
    run: Callable[..., Any], held: Holder, match: Any
) -> None:
    with pytest.raises(CommandExecutionError):
        run("destroy", match=match, remote_port=held.remote_port)
    assert held.alive()


def test_drain_destroys_the_rest_after_the_grace_period(
    run: Callable[..., Any], held: Holder
) -> None:
    result = run("drain", remote_port=held.remote_port, grace=0.2, until="closed")

    assert (result["finished"], result["outcomes"]) == (True, {"destroyed": 1})
    assert not held.alive()


def test_drain_in_steps(run: Callable[..., Any], held: Holder) -> None:
    options = {"remote_port": held.remote_port, "grace": "300ms", "step": "100ms"}
    result = run("drain", **options)
    assert (result["finished"], result["left"]) == (False, 1)
    while not result["finished"]:
        result = run("drain", **options, resume=result["resume"])
    assert result["outcomes"] == {"destroyed": 1}


def test_stuck_stranded_and_report(run: Callable[..., Any], network: Pair) -> None:
    waiting = states.close_wait(network)
    there = {"local": REMOTE, "namespaces": [network.server.name]}
    verdict = {"verdict": "close_wait", "for": "1ms"}
    time.sleep(0.01)

    stuck = run("stuck", verdict, **there)
    report = run("report", stuck=[verdict], **there)

    assert waiting.cookie in [int(each["record"]["cookie"], 16) for each in stuck["connections"]]
    assert stuck["verdicts"].keys() == {"close_wait"}
    assert report["matched"] == stuck["matched"]
    assert run("stranded", **there)["matched"] == 0


def test_support(minion: Minion, where: list[str]) -> None:
    result = minion("sockets.support", namespace=where[0])

    assert result["support"]["tcp"]["verdict"] == "supported"
    assert result["may_destroy"] is True


@pytest.mark.parametrize("source", ["argument", "pillar", "file", "url"])
def test_policy_is_enforced_once(
    tmp_path: Path, held: Holder, where: list[str], source: str
) -> None:
    document = policy(where, remote_port=held.remote_port)
    minion = Minion(tmp_path / "minion")
    argument: dict[str, Any] = {}
    if source == "argument":
        argument["policy"] = document
    elif source == "pillar":
        minion = Minion(tmp_path / "minion", pillar={"linuxnet_sockets": {"policy": document}})
    else:
        file = minion.root / "srv" / "policy.yml"
        file.write_text(json.dumps(document))
        argument["policy"] = "salt://policy.yml" if source == "url" else str(file)

    checked = minion("sockets.policy_check", **argument)
    plan = minion("sockets.policy_plan", **argument)
    preview = minion("sockets.policy_enforce", test=True, **argument)
    assert held.alive()
    result = minion("sockets.policy_enforce", **argument)

    assert (checked["valid"], checked["errors"], minion.retcode) == (True, [], 0)
    assert plan["outcomes"] == preview["outcomes"] == result["outcomes"] == {"destroyed": 1}
    assert cookies(result["destroyed"]) == [held.cookie]


def test_invalid_policy(minion: Minion) -> None:
    checked = minion("sockets.policy_check", {"version": 1})

    assert (checked["valid"], len(checked["errors"])) == (False, 2)
    assert minion.retcode == 1
    with pytest.raises(CommandExecutionError) as caught:
        minion("sockets.policy_enforce", {"version": 1})
    assert all(error in str(caught.value) for error in checked["errors"])


def test_nftables_rules(minion: Minion) -> None:
    match = {"user": 1000, "not": {"local": "interface:wg0"}}
    policy: dict[str, Any] = {
        "version": 1,
        "limits": {"max_sockets": 1, "per": "1m"},
        "rules": [
            {"name": "vpn", "match": match},
            {"name": "port", "match": {"remote_port": 1}},
        ],
    }
    rules = minion("sockets.policy_firewall", policy)
    assert (rules["rules"], len(rules["left_out"]), minion.retcode) == (["vpn"], 1, 0)
    assert '\toifname "wg0" return\n' in rules["text"]
    policy["rules"] = policy["rules"][1:]
    with pytest.raises(CommandExecutionError, match=r"cannot express match\.user"):
        minion("sockets.policy_firewall", policy)


@pytest.mark.parametrize("source", [None, "salt://none.yml", "/nowhere/policy.yml"])
def test_missing_policy_is_an_execution_error(minion: Minion, source: str | None) -> None:
    with pytest.raises(CommandExecutionError):
        minion("sockets.policy_plan", source)


@pytest.fixture
def directories(tmp_path: Path) -> dict[str, str]:
    made = {}
    for name in ("state", "runtime"):
        (tmp_path / name).mkdir()
        made[f"{name}_directory"] = str(tmp_path / name)
    return made


def test_agent_that_does_not_run(minion: Minion, directories: dict[str, str]) -> None:
    assert minion("sockets.agent_status", **directories) == {"running": False, "last": None}
    assert minion.retcode == 3
    paused = minion("sockets.agent_pause", reason="upgrade", duration="10m", **directories)
    assert paused == {"paused": True, "running": False}
    resumed = minion("sockets.agent_resume", **directories)
    assert resumed == {"resumed": True, "running": False}
    confirmed = minion("sockets.agent_confirm", **directories)
    assert confirmed == {"confirmed": False, "running": False}


def test_agent_that_runs(
    minion: Minion, network: Pair, directories: dict[str, str], tmp_path: Path
) -> None:
    document = policy(["current"], remote_port=1)
    (tmp_path / "policy.json").write_text(json.dumps(document))
    network.client.spawn(
        *(sys.executable, "-m", "linuxnet_sockets.agent.cli", "run"),
        *("--policy", str(tmp_path / "policy.json")),
        *("--state-directory", directories["state_directory"]),
        *("--runtime-directory", directories["runtime_directory"]),
        stdout=(tmp_path / "log").open("w"),
    )

    def status() -> Any:
        return minion("sockets.agent_status", **directories)

    until(lambda: status().get("healthy"), "agent is healthy")
    assert minion("sockets.agent_pause", **directories) == {"paused": True, "running": True}
    until(lambda: status()["inhibited_by"] == "paused", "agent is paused")
    assert minion("sockets.agent_resume", **directories) == {"resumed": True, "running": True}


def test_agent_errors_and_durations(minion: Minion, tmp_path: Path) -> None:
    with pytest.raises(CommandExecutionError, match="none"):
        minion("sockets.agent_pause", state_directory=str(tmp_path / "none"))
    with pytest.raises(CommandExecutionError, match="duration"):
        minion("sockets.agent_pause", duration="soon")
