# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from linuxnet_sockets import api
from linuxnet_sockets.api import summary
from linuxnet_sockets.errors import HandlerMissing, InputError
from linuxnet_sockets.query.record import RECORD_KEYS
from tests.support.fake_kernel import FakeRoute, FakeSocket
from tests.support.fake_kernel.model import CLOSE_WAIT, LISTEN, UDP
from tests.support.fake_machine import LOCAL, REMOTE, connection
from tests.unit.api.conftest import PlainResult, Target

TCPDIAG_GETSOCK = 18
GETROUTE = 26


def info(target: Target, **options: Any) -> dict[str, Any]:
    return find(target, **options).result


def find(target: Target, **options: Any) -> PlainResult:
    return target.task(api.find, **options)


def test_no_sockets(target: Target) -> None:
    assert info(target) == {
        "changed": False,
        "sockets": [],
        "matched": 0,
        "truncated": False,
        "summary": {"state": {}, "protocol": {}, "namespace": {}},
        "warnings": [],
    }


def test_empty_selector_finds_what_plain_ss_shows(target: Target) -> None:
    target.add(connection())
    target.add(FakeSocket(local=LOCAL, local_port=22, state=LISTEN))
    target.add(FakeSocket(protocol=UDP, local=LOCAL, remote=REMOTE, remote_port=53, local_port=9))

    result = info(target)

    assert [entry["protocol"] for entry in result["sockets"]] == ["tcp"]
    assert [entry["state"] for entry in result["sockets"]] == ["established"]


def test_limit_returns_the_first_and_counts_all(target: Target) -> None:
    for port in (9, 30, 200, 4, 1000):
        target.add(connection(local_port=port))

    result = info(target, limit=3)

    assert [entry["local_port"] for entry in result["sockets"]] == [4, 9, 30]
    assert (result["matched"], result["truncated"]) == (5, True)
    assert result["summary"]["state"] == {"established": 5}


def test_sockets_are_sorted(target: Target) -> None:
    for number, remote in enumerate(("198.51.100.9", "198.51.100.10", "192.0.2.200")):
        for port in (443, 80):
            target.add(connection(remote=remote, remote_port=port, local_port=500 - number))

    listed = info(target)["sockets"]

    keys = ("namespace", "protocol", "local", "local_port", "remote", "remote_port", "cookie")
    assert listed == sorted(listed, key=lambda entry: [entry[key] for key in keys])
    assert len(listed) == 6


def test_removed_namespace_is_omitted(target_with_removed_namespace: Target) -> None:
    target_with_removed_namespace.add(connection())

    result = info(target_with_removed_namespace, namespaces=["all"])

    assert (result["matched"], result["summary"]["namespace"]) == (1, {"current": 1})


def test_limit_of_zero_only_counts(target: Target) -> None:
    target.add(connection())

    result = info(target, limit=0)

    assert (result["sockets"], result["matched"], result["truncated"]) == ([], 1, True)


def test_negative_limit_is_rejected(target: Target) -> None:
    with pytest.raises(InputError) as caught:
        info(target, limit=-1)
    assert caught.value.path == ("limit",)


def test_record_has_all_keys_with_any_details(target: Target) -> None:
    target.add(connection())

    for details in ([], ["info"], ["memory"], ["process"], ["info", "memory", "process"]):
        (entry,) = info(target, details=details)["sockets"]
        assert set(entry) == set(RECORD_KEYS)
        assert (entry["tcp_info"] is not None) == ("info" in details)
        assert (entry["memory"] is not None) == ("memory" in details)
        assert (entry["processes"] is not None) == ("process" in details)


def test_device_is_resolved_in_the_namespace(target: Target) -> None:
    target.add(connection(ifindex=2))

    (entry,) = info(target)["sockets"]

    assert entry["device"] == "eth0"


def test_groups_are_sorted_by_count(target: Target) -> None:
    for remote, count in (("198.51.100.1", 1), ("198.51.100.2", 3), ("198.51.100.3", 2)):
        for port in range(count):
            target.add(connection(remote=remote, remote_port=port + 1))

    counts = info(target, group_by="remote")["summary"]

    assert list(counts["remote"].items()) == [
        ("198.51.100.2", 3),
        ("198.51.100.3", 2),
        ("198.51.100.1", 1),
    ]
    assert counts["other"] == 0


def test_omitted_groups_are_counted(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "MAX_GROUPS", 2)
    for port, count in ((80, 4), (81, 3), (82, 2), (83, 1)):
        for number in range(count):
            target.add(connection(remote_port=port, local_port=1000 + number))

    counts = info(target, group_by="remote_port")["summary"]

    assert counts["remote_port"] == {"80": 4, "81": 3}
    assert counts["other"] == 3


