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
from tests.unit.api.conftest import Answer, Target

TCPDIAG_GETSOCK = 18
GETROUTE = 26


def info(target: Target, **options: Any) -> dict[str, Any]:
    return answered(target, **options).result


def answered(target: Target, **options: Any) -> Answer:
    return target.task(api.find, **options)


def test_without_sockets_there_are_none(target: Target) -> None:
    assert info(target) == {
        "changed": False,
        "sockets": [],
        "matched": 0,
        "truncated": False,
        "summary": {"state": {}, "protocol": {}, "namespace": {}},
    }


def test_an_empty_selector_is_what_plain_ss_shows(target: Target) -> None:
    target.add(connection())
    target.add(FakeSocket(local=LOCAL, local_port=22, state=LISTEN))
    target.add(FakeSocket(protocol=UDP, local=LOCAL, remote=REMOTE, remote_port=53, local_port=9))

    result = info(target)

    assert [each["protocol"] for each in result["sockets"]] == ["tcp"]
    assert [each["state"] for each in result["sockets"]] == ["established"]


def test_the_first_in_order_are_told_and_all_are_counted(target: Target) -> None:
    for port in (9, 30, 200, 4, 1000):
        target.add(connection(local_port=port))

    result = info(target, limit=3)

    assert [each["local_port"] for each in result["sockets"]] == [4, 9, 30]
    assert (result["matched"], result["truncated"]) == (5, True)
    assert result["summary"]["state"] == {"established": 5}


def test_the_order_is_that_of_records(target: Target) -> None:
    for number, remote in enumerate(("198.51.100.9", "198.51.100.10", "192.0.2.200")):
        for port in (443, 80):
            target.add(connection(remote=remote, remote_port=port, local_port=500 - number))

    listed = info(target)["sockets"]

    keys = ("namespace", "protocol", "local", "local_port", "remote", "remote_port", "cookie")
    assert listed == sorted(listed, key=lambda each: [each[key] for key in keys])
    assert len(listed) == 6


def test_a_namespace_that_is_gone_by_the_look_is_left_out(target_with_vanished: Target) -> None:
    target_with_vanished.add(connection())

    result = info(target_with_vanished, namespaces=["all"])

    assert (result["matched"], result["summary"]["namespace"]) == (1, {"current": 1})


def test_a_limit_of_nothing_counts_alone(target: Target) -> None:
    target.add(connection())

    result = info(target, limit=0)

    assert (result["sockets"], result["matched"], result["truncated"]) == ([], 1, True)


def test_a_negative_limit_is_refused(target: Target) -> None:
    with pytest.raises(InputError) as caught:
        info(target, limit=-1)
    assert caught.value.path == ("limit",)


def test_every_key_is_there_whatever_was_asked(target: Target) -> None:
    target.add(connection())

    for details in ([], ["info"], ["memory"], ["process"], ["info", "memory", "process"]):
        (entry,) = info(target, details=details)["sockets"]
        assert set(entry) == set(RECORD_KEYS)
        assert (entry["tcp_info"] is not None) == ("info" in details)
        assert (entry["memory"] is not None) == ("memory" in details)
        assert (entry["processes"] is not None) == ("process" in details)


def test_the_device_is_named_though_the_namespace_is_left_again(target: Target) -> None:
    target.add(connection(ifindex=2))

    (entry,) = info(target)["sockets"]

    assert entry["device"] == "eth0"


def test_groups_come_with_the_most_frequent_first(target: Target) -> None:
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


def test_groups_that_are_not_shown_are_counted(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "MAX_GROUPS", 2)
    for port, count in ((80, 4), (81, 3), (82, 2), (83, 1)):
        for number in range(count):
            target.add(connection(remote_port=port, local_port=1000 + number))

    counts = info(target, group_by="remote_port")["summary"]

    assert counts["remote_port"] == {"80": 4, "81": 3}
    assert counts["other"] == 3


def test_what_is_not_known_or_not_a_word_has_a_name_in_groups(target: Target) -> None:
    target.add(connection())

    assert info(target, group_by="device")["summary"]["device"] == {"unknown": 1}
    assert info(target, group_by="mapped")["summary"]["mapped"] == {"false": 1}


