# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The beacon, called as Salt's beacon engine calls it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import salt.beacons

from linuxnet_sockets.agent.event_stream import EventStream
from linuxnet_sockets.agent.request_server import RequestServer
from tests.salt.conftest import Minion
from tests.salt.functional.conftest import PORT, Connections
from tests.support.request_clients import serve_waiting

TAG = "salt/beacon/minion/sockets/"


class Beacon:
    """The beacon `sockets` of a minion. Salt calls it once for each process()."""

    def __init__(self, minion: Minion, *options: dict[str, Any]) -> None:
        self._config = {"sockets": list(options)}
        minion.opts["beacons"] = self._config
        self._beacons = salt.beacons.Beacon(minion.opts, minion.functions)

    def process(self) -> list[dict[str, Any]]:
        found = self._beacons.process(self._config, {})
        assert not [event for event in found if "error" in event]
        return [{**event["data"], "tag": event["tag"].removeprefix(TAG)} for event in found]

    def ports(self) -> list[int]:
        """The local ports of the sockets that it reports, in one event at most."""
        events = self.process()
        assert len(events) <= 1
        return [record["local_port"] for event in events for record in event["sockets"]]

    def close(self) -> None:
        self._beacons.close_beacons()

    def error(self) -> str:
        """The sentence with which validate() refuses the options."""
        valid, sentence = self._beacons.beacons["sockets.validate"](self._config["sockets"])
        assert not valid
        return str(sentence)


def targets(connections: Connections) -> list[int]:
    return sorted(each["port"] for each in connections.targets)


@pytest.fixture(params=["match", "policy"])
def source(request: pytest.FixtureRequest, connections: Connections) -> list[dict[str, Any]]:
    """Options of a beacon that reports the two targets."""
    if request.param == "match":
        return [{"match": {"remote_port": PORT}}, {"namespaces": connections.namespaces}]
    policy = {
        "version": 1,
        "namespaces": connections.namespaces,
        "limits": {"max_sockets": 10, "per": "1m"},
        "rules": [{"name": "old-database", "match": {"remote_port": PORT}}],
    }
    return [{"policy": policy}]


def test_sockets_are_reported_once(
    minion: Minion, connections: Connections, source: list[dict[str, Any]]
) -> None:
    beacon = Beacon(minion, *source)

    assert beacon.ports() == targets(connections)
    assert beacon.ports() == []

    (new,) = connections.connect(1)

    assert beacon.ports() == [new["port"]]
    assert beacon.ports() == []


def test_at_most_limits_an_event_and_the_rest_follows(
    minion: Minion, connections: Connections, source: list[dict[str, Any]]
) -> None:
    beacon = Beacon(minion, *source, {"at_most": 1})

    assert [beacon.ports(), beacon.ports(), beacon.ports()] == [
        *([port] for port in targets(connections)),
        [],
    ]


def test_the_selector_of_an_event_means_its_sockets(
    minion: Minion, connections: Connections, source: list[dict[str, Any]]
) -> None:
    (event,) = Beacon(minion, *source).process()
    connections.connect(1)

    (result,) = minion(
        "state.single",
        "sockets.absent",
        name="as-a-reactor",
        match=event["match"],
        namespaces=event["namespaces"],
    ).values()

    assert event["matched"] == 2
    assert len(result["changes"]["destroyed"]) == 2
    assert connections.states() == ["ECONNABORTED", "ECONNABORTED", "open"]


def test_a_violation_names_its_rule(minion: Minion, connections: Connections) -> None:
    policy = {
        "version": 1,
        "namespaces": connections.namespaces,
        "limits": {"max_sockets": 10, "per": "1m"},
        "rules": [{"name": "old-database", "match": {"remote_port": PORT}}],
    }
    minion.set_pillar(linuxnet_sockets={"policy": policy})

    (event,) = Beacon(minion, {"policy": True}).process()

    assert event["tag"] == "policy"
    assert {entry["rule"] for entry in event["sockets"]} == {"old-database"}
    assert {entry["status"] for entry in event["sockets"]} == {"destroy"}


def test_two_beacons_remember_their_own_sockets(minion: Minion, connections: Connections) -> None:
    options = {"namespaces": connections.namespaces}
    first = Beacon(minion, {"match": {"remote_port": PORT}}, options)
    second = Beacon(minion, {"match": {"remote": connections.topology.server4}}, options)

    assert (len(first.ports()), len(second.ports())) == (2, 3)


