# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import ipaddress
import json
from typing import Any

import pytest

from linuxnet_sockets import api
from linuxnet_sockets.errors import InputError
from linuxnet_sockets.verdicts.stranded import STRANDED
from linuxnet_sockets.verdicts.stuck import STUCK
from tests.support.fake_kernel import FakeRoute, FakeSocket
from tests.support.fake_kernel.model import CLOSE, CLOSE_WAIT, LISTEN, UDP
from tests.support.fake_machine import LOCAL, REMOTE, connection
from tests.unit.api.conftest import Target

CACHEABLE = 64 * 1024


def facts(target: Target, limit: int = 50) -> dict[str, Any]:
    return target.task(api.facts, limit=limit).result


def test_totals_count_every_protocol_and_state(target: Target) -> None:
    target.add(connection())
    target.add(connection(local_port=2))
    target.add(FakeSocket(local=LOCAL, local_port=22, state=LISTEN))
    target.add(FakeSocket(protocol=UDP, local=LOCAL, local_port=53, state=CLOSE))

    found = facts(target)

    assert found["totals"] == {
        "tcp": {"established": 2, "listening": 1},
        "udp": {"closed": 1},
    }
    assert found["kernel"] == "6.18.0"


def test_verdicts_are_counted_including_zeros(target: Target) -> None:
    target.sockets.routes.append(FakeRoute("0.0.0.0/0", ((2, "192.0.2.126"),)))
    quiet = {"last_data_recv": 90_000, "last_ack_recv": 90_000, "bytes_received": 1}
    for number in range(3):
        target.add(connection(local_port=number + 1, state=CLOSE_WAIT, tcp_info=quiet))
    fresh = {"last_data_recv": 20, "last_ack_recv": 20}
    target.add(connection(local_port=9, state=CLOSE_WAIT, tcp_info=fresh))
    target.add(connection(local="192.0.2.99", local_port=8))
    target.add(FakeSocket(local=LOCAL, local_port=7, state=LISTEN))
    target.add(connection(local_port=7, remote_port=1, tcp_info=quiet))
    received = {**fresh, "bytes_received": 100}
    target.add(connection(local_port=7, remote_port=2, tcp_info=received))

    found = facts(target)["verdicts"]

    assert found["stuck"] == {**dict.fromkeys(STUCK, 0), "close_wait": 3}
    assert found["stranded"] == {**dict.fromkeys(STRANDED, 0), "address_gone": 1}
    assert found["superseded"] == 1


def test_verdicts_of_many_sockets_are_counted(target: Target) -> None:
    quiet = {"last_data_recv": 90_000, "last_ack_recv": 90_000}
    for number in range(5000):
        target.sockets.add(
            connection(local_port=number + 1, state=CLOSE_WAIT, tcp_info=quiet, cookie=number + 1)
        )

    assert facts(target)["verdicts"]["stuck"]["close_wait"] == 5000


def test_listeners_have_their_processes(target: Target) -> None:
    target.add(connection())
    target.add(FakeSocket(local=LOCAL, local_port=22, state=LISTEN))
    target.add(FakeSocket(protocol=UDP, local=LOCAL, local_port=53, state=CLOSE), holder=None)

    found = facts(target)

    assert [
        (entry["protocol"], entry["local_port"], entry["processes"]) for entry in found["listeners"]
    ] == [("tcp", 22, ["app"]), ("udp", 53, None)]
    assert found["listeners_total"] == 2


def test_peers_are_sorted_by_number_of_sockets(target: Target) -> None:
    for number in range(30):
        for port in range(1 + (number == 7)):
            target.add(connection(remote=f"198.51.100.{number}", remote_port=80 + port))

    found = facts(target)

    assert found["peers"][0] == {"remote": "198.51.100.7", "sockets": 2}
    assert (len(found["peers"]), found["peers_total"]) == (20, 30)


