# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""state.apply of examples/salt on two minions, and the minions' connections to their master."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.salt.integration.fleet import (
    DATABASE,
    DATABASE_PORT,
    OTHER,
    OTHER_PORT,
    Fleet,
    Minion,
    fleet,
)
from tests.support.topologies.networks import ip
from tests.support.topologies.topology import LabNamespace, unavailable_reason
from tests.support.topologies.waiting import until


@pytest.fixture(scope="module")
def minions() -> Iterator[Fleet]:
    reason = unavailable_reason()
    if reason is not None:
        pytest.skip(reason)
    with fleet("one", "two") as running:
        yield running


class Connections:
    """Of a minion: two to the old database, one from an address that is gone, and another one."""

    def __init__(self, host: LabNamespace, minion: Minion, address: str) -> None:
        self.minion = minion
        self.address = address
        ip(minion.namespace, f"addr add {address}/32 dev lo")
        ip(host, f"route add {address}/32 via {minion.address}")
        self._numbers = [
            *minion.connect(DATABASE, DATABASE_PORT, 2),
            *minion.connect(OTHER, OTHER_PORT, source=(address, 0)),
            *minion.connect(OTHER, OTHER_PORT),
        ]
        ip(minion.namespace, f"addr del {address}/32 dev lo")

    def states(self) -> list[str]:
        return self.minion.states(*self._numbers)

    def is_complete(self, lines: list[str]) -> bool:
        """Whether the lines name the violators and nothing else."""
        ends = sorted(line.split(" user ")[0].partition(" -> ") for line in lines)
        return [(local.split()[-1].split(":")[0], remote) for local, _arrow, remote in ends] == [
            (self.address, f"{OTHER}:{OTHER_PORT}"),
            *[(self.minion.address, f"{DATABASE}:{DATABASE_PORT}")] * 2,
        ]


def only_state(returned: dict[str, Any]) -> dict[str, Any]:
    (state,) = returned.values()
    return dict(state)


def test_state_apply_destroys_only_violators(minions: Fleet) -> None:
    connections = {
        name: Connections(minions.host, minion, f"192.0.2.10{number}")
        for number, (name, minion) in enumerate(minions.minions.items())
    }

    expected = minions.salt("*", "state.apply", "test=True")
    for name, each in connections.items():
        state = only_state(expected[name])
        assert state["result"] is None
        assert each.is_complete(state["changes"]["destroyed"])
        assert each.states() == ["open"] * 4

    applied = minions.salt("*", "state.apply")
    for name, each in connections.items():
        state = only_state(applied[name])
        assert state["result"] is True
        assert state["changes"] == only_state(expected[name])["changes"]
        assert each.states() == ["ECONNABORTED"] * 3 + ["open"]

    again = minions.salt("*", "state.apply")
    for name in connections:
        state = only_state(again[name])
        assert (state["result"], state["changes"]) == (True, {})


def test_the_reactor_ends_what_the_beacon_reports(minions: Fleet) -> None:
    minion = minions.minions["one"]
    database, other = minion.connect(DATABASE, DATABASE_PORT), minion.connect(OTHER, OTHER_PORT)

    added = minions.salt("one", "beacons.add", "sockets", '[{"policy": true}, {"interval": 1}]')

    assert added["one"]["result"], added
    # An error is reported once only.
    until(
        lambda: minion.states(*database) == ["ECONNABORTED"],
        "the reactor destroys the connection",
        seconds=20,
    )
    assert minion.states(*other) == ["open"]
    minions.salt("one", "beacons.delete", "sockets")


def master_connections(minion: Minion) -> set[str]:
    """Connections of the minion to the ports of its master, as ss(8) shows them."""
    lines = minion.namespace.output("ss", "-Htn", "dst", minion.master).splitlines()
    return {line for line in lines if line.startswith("ESTAB")}


def destroy_everything_to_the_master(fleet: Fleet) -> None:
    before = {name: master_connections(each) for name, each in fleet.minions.items()}

    for name, minion in fleet.minions.items():
        result = fleet.salt(name, "sockets.destroy", f"remote={minion.master}")[name]

        assert result["outcomes"] == {"protected": result["matched"]}
        assert result["matched"] >= 1
        assert {each["reason"] for each in result["protected"]} == {"control_connection"}
        # The publish channel stays open for the whole life of the minion.
        assert before[name] & master_connections(minion)
    assert fleet.salt("*", "test.ping") == dict.fromkeys(fleet.minions, True)


def test_a_minion_keeps_its_connection_to_the_master(minions: Fleet) -> None:
    destroy_everything_to_the_master(minions)


def test_a_minion_keeps_its_connection_to_other_ports_of_the_master() -> None:
    with fleet("one", ports=(14505, 14506)) as running:
        destroy_everything_to_the_master(running)