def test_unknown_and_boolean_values_are_named_in_groups(target: Target) -> None:
    target.add(connection())

    assert info(target, group_by="device")["summary"]["device"] == {"unknown": 1}
    assert info(target, group_by="mapped")["summary"]["mapped"] == {"false": 1}


def test_shared_socket_is_counted_once(target: Target) -> None:
    shared = target.add(connection())
    target.process(501, comm="helper")
    target.hold(501, shared)
    target.add(connection(local_port=2))

    counts = info(target, group_by="processes")["summary"]

    assert counts["processes"] == {"app": 1, "app, helper": 1}


QUIET = {"last_data_recv": 90_000, "last_ack_recv": 90_000}
RECEIVED = {"last_data_recv": 10, "last_ack_recv": 10, "bytes_received": 5}


def test_details_verdicts_adds_verdicts(target: Target) -> None:
    target.sockets.routes.append(FakeRoute("0.0.0.0/0", ((2, "192.0.2.126"),)))
    target.add(connection(local="192.0.2.99", local_port=1, state=CLOSE_WAIT, tcp_info=QUIET))
    target.add(connection(local_port=2, remote_port=1, tcp_info=QUIET))
    target.add(connection(local_port=2, remote_port=2, tcp_info=RECEIVED))
    target.add(FakeSocket(local=LOCAL, local_port=2, state=LISTEN))
    target.add(FakeSocket(protocol=UDP, local=LOCAL, remote=REMOTE, remote_port=53, local_port=9))

    everything = {"protocol": ["tcp", "udp"]}
    old, new, gone, datagrams = info(target, match=everything, details=["verdicts"])["sockets"]
    assert [verdict["verdict"] for verdict in gone["stuck"]] == ["close_wait"]
    assert [verdict["verdict"] for verdict in gone["stranded"]] == ["address_gone"]
    assert gone["stranded"][0]["for_ms"] is None
    assert (old["stuck"], old["stranded"], new["stranded"]) == ([], [], [])
    assert (old["superseded"]["by"]["remote_port"], new["superseded"]) == (2, False)
    assert (datagrams["stuck"], datagrams["stranded"], datagrams["superseded"]) == (None, [], None)

    for entry in info(target, match=everything)["sockets"]:
        assert entry["stuck"] is entry["stranded"] is entry["superseded"] is None


def test_routes_are_looked_up_only_for_returned_sockets(target: Target) -> None:
    for number in range(50):
        target.add(connection(remote=f"198.51.100.{number}", local_port=number + 1))

    listed = info(target, details=["verdicts"], limit=2)["sockets"]

    assert [entry["stranded"][0]["verdict"] for entry in listed] == ["unroutable", "unroutable"]
    lookups = [1 for kind, _payload in target.sockets.requests if kind == GETROUTE]
    assert len(lookups) < 10


def test_verdicts_of_one_socket_are_grouped_together(target: Target) -> None:
    target.add(connection(local="192.0.2.99", local_port=1, state=CLOSE_WAIT, tcp_info=QUIET))
    target.add(connection(local_port=2, remote_port=1, tcp_info=QUIET))
    target.add(connection(local_port=2, remote_port=2, tcp_info=RECEIVED))
    target.add(FakeSocket(local=LOCAL, local_port=2, state=LISTEN))

    for key, counts in (
        ("stuck", {"none": 2, "close_wait": 1}),
        ("stranded", {"unroutable": 2, "address_gone, unroutable": 1}),
        ("superseded", {"false": 2, "true": 1}),
    ):
        assert info(target, group_by=key, limit=0)["summary"][key] == counts


def test_plain_selector_needs_a_single_dump(target: Target) -> None:
    target.add(connection())
    info(target, match={"remote_port": 443}, details=["info"])
    kinds = Counter(kind for kind, _payload in target.sockets.requests)
    assert kinds == {TCPDIAG_GETSOCK: 1}


@pytest.mark.parametrize("key", sorted(summary.GROUP_KEYS))
def test_group_by_accepts_every_key(target: Target, key: str) -> None:
    target.add(connection())

    assert sum(info(target, group_by=key)["summary"][key].values()) == 1


def test_named_protocol_without_handler_is_an_error(target: Target) -> None:
    with pytest.raises(HandlerMissing):
        info(target, match={"protocol": "raw"})


def test_implied_protocol_without_handler_is_a_warning(target: Target) -> None:
    target.add(connection())

    answer = find(target, match={"not": {"protocol": "udp"}})

    assert answer.result["matched"] == 1
    (warning,) = answer.warnings
    assert "raw_diag" in warning