def test_removed_namespace_is_omitted(target_with_removed_namespace: Target) -> None:
    target_with_removed_namespace.add(connection())

    found = facts(target_with_removed_namespace)

    assert [namespace["name"] for namespace in found["namespaces"]] == ["current"]
    assert (found["namespaces_total"], found["totals"]) == (1, {"tcp": {"established": 1}})


def test_support_and_permission_come_from_the_kernel(target: Target) -> None:
    found = facts(target)
    assert found["support"]["tcp"]["verdict"] == "supported"
    assert found["support"]["mptcp"]["verdict"] == "no_destroy_handler"
    raw = found["support"]["raw"]
    assert "ENOENT" in raw.pop("how")
    assert raw == {
        "verdict": "handler_missing",
        "module": "raw_diag",
        "module_available": None,
        "reason": None,
    }
    assert found["kernel_config"]["source"] is None
    assert found["may_destroy"]

    target.kernel.abilities.privileged = False
    target.kernel.abilities.destroys = False
    found = facts(target)
    assert found["support"]["tcp"]["verdict"] == "built_without"
    assert not found["may_destroy"]
    assert found["namespaces"] == [{"name": "current", "may_destroy": False, "sockets": 0}]


def test_kernel_config_and_modules_are_read(target: Target) -> None:
    modules = target.root / "lib" / "modules" / target.release
    modules.mkdir(parents=True)
    (modules / "modules.dep").write_text(
        "kernel/net/ipv4/raw_diag.ko.xz: kernel/net/inet_diag.ko\n"
    )
    (modules / "config").write_text("CONFIG_INET_RAW_DIAG=m\n# CONFIG_INET_MPTCP_DIAG is not set\n")

    found = facts(target)

    assert found["support"]["raw"]["module_available"] is True
    assert found["kernel_config"]["source"] == str(modules / "config")
    options = found["kernel_config"]["options"]
    assert options["CONFIG_INET_RAW_DIAG"] == "m"
    assert options["CONFIG_INET_MPTCP_DIAG"] == "n"
    assert options["CONFIG_INET_DIAG_DESTROY"] is None


@pytest.mark.parametrize(
    ("effective", "reason"),
    [("0000000000000000", "no_capability"), ("000001ffffffffff", "foreign_user_namespace")],
)
def test_missing_permission_means_no_support(target: Target, effective: str, reason: str) -> None:
    (target.proc / "self").mkdir()
    (target.proc / "self" / "status").write_text(f"Name:\tpython3\nCapEff:\t{effective}\n")
    target.kernel.abilities.privileged = False

    found = facts(target)

    assert (found["support"]["tcp"]["verdict"], found["support"]["tcp"]["reason"]) == (
        "not_permitted",
        reason,
    )
    assert found["support"]["raw"]["verdict"] == "handler_missing"
    assert not found["may_destroy"]


def test_facts_stay_small_with_many_sockets(target: Target) -> None:
    first = int(ipaddress.ip_address("2001:db8:ffff:ffff:ffff:ffff:1000:1000"))
    for number in range(3000):
        address = str(ipaddress.ip_address(first + number))
        target.sockets.add(
            FakeSocket(local=address, local_port=50_000, remote=address, remote_port=50_001),
            FakeSocket(local=address, local_port=50_000, state=LISTEN, uid=4_000_000_000 + number),
        )

    found = facts(target, limit=200)

    assert found["listeners_total"] == found["peers_total"] == 3000
    assert len(found["listeners"]) == 200
    assert len(json.dumps(found)) < CACHEABLE


def test_facts_contain_no_cookies_or_inodes(target: Target) -> None:
    sock = target.add(FakeSocket(local=LOCAL, local_port=22, state=LISTEN, cookie=0xABCDEF123))
    target.add(connection(remote=REMOTE))

    text = json.dumps(facts(target))

    assert "abcdef123" not in text
    assert str(sock.inode) not in text


@pytest.mark.parametrize("limit", [-1, 201])
def test_limit_out_of_range_is_rejected(target: Target, limit: int) -> None:
    with pytest.raises(InputError) as caught:
        facts(target, limit)
    assert caught.value.path == ("limit",)
