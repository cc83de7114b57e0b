# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from linuxnet_sockets import api
from linuxnet_sockets.api import stuck
from linuxnet_sockets.errors import InputError
from linuxnet_sockets.verdicts.stranded import STRANDED
from linuxnet_sockets.verdicts.stuck import STUCK
from tests.support.fake_kernel import FakeRoute
from tests.support.fake_kernel.model import CLOSE_WAIT
from tests.support.fake_machine import connection
from tests.unit.api.conftest import Target

QUIET = {"last_data_recv": 90_000, "last_ack_recv": 90_000, "bytes_received": 1}


@pytest.fixture
def machine(target: Target) -> Target:
    """A connection in CLOSE_WAIT, one without its address, one that may be healthy, one healthy."""
    target.sockets.routes.append(FakeRoute("0.0.0.0/0", ((2, "192.0.2.126"),)))
    target.add(connection(local_port=1, state=CLOSE_WAIT, tcp_info=QUIET))
    target.add(connection(local="192.0.2.99", local_port=2))
    target.add(connection(local_port=3, tcp_info={**QUIET, "last_data_recv": 9 * 3_600_000}))
    target.add(connection(local_port=4, tcp_info={"last_data_recv": 5, "last_ack_recv": 5}))
    return target


def report(target: Target, **options: Any) -> api.StuckReport:
    return api.stuck_report(**options, host=target.host)


def test_connections_are_classified_by_their_first_verdict(machine: Target) -> None:
    found = report(machine)
    leading = {item.record["local_port"]: item.leading for item in found.connections}
    assert leading[1] == "close_wait"
    assert leading[2] == "address_gone"
    assert 4 not in leading
    assert found.verdicts == {name: list(leading.values()).count(name) for name in found.verdicts}
    assert found.matched == len(leading)


def test_certain_connections_come_first_then_the_longest(machine: Target) -> None:
    machine.add(connection(local_port=9, state=CLOSE_WAIT, tcp_info={**QUIET, "last_data_recv": 1}))
    found = report(machine, stuck=[{"verdict": name, "for": 0} for name in STUCK])
    order = [(not item.certain, -(item.for_ms or 0)) for item in found.connections]
    assert order == sorted(order)
    assert found.certain == sum(item.certain for item in found.connections)


def test_selector_narrows_the_report(machine: Target) -> None:
    found = report(machine, match={"local_port": 2})
    assert [item.record["local_port"] for item in found.connections] == [2]
    assert found.connections[0].certain
    assert found.connections[0].verdicts[0]["verdict"] == "address_gone"


def test_verdicts_can_be_chosen(machine: Target) -> None:
    found = report(machine, stuck=["close_wait"], stranded=[])
    assert set(found.verdicts) == {"close_wait"}


def test_superseded_connections_of_a_port_are_reported(target: Target) -> None:
    target.sockets.routes.append(FakeRoute("0.0.0.0/0", ((2, "192.0.2.126"),)))
    target.add(connection(local_port=7, remote_port=1, tcp_info=QUIET))
    received = {"last_data_recv": 20, "last_ack_recv": 20, "bytes_received": 100}
    target.add(connection(local_port=7, remote_port=2, tcp_info=received))

    found = report(target, stuck=[], stranded=[], superseded_ports=[7])

    (only,) = found.connections
    assert (only.leading, only.record["remote_port"]) == ("superseded", 1)
    assert only.verdicts[0]["evidence"]["other_remote_port"] == 2


def test_limit_cuts_the_list_and_not_the_count(machine: Target) -> None:
    found = report(machine, limit=1)
    assert (len(found.connections), found.truncated) == (1, True)
    assert found.matched > 1


def test_report_as_plain_data(machine: Target) -> None:
    found = report(machine).to_dict()
    assert set(found) == {
        "connections",
        "matched",
        "truncated",
        "certain",
        "verdicts",
        "warnings",
    }
    assert set(found["connections"][0]) == {"leading", "certain", "for_ms", "verdicts", "record"}


def test_report_of_no_verdicts_is_an_error(target: Target) -> None:
    with pytest.raises(InputError):
        report(target, stuck=[], stranded=[])


def test_every_verdict_has_a_rank() -> None:
    assert set(stuck.PRECEDENCE) == {*STUCK, *STRANDED, "superseded"}
    assert set(stuck.PRECEDENCE) > stuck.UNCERTAIN
