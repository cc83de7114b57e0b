# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Superseded connections on the real kernel."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from linuxnet_sockets.host import namespaces
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.netlink import inet_diag
from linuxnet_sockets.query import find
from linuxnet_sockets.selector.parse import parse_selector
from linuxnet_sockets.sockets.needs import Need
from linuxnet_sockets.sockets.session import NamespaceSession
from linuxnet_sockets.verdicts.superseded import PeerActivity
from tests.support.topologies import superseded as lab_superseded
from tests.support.topologies.connection_factory import KINDS, ConnectionFactory, RepeatedAction
from tests.support.topologies.superseded import ClientConnection, Servers, SupersededScenario
from tests.support.topologies.topology import Lab, LabNamespace, Pair
from tests.support.topologies.waiting import until

# Longer than a second, the shortest time between keepalive probes.
_SILENT_MS = 1500
_INFO = inet_diag.extension_bits([inet_diag.INFO])

_SCENES: dict[str, Callable[[Servers], SupersededScenario]] = {
    scene.__name__: scene
    for scene in (
        lab_superseded.reconnected,
        lab_superseded.reconnected_twice,
        lab_superseded.client_rebooted,
        lab_superseded.half_closed,
        lab_superseded.client_keepalive,
        lab_superseded.other_client_address,
        lab_superseded.other_server_address,
        lab_superseded.other_port,
        lab_superseded.newer_silent,
        lab_superseded.newer_closes_at_once,
        lab_superseded.older_receives_too,
        lab_superseded.older_acknowledges,
        lab_superseded.older_answers_keepalive,
    )
}
_CASES = [(scene, kind) for scene in _SCENES for kind in KINDS]


class _Played(NamedTuple):
    """A prepared scene, the start of its early part, and its ongoing traffic."""

    scene: SupersededScenario
    newer: ClientConnection
    began: float
    live: list[RepeatedAction]

    def quick(self, before: float, after: float) -> bool:
        """Whether the ongoing traffic was recent enough at the end of the dump."""
        starts = [live.last_start(before) for live in self.live]
        return all(start is not None and after - start < _SILENT_MS / 1000 for start in starts)


class Stage(NamedTuple):
    server: LabNamespace
    played: dict[tuple[str, str], _Played]
    impossible: dict[tuple[str, str], OSError]

    def of(self, scene: str, kind: str) -> _Played:
        refusal = self.impossible.get((scene, kind))
        if refusal is not None:
            pytest.skip(f"not on this kernel: {refusal}")
        return self.played[scene, kind]

    def superseded(self, ports: tuple[int, ...], silent_for: str) -> set[int]:
        """The remote ports of the connections that the selector finds."""
        host = Host()
        (namespace,) = namespaces.resolve([self.server.name])
        match = {"local_port": list(ports), "superseded": {"silent_for": silent_for}}
        with NamespaceSession(host, namespace) as session:
            found = find.find(session, parse_selector(match, names=host))
        return {sock.remote_port for sock in found}

    def findings(self, ports: tuple[int, ...]) -> dict[int, Any]:
        """The evidence for each connection, by remote port."""
        host = Host()
        (namespace,) = namespaces.resolve([self.server.name])
        with NamespaceSession(host, namespace) as session:
            snapshot = session.snapshot()
            selector = parse_selector({"local_port": list(ports)}, names=host)
            sockets = find.find(session, selector, extensions=_INFO, snapshot=snapshot)
            find.load(session, snapshot, [Need.PEERS], sockets)
            activity = PeerActivity.of(snapshot)
            return {each.remote_port: activity.evidence(each, _SILENT_MS) for each in sockets}


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Prepare all scenes together, because each has to wait."""
    early: dict[tuple[str, str], tuple[SupersededScenario, float]] = {}
    impossible: dict[tuple[str, str], OSError] = {}
    with Lab() as lab:
        pair = Pair(lab)
        pair.client.address(pair.client_device, "192.0.2.9/24", "2001:db8::9/64")
        desks = {kind: Servers(ConnectionFactory(pair, kind)) for kind in KINDS}
        for scene, kind in _CASES:
            began = time.monotonic()
            try:
                early[scene, kind] = _SCENES[scene](desks[kind]), began
            except OSError as error:
                impossible[scene, kind] = error
        going_on = {
            case: RepeatedAction(scene.repeated, 0.05)
            for case, (scene, _began) in early.items()
            if scene.repeated
        }
        time.sleep(_SILENT_MS / 1000 + 0.1)
        played: dict[tuple[str, str], _Played] = {}
        for case, (scene, began) in early.items():
            newer = scene.late()
            live = (
                [going_on[case], RepeatedAction(newer.send_from_client, 0.05)]
                if case in going_on
                else []
            )
            played[case] = _Played(scene, newer, began, live)
        yield Stage(pair.server, played, impossible)
        for each in played.values():
            for live in each.live:
                live.stop()


@pytest.mark.parametrize(("scene", "kind"), _CASES)
def test_selector_finds_superseded_connections(stage: Stage, scene: str, kind: str) -> None:
    played = stage.of(scene, kind)

    def dumped() -> tuple[set[int]] | None:
        before = time.monotonic()
        found = stage.superseded(played.scene.ports, f"{_SILENT_MS}ms")
        return (found,) if played.quick(before, time.monotonic()) else None

    # On a machine that is too slow for the traffic, connections are really silent.
    (found,) = until(dumped, "a dump during ongoing traffic", seconds=20)
    assert found == {older.remote_port for older in played.scene.older}
    assert not stage.superseded(played.scene.ports, "10m")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scene", ["reconnected", "reconnected_twice"])
def test_evidence_names_the_successor(stage: Stage, scene: str, kind: str) -> None:
    played = stage.of(scene, kind)

    findings = stage.findings(played.scene.ports)

    lasted = (time.monotonic() - played.began) * 1000
    assert findings.pop(played.newer.remote_port) is False
    assert set(findings) == {older.remote_port for older in played.scene.older}
    for evidence in findings.values():
        assert _SILENT_MS <= evidence["silent_ms"] <= lasted
        assert evidence["by"]["remote_port"] == played.newer.remote_port
        assert evidence["by"]["last_received_ms"] < evidence["silent_ms"]


def test_most_recent_connection_is_not_superseded(stage: Stage) -> None:
    played = stage.of("reconnected", "inet")
    time.sleep(0.05)

    found = stage.superseded(played.scene.ports, "30ms")

    assert found == {older.remote_port for older in played.scene.older}


def test_connection_that_receives_again_is_not_superseded(stage: Stage) -> None:
    """Afterwards the other connection has been silent for longer."""
    played = stage.of("reconnected", "inet6")
    (older,) = played.scene.older
    time.sleep(0.05)
    older.send_from_client()

    assert stage.superseded(played.scene.ports, "30ms") == {played.newer.remote_port}
