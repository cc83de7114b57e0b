# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from linuxnet_sockets import api
from linuxnet_sockets.api.drain_sockets import join_steps
from linuxnet_sockets.errors import InputError
from linuxnet_sockets.guard import holders
from linuxnet_sockets.query.record import RECORD_KEYS
from tests.support.drain_timeline import QUIET, Timeline
from tests.support.fake_kernel import FakeSocket
from tests.support.fake_kernel.model import UDP
from tests.support.fake_machine import LOCAL, REMOTE, connection
from tests.unit.api.conftest import PlainResult, numbers, plain_result
from tests.unit.module.test_documentation import module

RESULT = {
    "changed",
    "warnings",
    "finished",
    "drained",
    "matched",
    "ended",
    "arrived",
    "left",
    "by_state",
    "outcomes",
    "sent",
    "lost",
    "elapsed",
    "grace_left",
    "resume",
    "destroyed",
    "protected",
    "survivors",
    "remaining",
    "truncated",
    "engine",
}


@pytest.fixture
def target(tmp_path: Path) -> Timeline:
    machine = Timeline(tmp_path)
    own = machine.proc / "thread-self" / "ns"
    own.mkdir(parents=True)
    (own / "net").write_text("")
    return machine


def run(target: Timeline, **options: Any) -> PlainResult:
    return plain_result(api.drain(**{"match": {"state": "all"}, **options}, host=target.host))


def in_steps(target: Timeline, *, diff: bool = False, **options: Any) -> list[dict[str, Any]]:
    results = [run(target, diff=diff, step="1s", **options).result]
    while not results[-1]["finished"]:
        options["resume"] = results[-1]["resume"]
        results.append(run(target, diff=diff, step="1s", **options).result)
    return results


def full(port: int) -> dict[str, Any]:
    return {"local_port": port, "wqueue": 100, "tcp_info": {"notsent_bytes": 60}}


def test_no_matching_connection(target: Timeline) -> None:
    answer = run(target, diff=True)
    assert answer.failure is None
    assert answer.result == {
        "changed": False,
        "finished": True,
        "drained": True,
        "matched": 0,
        "ended": 0,
        "arrived": 0,
        "left": 0,
        "by_state": {},
        "outcomes": {},
        "sent": 0,
        "lost": {"unsent_bytes": 0, "unacknowledged_bytes": 0, "unread_bytes": 0},
        "elapsed": 0.0,
        "grace_left": 60.0,
        "resume": None,
        "destroyed": [],
        "protected": [],
        "survivors": [],
        "remaining": [],
        "truncated": False,
        "engine": "netlink",
        "diff": {"before": "", "after": ""},
        "warnings": [],
    }


def test_keys_of_the_result_are_documented(target: Timeline) -> None:
    assert set(run(target).result) == RESULT == set(module("socket_drain")["RETURN"]) - {"msg"}


def test_ended_and_destroyed_connections(target: Timeline) -> None:
    target.ends(5.0, target.connect(1))
    stays = target.connect(2, wqueue=100, rqueue=7, tcp_info={"notsent_bytes": 60})
    target.connect(3, remote_port=4505)
    answer = run(target, grace="10s", diff=True)
    result = answer.result
    assert answer.failure is None
    assert (result["changed"], result["drained"]) == (True, True)
    assert (result["matched"], result["ended"], result["left"]) == (3, 1, 0)
    assert result["outcomes"] == {"destroyed": 1, "protected": 1}
    assert result["elapsed"] == 10.0
    (entry,) = result["destroyed"]
    assert set(entry) == {
        *RECORD_KEYS,
        *("outcome", "engine", "reason", "reason_detail", "arrived", "sent", "lost"),
    }
    assert entry["cookie"] == f"{stays.cookie:x}"
    assert (entry["arrived"], entry["sent"], entry["send_queue"]) == (False, False, 100)
    lost = {"unsent_bytes": 60, "unacknowledged_bytes": 40, "unread_bytes": 7}
    assert entry["lost"] == result["lost"] == lost
    (entry,) = result["protected"]
    assert entry["reason"] == "control_connection"
    assert result["diff"]["before"].endswith(f"sk:{stays.cookie:x}\n")


def test_drain_without_destroy_is_no_failure(target: Timeline) -> None:
    held = target.connect(2)
    datagram = target.add(
        FakeSocket(protocol=UDP, local=LOCAL, local_port=5, remote=REMOTE, remote_port=53)
    )
    match = {"state": "all", "protocol": ["tcp", "udp"]}
    answer = run(target, destroy=False, grace=5, match=match)
    result = answer.result
    assert answer.failure is None
    assert (result["changed"], result["drained"], result["left"]) == (False, False, 2)
    assert result["by_state"] == {"established": 2}
    assert [entry["cookie"] for entry in result["remaining"]] == [
        f"{held.cookie:x}",
        f"{datagram.cookie:x}",
    ]
    assert set(result["remaining"][0]) == {*RECORD_KEYS, "arrived", "sent", "lost"}
    assert result["remaining"][1]["lost"] is None