def test_processes_that_share_a_socket_count_it_once(target: Target) -> None:
    shared = target.add(connection())
    target.process(501, comm="helper")
    target.hold(501, shared)
    target.add(connection(local_port=2))

    counts = info(target, group_by="processes")["summary"]

    assert counts["processes"] == {"app": 1, "app, helper": 1}


QUIET = {"last_data_recv": 90_000, "last_ack_recv": 90_000}
HEARD = {"last_data_recv": 10, "last_ack_recv": 10, "bytes_received": 5}


def test_verdicts_are_told_where_they_are_asked_for(target: Target) -> None:
    target.sockets.routes.append(FakeRoute("0.0.0.0/0", ((2, "192.0.2.126"),)))
    target.add(connection(local="192.0.2.99", local_port=1, state=CLOSE_WAIT, tcp_info=QUIET))
    target.add(connection(local_port=2, remote_port=1, tcp_info=QUIET))
    target.add(connection(local_port=2, remote_port=2, tcp_info=HEARD))
    target.add(FakeSocket(local=LOCAL, local_port=2, state=LISTEN))
    target.add(FakeSocket(protocol=UDP, local=LOCAL, remote=REMOTE, remote_port=53, local_port=9))

    everything = {"protocol": ["tcp", "udp"]}
    old, new, gone, datagrams = info(target, match=everything, details=["verdicts"])["sockets"]
    assert [each["verdict"] for each in gone["stuck"]] == ["close_wait"]
    assert [each["verdict"] for each in gone["stranded"]] == ["address_gone"]
    assert gone["stranded"][0]["for_ms"] is None
    assert (old["stuck"], old["stranded"], new["stranded"]) == ([], [], [])
    assert (old["superseded"]["by"]["remote_port"], new["superseded"]) == (2, False)
    assert (datagrams["stuck"], datagrams["stranded"], datagrams["superseded"]) == (None, [], None)

    for entry in info(target, match=everything)["sockets"]:
        assert entry["stuck"] is entry["stranded"] is entry["superseded"] is None


def test_routes_are_asked_for_the_sockets_that_are_told_alone(target: Target) -> None:
    for number in range(50):
        target.add(connection(remote=f"198.51.100.{number}", local_port=number + 1))

    listed = info(target, details=["verdicts"], limit=2)["sockets"]

    assert [each["stranded"][0]["verdict"] for each in listed] == ["unroutable", "unroutable"]
    look_ups = [1 for kind, _payload in target.sockets.requests if kind == GETROUTE]
    assert len(look_ups) < 10


def test_verdicts_upon_one_socket_are_counted_together(target: Target) -> None:
    target.add(connection(local="192.0.2.99", local_port=1, state=CLOSE_WAIT, tcp_info=QUIET))
    target.add(connection(local_port=2, remote_port=1, tcp_info=QUIET))
    target.add(connection(local_port=2, remote_port=2, tcp_info=HEARD))
    target.add(FakeSocket(local=LOCAL, local_port=2, state=LISTEN))

    for key, counts in (
        ("stuck", {"none": 2, "close_wait": 1}),
        ("stranded", {"unroutable": 2, "address_gone, unroutable": 1}),
        ("superseded", {"false": 2, "true": 1}),
    ):
        assert info(target, group_by=key, limit=0)["summary"][key] == counts


def test_what_is_not_asked_for_is_not_paid_for(target: Target) -> None:
    target.add(connection())
    info(target, match={"remote_port": 443}, details=["info"])
    kinds = Counter(kind for kind, _payload in target.sockets.requests)
    assert kinds == {TCPDIAG_GETSOCK: 1}


@pytest.mark.parametrize("key", sorted(summary.GROUP_KEYS))
def test_every_key_can_group(target: Target, key: str) -> None:
    target.add(connection())

    assert sum(info(target, group_by=key)["summary"][key].values()) == 1


def test_a_protocol_that_was_named_and_cannot_be_listed_is_an_error(target: Target) -> None:
    with pytest.raises(HandlerMissing):
        info(target, match={"protocol": "raw"})


def test_one_that_was_merely_admitted_is_a_warning(target: Target) -> None:
    target.add(connection())

    answer = answered(target, match={"not": {"protocol": "udp"}})

    assert answer.result["matched"] == 1
    (warning,) = answer.warnings
    assert "raw_diag" in warning
