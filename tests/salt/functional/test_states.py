# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""States run by state.single of a minion without a master, on connections of the kernel."""

from __future__ import annotations

from typing import Any

import pytest
from salt.exceptions import SaltInvocationError

from tests.salt.conftest import Minion
from tests.salt.functional.conftest import OTHER_PORT, PORT, Connections

POLICY = {
    "version": 1,
    "limits": {"max_sockets": 10, "per": "1m"},
    "rules": [{"name": "old-database", "match": {"remote_port": PORT}, "hold": 0}],
}


def apply(minion: Minion, state: str, **arguments: Any) -> dict[str, Any]:
    """The result of one state."""
    (result,) = minion("state.single", state, name="under-test", **arguments).values()
    return dict(result)


def destroyed(result: dict[str, Any]) -> list[str]:
    """The ends of the sockets in `changes`."""
    lines: list[str] = result["changes"].get("destroyed", [])
    return sorted(line.split(" user ")[0].split(" ", 2)[2] for line in lines)


def ends(connections: Connections, *which: dict[str, Any]) -> list[str]:
    topology = connections.topology
    return sorted(
        f"{topology.client4}:{each['port']} -> {topology.server4}:{PORT}" for each in which
    )


@pytest.fixture(params=["absent", "drained", "policy_enforced"])
def state(request: pytest.FixtureRequest, connections: Connections) -> tuple[str, dict[str, Any]]:
    """Each state, with arguments that mean the two targets."""
    arguments: dict[str, dict[str, Any]] = {
        "absent": {"match": {"remote_port": PORT}, "namespaces": connections.namespaces},
        "drained": {
            "match": {"remote_port": PORT},
            "namespaces": connections.namespaces,
            "grace": 1,
        },
        "policy_enforced": {"policy": {**POLICY, "namespaces": connections.namespaces}},
    }
    return f"sockets.{request.param}", arguments[request.param]


def test_test_mode_names_the_sockets_and_destroys_none(
    minion: Minion, connections: Connections, state: tuple[str, dict[str, Any]]
) -> None:
    result = apply(minion, state[0], test=True, **state[1])

    assert result["result"] is None
    assert destroyed(result) == ends(connections, *connections.targets)
    assert connections.states() == ["open", "open", "open"]


def test_only_the_sockets_that_match_are_destroyed(
    minion: Minion, connections: Connections, state: tuple[str, dict[str, Any]]
) -> None:
    result = apply(minion, state[0], **state[1])

    assert result["result"] is True
    assert destroyed(result) == ends(connections, *connections.targets)
    assert connections.states() == ["ECONNABORTED", "ECONNABORTED", "open"]
    assert minion.retcode == 0


@pytest.mark.usefixtures("connections")
def test_the_second_run_changes_nothing(minion: Minion, state: tuple[str, dict[str, Any]]) -> None:
    apply(minion, state[0], **state[1])

    for options in ({"test": True}, {}):
        result = apply(minion, state[0], **state[1], **options)

        assert (result["result"], result["changes"]) == (True, {})
        assert result["comment"] == "No socket matches."


def test_too_many_sockets_fail_the_state(minion: Minion, connections: Connections) -> None:
    result = apply(
        minion,
        "sockets.absent",
        match={"remote_port": PORT},
        namespaces=connections.namespaces,
        max_sockets=1,
    )

    assert result["result"] is False
    assert result["changes"] == {}
    assert "max_sockets allows 1" in result["comment"]
    assert connections.states() == ["open", "open", "open"]


def test_a_protected_socket_does_not_fail_the_state(
    minion: Minion, connections: Connections
) -> None:
    result = apply(
        minion,
        "sockets.absent",
        match={"remote_port": [PORT, OTHER_PORT]},
        namespaces=connections.namespaces,
        protect={"selectors": [{"remote_port": PORT}]},
    )

    assert result["result"] is True
    assert result["comment"] == "Outcomes: 1 destroyed, 2 protected."
    assert connections.states() == ["open", "open", "ECONNABORTED"]


def test_a_drain_that_destroys_nothing_fails_while_connections_are_left(
    minion: Minion, connections: Connections
) -> None:
    arguments = {
        "match": {"remote_port": PORT},
        "namespaces": connections.namespaces,
        "grace": "200ms",
        "destroy": False,
    }

    expected = apply(minion, "sockets.drained", test=True, **arguments)
    result = apply(minion, "sockets.drained", **arguments)

    assert expected["result"] is None
    assert expected["comment"] == "Would wait for 2 connections."
    assert result["result"] is False
    assert result["comment"].startswith("2 connections left after 0.2")
    assert connections.states() == ["open", "open", "open"]


def test_a_policy_is_read_from_the_pillar(minion: Minion, connections: Connections) -> None:
    policy = {**POLICY, "namespaces": connections.namespaces}
    minion.set_pillar(linuxnet_sockets={"policy": policy})

    result = apply(minion, "sockets.policy_enforced")

    assert result["result"] is True
    assert all(line.endswith("(rule old-database)") for line in result["changes"]["destroyed"])
    assert connections.states() == ["ECONNABORTED", "ECONNABORTED", "open"]


def test_a_missing_policy_fails_the_state(minion: Minion) -> None:
    result = apply(minion, "sockets.policy_enforced")

    assert result["result"] is False
    assert result["comment"].startswith("There is no policy: the pillar ")


def test_mode_report_destroys_nothing(minion: Minion, connections: Connections) -> None:
    policy = {**POLICY, "namespaces": connections.namespaces, "mode": "report"}

    result = apply(minion, "sockets.policy_enforced", policy=policy)

    assert (result["result"], result["changes"]) == (True, {})
    assert result["comment"].startswith("2 violations.")
    assert connections.states() == ["open", "open", "open"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"match": {"remote_prot": 1}}, "match.remote_prot"),
        ({"match": {}}, "match: {}"),
        ({"match": {"protocol": "tcp"}}, "match"),
        ({"match": {"remote_port": 1}, "engine": "magic"}, "engine: 'magic'"),
        ({}, "match"),
    ],
)
def test_wrong_arguments_fail_the_state(
    minion: Minion, arguments: dict[str, Any], sentence: str
) -> None:
    result = apply(minion, "sockets.absent", **arguments)

    assert result["result"] is False
    assert result["comment"].startswith(sentence)


def test_an_unknown_argument_is_refused(minion: Minion) -> None:
    with pytest.raises(SaltInvocationError, match="max_socket"):
        apply(minion, "sockets.absent", match={"pid": 1}, max_socket=1)