def test_check_mode_predicts_the_cookies(target: Timeline) -> None:
    for port in range(1, 4):
        target.connect(port)
    plan = run(target, check=True, diff=True)
    done = run(target, grace="5s", diff=True)
    assert plan.result["elapsed"] == 0.0
    assert plan.result["diff"] == done.result["diff"]
    assert [entry["cookie"] for entry in plan.result["destroyed"]] == [
        entry["cookie"] for entry in done.result["destroyed"]
    ]
    again = run(target)
    assert (again.result["changed"], again.result["matched"]) == (False, 0)


def test_forbidden_arrivals_are_named(target: Timeline) -> None:
    target.connect(1)
    for port in range(2, 7):
        target.at(2.0, lambda port=port: target.connect(port) and None)
    answer = run(target, arrivals="fail")
    assert answer.failure is not None
    assert numbers(answer.failure)[0] == 5
    assert "arrivals" in answer.failure
    assert answer.failure.count("tcp established 192.0.2.1:") == 3
    assert re.search(r"\b2 more\b", answer.failure)
    assert answer.result["outcomes"] == {}
    assert len(answer.result["remaining"]) == 6
    assert [entry["arrived"] for entry in answer.result["remaining"]] == [False] + [True] * 5
    assert answer.result["resume"] is None


def test_failure_reports_connections_already_destroyed(target: Timeline) -> None:
    target.connect(1, tcp_info=QUIET)
    target.connect(2, wqueue=1)
    target.at(2.0, lambda: target.connect(7) and None)
    answer = run(target, arrivals="fail", until="sent")
    assert answer.failure is not None
    assert numbers(answer.failure)[-1] == 1
    assert answer.result["outcomes"] == {"destroyed": 1}
    target.at(9.0, lambda: target.connect(8) and None)
    answer = run(target, max_sockets="2")
    assert answer.failure is not None
    assert numbers(answer.failure) == [3, 2]
    assert "max_sockets" in answer.failure


def test_arrivals_exceed_max_sockets(target: Timeline) -> None:
    target.connect(1, tcp_info=QUIET)
    target.connect(2, wqueue=1)
    target.at(2.0, lambda: target.connect(7, wqueue=1) and None)
    answer = run(target, max_sockets="2", until="sent", grace="9s")
    assert answer.failure is not None
    assert "max_sockets" in answer.failure
    assert numbers(answer.failure)[-2:] == [2, 1]
    assert answer.result["outcomes"] == {"destroyed": 1, "limit": 2}
    assert answer.result["changed"]


def test_failure_has_advice_for_undestroyed_connections(target: Timeline) -> None:
    target.kernel.abilities.destroys = False
    target.connect(1)
    target.ends(2.0, target.connect(2))
    answer = run(target, grace="5s")
    assert answer.failure is not None
    assert numbers(answer.failure)[:3] == [1, 2, 1]
    assert "kernel_without_destroy" in answer.failure
    assert "CONFIG_INET_DIAG_DESTROY" in answer.failure
    assert len(answer.result["survivors"]) == 1
    assert not answer.result["drained"]


