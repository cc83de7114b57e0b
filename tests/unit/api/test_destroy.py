# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
from typing import Any

import pytest

from linuxnet_sockets import api
from linuxnet_sockets.destroy import outcomes
from linuxnet_sockets.errors import InputError, ProtectFileError
from linuxnet_sockets.messages.results import ADVICE
from linuxnet_sockets.query.record import RECORD_KEYS
from tests.support.fake_kernel import FakeSocket
from tests.support.fake_kernel.model import CLOSE_WAIT, LISTEN, UDP
from tests.support.fake_machine import LOCAL, LOCAL6, REMOTE, REMOTE6, connection
from tests.unit.api.conftest import PlainResult, Target, numbers

ALL = {"state": "all", "protocol": ["tcp", "udp"]}


def destroy(target: Target, **options: Any) -> PlainResult:
    return target.task(api.destroy, **{"match": {"state": "all"}, **options})


def udp(port: int, *, remote: str | None = REMOTE) -> FakeSocket:
    return FakeSocket(
        protocol=UDP, local=LOCAL, local_port=port, remote=remote, remote_port=53 if remote else 0
    )


def test_no_matching_socket_is_no_failure(target: Target) -> None:
    answer = destroy(target, diff=True)

    assert answer.failure is None
    assert answer.result == {
        "changed": False,
        "matched": 0,
        "outcomes": {},
        "engine": "netlink",
        "destroyed": [],
        "protected": [],
        "survivors": [],
        "truncated": False,
        "diff": {"before": "", "after": ""},
        "warnings": [],
    }


def test_sockets_are_listed_by_outcome(target: Target) -> None:
    gone = target.add(connection())
    target.add(FakeSocket(local=LOCAL, local_port=22, state=LISTEN))
    held = target.add(connection(local_port=9, errno=errno.EPERM))

    answer = destroy(target)
    result = answer.result

    assert result["changed"]
    assert result["matched"] == 3
    assert result["outcomes"] == {"destroyed": 1, "protected": 1, "not_permitted": 1}
    (entry,) = result["destroyed"]
    assert entry["cookie"] == f"{gone.cookie:x}"
    assert (entry["outcome"], entry["engine"], entry["reason"]) == ("destroyed", "netlink", None)
    (entry,) = result["protected"]
    assert (entry["outcome"], entry["engine"], entry["reason"]) == ("protected", None, "listeners")
    (entry,) = result["survivors"]
    assert (entry["outcome"], entry["cookie"]) == ("not_permitted", f"{held.cookie:x}")
    assert answer.failure is not None
    assert numbers(answer.failure)[:2] == [1, 3]
    assert "not_permitted" in answer.failure
    assert "CAP_NET_ADMIN" in answer.failure
    assert "trace" in answer.failure


def test_entry_is_a_record_with_four_more_keys(target: Target) -> None:
    target.add(connection(tcp_info={"last_data_recv": 70, "last_data_sent": 50}))

    (entry,) = destroy(target).result["destroyed"]

    assert set(entry) == {*RECORD_KEYS, "outcome", "engine", "reason", "reason_detail"}
    assert entry["state"] == "established"
    assert entry["idle_ms"] == 50


@pytest.mark.parametrize("check", [True, False])
def test_entry_has_the_evidence_of_selected_verdicts(target: Target, check: bool) -> None:
    clocks = {"last_data_recv": 2000, "last_ack_recv": 2000}
    target.add(connection(local="192.0.2.99", state=CLOSE_WAIT, tcp_info=clocks))
    match = {
        "stuck": {"verdict": "close_wait", "for": "1s"},
        "stranded": ["address_gone", "no_carrier"],
    }

    (entry,) = destroy(target, match=match, check=check).result["destroyed"]

    assert [(verdict["verdict"], verdict["for_ms"]) for verdict in entry["stuck"]] == [
        ("close_wait", 1990)
    ]
    assert "address_gone" in [verdict["verdict"] for verdict in entry["stranded"]]


def test_check_mode_predicts_the_cookies_and_destroys_nothing(target: Target) -> None:
    for port in (1, 2, 3):
        target.add(connection(local_port=port))
    target.add(udp(7))

    plan = destroy(target, check=True, diff=True, match=ALL)
    assert target.sockets.destroyed == []
    done = destroy(target, diff=True, match=ALL)

    assert [entry["cookie"] for entry in plan.result["destroyed"]] == [
        entry["cookie"] for entry in done.result["destroyed"]
    ]
    assert plan.result["outcomes"] == done.result["outcomes"]
    assert plan.result["diff"] == done.result["diff"]
    assert plan.result["changed"]