class Agent:
    """The event stream of an agent."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.start()

    def start(self) -> None:
        self._stream = EventStream()
        self._server = RequestServer(str(self._directory / "agent.sock"), self._stream)

    def accept(self) -> None:
        assert serve_waiting(self._server)

    def send(self, *names: str) -> None:
        for name in names:
            self._stream.send({"event": name, "at": "2026-01-01T00:00:00Z"})

    def send_bytes(self, data: bytes) -> None:
        (reader,) = self._stream._readers
        reader.socket.send(data)

    def stop(self) -> None:
        self._server.close()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    stream = Agent(tmp_path)
    yield stream
    stream.stop()


def follow(minion: Minion, tmp_path: Path, *options: dict[str, Any]) -> Beacon:
    """A beacon that has connected to the agent."""
    return Beacon(minion, {"events": True}, {"runtime_directory": str(tmp_path)}, *options)


def tags(beacon: Beacon) -> list[str]:
    return [event["tag"] for event in beacon.process()]


def test_events_of_the_agent_are_reported(minion: Minion, agent: Agent, tmp_path: Path) -> None:
    beacon = follow(minion, tmp_path)

    assert tags(beacon) == []
    agent.accept()
    agent.send("socket", "state")
    assert tags(beacon) == ["agent/socket", "agent/state"]
    assert tags(beacon) == []


def test_only_the_named_events_are_reported(minion: Minion, agent: Agent, tmp_path: Path) -> None:
    beacon = Beacon(minion, {"events": ["violation"]}, {"runtime_directory": str(tmp_path)})

    tags(beacon)
    agent.accept()
    agent.send("socket", "violation", "state")

    assert tags(beacon) == ["agent/violation"]


def test_at_most_leaves_events_for_the_next_call(
    minion: Minion, agent: Agent, tmp_path: Path
) -> None:
    beacon = follow(minion, tmp_path, {"at_most": 2})

    tags(beacon)
    agent.accept()
    agent.send("socket", "socket", "state")

    assert [len(tags(beacon)), len(tags(beacon)), len(tags(beacon))] == [2, 1, 0]


def test_the_rest_of_a_line_waits_for_its_end(minion: Minion, agent: Agent, tmp_path: Path) -> None:
    beacon = follow(minion, tmp_path)

    tags(beacon)
    agent.accept()
    agent.send_bytes(b'{"event": "so')
    assert tags(beacon) == []
    agent.send_bytes(b'cket", "at": ""}\n')
    assert tags(beacon) == ["agent/socket"]


def test_the_beacon_connects_to_a_restarted_agent(
    minion: Minion, agent: Agent, tmp_path: Path
) -> None:
    beacon = follow(minion, tmp_path)

    tags(beacon)
    agent.accept()
    agent.stop()
    assert tags(beacon) == []
    agent.start()
    assert tags(beacon) == []
    agent.accept()
    agent.send("state")
    assert tags(beacon) == ["agent/state"]


def test_without_an_agent_there_are_no_events(minion: Minion, tmp_path: Path) -> None:
    assert tags(follow(minion, tmp_path)) == []


def test_close_ends_the_connection(minion: Minion, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "agent.sock"))
        listener.listen()
        beacon = follow(minion, tmp_path)
        tags(beacon)
        connection, _address = listener.accept()
        with connection:
            connection.settimeout(5)

            beacon.close()

            assert connection.makefile("rb").read() == b'{"request": "events"}\n'


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "Give the beacon sockets exactly one of match, policy and events."),
        ([{"match": {"pid": 1}}, {"events": True}], "Give the beacon sockets exactly one"),
        ([{"match": {"remote_prot": 1}}], "match.remote_prot: "),
        ([{"match": {"port": 1}}], "match.port: 1: no such key (did you mean local_port or "),
        ([{"match": ["pid"]}], "match: ['pid']: a list. Allowed: a mapping; {any: [...]}"),
        (
            [{"match": {"pid": 1}}, {"at_mots": 1}],
            "at_mots: 1: no such option (did you mean at_most?).",
        ),
        (
            [{"match": {"pid": 1}}, {"xyzzy": 1}],
            "xyzzy: 1: no such option. Allowed: one of: ",
        ),
        ([{"match": {"pid": 1}}, {"at_most": 0}], "at_most: 0: not a number from 1."),
        ([{"events": ["sockets"]}], "events: ['sockets']. Allowed: true, or any of policy, "),
        ([{"policy": {"version": 2}}], "policy"),
        ([{"policy": True}], "There is no policy: the pillar linuxnet_sockets:policy is missing"),
    ],
)
def test_wrong_options_are_refused(
    minion: Minion, options: list[dict[str, Any]], sentence: str
) -> None:
    assert Beacon(minion, *options).error().startswith(sentence)


def test_options_of_salt_are_accepted(minion: Minion, connections: Connections) -> None:
    beacon = Beacon(
        minion,
        {"match": {"remote_port": PORT}},
        {"namespaces": connections.namespaces},
        {"interval": 1},
        {"disable_during_state_run": False},
    )

    assert [beacon.ports(), beacon.ports()] == [[], targets(connections)]