def test_unreadable_owners_are_a_warning(target: Timeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, the user would think that the host is drained."""

    def denied(_proc: str, _pid: int) -> holders.FdDirectory:
        raise PermissionError

    monkeypatch.setattr(holders, "FdDirectory", denied)
    sock = target.connect(1)
    answer = run(target)
    (entry,) = answer.result["protected"]
    assert (entry["cookie"], entry["reason"]) == (f"{sock.cookie:x}", "owner_unreadable")
    (warning,) = answer.warnings
    assert numbers(warning) == [1]
    assert "become" in warning
    assert run(target, grace=0, protect={"ssh_sessions": False, "kernel": False}).warnings == []


def test_steps_are_joined_to_one_result(tmp_path: Path) -> None:
    def make_timeline(base: Path) -> Timeline:
        base.mkdir()
        machine = Timeline(base)
        own = machine.proc / "thread-self" / "ns"
        own.mkdir(parents=True)
        (own / "net").write_text("")
        for port in (3, 1, 2):
            sock = machine.connect(port, wqueue=port)
            machine.at(port * 2.0, lambda sock=sock: vars(sock).update(wqueue=0, tcp_info=QUIET))
        machine.connect(9, wqueue=9)
        machine.connect(10, remote_port=4505)
        return machine

    options = {"until": "sent", "grace": "12s"}
    whole = run(make_timeline(tmp_path / "one"), diff=True, **options).result
    results = in_steps(make_timeline(tmp_path / "other"), diff=True, **options)
    assert len(results) > 10
    assert [len(step["destroyed"]) for step in results if step["destroyed"]] == [1, 1, 1, 1]
    assert all(step["protected"] == [] for step in results[:-1])
    one = join_steps(results, 1000)
    for name in sorted(RESULT - {"destroyed", "protected", "elapsed"}):
        assert one[name] == whole[name], name
    for name in ("destroyed", "protected"):
        assert [_without_inode(entry) for entry in one[name]] == [
            _without_inode(entry) for entry in whole[name]
        ]
    assert sorted(one["diff"]["before"].splitlines()) == sorted(
        whole["diff"]["before"].splitlines()
    )
    cut = join_steps(results, 2)
    assert [entry["local_port"] for entry in cut["destroyed"]] == [1, 2]
    assert cut["truncated"]
    assert not one["truncated"]


def _without_inode(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the entry without inode: the numbers differ between fake machines."""
    return {key: value for key, value in entry.items() if key != "inode"}


@pytest.mark.parametrize(
    "change",
    [
        {"match": {"state": "established"}},
        {"grace": "59s"},
        {"until": "sent"},
        {"destroy": False},
        {"namespaces": ["current", "all"]},
        {"protect": {"kernel": False}},
        {"max_sockets": "5"},
        {"arrivals": "ignore"},
    ],
)
def test_resume_token_of_another_drain_is_rejected(
    target: Timeline, change: dict[str, Any]
) -> None:
    target.connect(1)
    resume = run(target, step="1s").result["resume"]
    with pytest.raises(InputError) as caught:
        run(target, step="1s", resume=resume, **change)
    assert caught.value.path == ("resume", "options")
    assert run(target, step="2s", limit=5, resume=resume).failure is None


def test_limit_truncates_lists_but_not_counts(target: Timeline) -> None:
    for port in range(1, 8):
        target.connect(port)
    result = run(target, grace=0, limit=2).result
    assert [entry["local_port"] for entry in result["destroyed"]] == [1, 2]
    assert result["truncated"]
    assert result["outcomes"] == {"destroyed": 7}
    for port in range(1, 8):
        target.connect(port)
    result = run(target, grace=0, limit=2, destroy=False).result
    assert (len(result["remaining"]), result["left"], result["truncated"]) == (2, 7, True)


def test_a_cut_list_keeps_sockets_with_data_in_flight(target: Timeline) -> None:
    for port in range(1, 8):
        target.add(connection(**(full(port) if port in (4, 6) else {"local_port": port})))
    protect = {"selectors": [{"state": "all"}]}
    for limit, ports in ((1, [4]), (3, [1, 4, 6])):
        result = run(target, protect=protect, limit=limit).result
        assert [entry["local_port"] for entry in result["protected"]] == ports


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"match": {}}, ("match",)),
        ({"match": {"protocol": "tcp"}}, ("match",)),
        ({"grace": "soon"}, ("grace",)),
        ({"grace": "-1s"}, ("grace",)),
        ({"settle": ""}, ("settle",)),
        ({"step": "99ms"}, ("step",)),
        ({"step": "x"}, ("step",)),
        ({"resume": {}}, ("resume", "version")),
        ({"pace": "fast"}, ("pace",)),
        ({"max_sockets": "many"}, ("max_sockets",)),
        ({"limit": -1}, ("limit",)),
    ],
)
def test_invalid_option_does_nothing(
    target: Timeline, options: dict[str, Any], path: tuple[str, ...]
) -> None:
    target.connect(1)
    with pytest.raises(InputError) as caught:
        run(target, **options)
    assert caught.value.path == path
    assert target.snapshots == []


def test_progress_is_reported_until_the_drain_is_finished(target: Timeline) -> None:
    target.ends(3.0, target.connect(1))
    target.connect(2, wqueue=100)
    seen: list[api.DrainResult] = []

    result = api.drain(
        {"state": "all"}, grace="7s", diff=True, progress=seen.append, host=target.host
    )

    assert [state.finished for state in seen] == [False] * len(seen)
    assert seen[0].left == 2
    assert len(seen) >= 3
    assert result.finished
    assert (result.ended, result.outcomes, len(result.destroyed)) == (1, {"destroyed": 1}, 1)
    assert result.resume is None
    assert result.diff is not None
    assert result.diff["before"].count("\n") == 1


def test_progress_does_not_change_the_result(tmp_path: Path) -> None:
    results = []
    for folder, options in (("a", {}), ("b", {"progress": lambda _state: None})):
        machine = Timeline(tmp_path / folder)
        own = machine.proc / "thread-self" / "ns"
        own.mkdir(parents=True)
        (own / "net").write_text("")
        machine.ends(3.0, machine.connect(1))
        machine.connect(2, wqueue=100)
        result = run(machine, grace="7s", **options).result
        for key in ("elapsed", "grace_left"):
            del result[key]
        for entry in result["destroyed"]:
            del entry["cookie"], entry["inode"]
        results.append(result)
    assert results[0] == results[1]