def test_diff_shows_only_changes(target: Target) -> None:
    one = target.add(connection(local_port=1, uid=33))
    six = target.add(FakeSocket(local=LOCAL6, local_port=2, remote=REMOTE6, remote_port=443))
    stays = target.add(udp(7))
    target.add(FakeSocket(local=LOCAL, local_port=22, state=LISTEN))

    diff = destroy(target, diff=True, match=ALL).result["diff"]

    assert diff["before"].splitlines() == [
        f"tcp established 192.0.2.1:1 -> {REMOTE}:443 user www-data {_tail(one)}",
        f"tcp established [{LOCAL6}]:2 -> [{REMOTE6}]:443 user root {_tail(six)}",
        f"udp established 192.0.2.1:7 -> {REMOTE}:53 user root {_tail(stays)}",
    ]
    assert diff["after"] == f"udp 192.0.2.1:7 user root {_tail(stays)}\n"


def _tail(sock: FakeSocket) -> str:
    return f"namespace current sk:{sock.cookie:x}"


def test_diff_is_optional(target: Target) -> None:
    target.add(connection())

    assert "diff" not in destroy(target).result


def test_limit_truncates_lists_but_not_counts(target: Target) -> None:
    for port in range(1, 8):
        target.add(connection(local_port=port))

    result = destroy(target, limit=2, diff=True).result

    assert [entry["local_port"] for entry in result["destroyed"]] == [1, 2]
    assert result["truncated"]
    assert result["outcomes"] == {"destroyed": 7}
    assert result["diff"]["before"].splitlines()[2:] == ["and 5 more"]


def test_second_run_changes_nothing(target: Target) -> None:
    target.add(connection())
    target.add(udp(7))

    first, second = (destroy(target, match=ALL) for _run in range(2))

    assert first.result["changed"]
    assert not second.result["changed"]
    assert second.failure is None


@pytest.mark.parametrize("check", [True, False])
def test_max_sockets_exceeded_destroys_nothing(target: Target, check: bool) -> None:
    for port in range(1, 5):
        target.add(connection(local_port=port))

    answer = destroy(target, max_sockets="3", check=check)

    assert target.sockets.destroyed == []
    assert answer.result["outcomes"] == {"limit": 4}
    assert len(answer.result["survivors"]) == 4
    assert answer.failure is not None
    assert numbers(answer.failure) == [4, 3]
    assert "max_sockets" in answer.failure


def test_max_sockets_as_share_of_unprotected_sockets(target: Target) -> None:
    for port in range(1, 5):
        target.add(connection(local_port=port))

    answer = destroy(target, match={"local_port": "1-2"}, max_sockets="25%")

    assert answer.failure is not None
    assert numbers(answer.failure) == [2, 25, 4]
    assert "25%" in answer.failure
    assert "max_sockets" in answer.failure
    assert destroy(target, match={"local_port": "1-2"}, max_sockets="50%").failure is None


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"match": {}}, ("match",)),
        ({"match": {"protocol": "tcp"}}, ("match",)),
        ({"match": {"remote": []}}, ("match", "remote")),
        ({"match": {"not": {}}}, ("match", "not")),
        ({"match": {"any": []}}, ("match", "any")),
        ({"match": {"remote_port": 70000}}, ("match", "remote_port")),
        ({"match": {"remot": "192.0.2.1"}}, ("match", "remot")),
        ({"match": {"remote": "192.0.2"}}, ("match", "remote")),
        ({"max_sockets": ""}, ("max_sockets",)),
        ({"max_sockets": "many"}, ("max_sockets",)),
        ({"pace": "fast"}, ("pace",)),
        ({"pace": "0/s"}, ("pace",)),
        ({"limit": -1}, ("limit",)),
        ({"namespaces": []}, ("namespaces",)),
        ({"protect": {"selectors": [{}]}}, ("protect", "selectors", 0)),
    ],
)
def test_invalid_option_destroys_nothing(
    target: Target, options: dict[str, Any], path: tuple[str | int, ...]
) -> None:
    target.add(connection())

    with pytest.raises(InputError) as caught:
        destroy(target, **options)

    assert caught.value.path == path
    assert target.sockets.destroyed == []


def test_every_failing_outcome_has_advice() -> None:
    assert set(ADVICE) == outcomes.FAILING - {outcomes.LIMIT}


def test_kernel_without_destroy(target: Target) -> None:
    target.add(connection())
    target.kernel.abilities.destroys = False

    for check in (True, False):
        answer = destroy(target, check=check)
        assert answer.result["outcomes"] == {"kernel_without_destroy": 1}
        assert answer.failure is not None
        assert "CONFIG_INET_DIAG_DESTROY" in answer.failure


@pytest.mark.parametrize("check", [False, True])
def test_protection_file_that_others_may_write_destroys_nothing(
    target: Target, check: bool
) -> None:
    target.add(connection())
    target.files.mkdir()
    file = target.files / "own.json"
    file.write_text("[]")
    file.chmod(0o666)
    with pytest.raises(ProtectFileError):
        destroy(target, check=check)
    assert target.sockets.destroyed == []
    file.chmod(0o644)
    assert destroy(target, check=check).result["changed"]
