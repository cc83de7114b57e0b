# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drains in steps, and the resume token between them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from linuxnet_sockets.drain.model import Progress, Report
from linuxnet_sockets.drain.resume_token import decode_resume_token, encode_resume_token
from linuxnet_sockets.errors import InputError
from linuxnet_sockets.host.namespaces import Namespace
from tests.support.drain_timeline import QUIET, Timeline, outcomes_of
from tests.support.fake_kernel import FakeSocket
from tests.support.fake_kernel.model import CLOSE_WAIT, UDP
from tests.support.fake_machine import LOCAL, REMOTE

DIGEST = "0" * 64
BOOT = "e5accf53-2ad6-413f-9e7a-c74c5c41fc7b"


def pass_on(machine: Timeline, report: Report) -> Progress:
    """Return the progress as the next process decodes it."""
    token = json.dumps(encode_resume_token(report.progress, machine.host, DIGEST))
    return decode_resume_token(json.loads(token), machine.host, DIGEST)


def in_steps(machine: Timeline, *arguments: Any, step: float, **options: Any) -> list[Report]:
    reports: list[Report] = []
    progress: Progress | None = None
    while not reports or not reports[-1].finished:
        reports.append(machine.run(*arguments, step=step, progress=progress, **options))
        progress = pass_on(machine, reports[-1])
        assert len(reports) < 1000
    return reports


def add_sockets(machine: Timeline) -> None:
    """Add connections of all kinds."""
    boot = machine.proc / "sys" / "kernel" / "random"
    boot.mkdir(parents=True)
    (boot / "boot_id").write_text(f"{BOOT}\n")
    machine.ends(3.0, machine.connect(1))
    closing = machine.connect(2)
    machine.at(4.0, lambda: vars(closing).update(state=CLOSE_WAIT))
    later = machine.connect(3, tcp_info={"last_data_sent": 5, "last_data_recv": 5})
    machine.at(7.0, lambda: vars(later).update(tcp_info=QUIET))
    machine.connect(4, remote_port=4505)
    machine.add(FakeSocket(protocol=UDP, local=LOCAL, local_port=5, remote=REMOTE, remote_port=53))
    machine.at(8.0, lambda: machine.connect(6, wqueue=9, rqueue=2) and None)
    elsewhere = machine.connect(7)
    machine.at(9.0, lambda: vars(elsewhere).update(remote_port=7777))


@pytest.mark.parametrize("arrivals", ["include", "ignore", "fail"])
@pytest.mark.parametrize("until", ["closed", "sent"])
@pytest.mark.parametrize("step", [0.3, 2.0, 100.0])
def test_steps_equal_a_single_run(
    tmp_path_factory: pytest.TempPathFactory, arrivals: str, until: str, step: float
) -> None:
    match = {"state": "established", "protocol": ["tcp", "udp"], "remote_port": [443, 53, 4505]}
    machines = [Timeline(tmp_path_factory.mktemp("machine")) for _index in range(2)]
    for machine in machines:
        add_sockets(machine)
    options = {"grace": 20.0, "arrivals": arrivals, "until": until, "settle": 1.0}
    whole = machines[0].run(match, **options)
    steps = in_steps(machines[1], match, step=step, **options)
    last = steps[-1]
    assert last.counts == whole.counts
    assert (last.matched, last.by_state) == (whole.matched, whole.by_state)
    for name in ("ended", "arrived", "sent", "lost"):
        assert getattr(last.progress, name) == getattr(whole.progress, name), name
    merged = {cookie: name for report in steps for cookie, name in outcomes_of(report).items()}
    assert merged == outcomes_of(whole)
    assert set(last.left) == set(whole.left)
    assert last.elapsed == pytest.approx(whole.elapsed, abs=1.1)
    assert len(steps) > 1 or step == 100.0
    assert [report.finished for report in steps] == [False] * (len(steps) - 1) + [True]
    assert machines[1].sockets.destroyed == machines[0].sockets.destroyed


def test_step_ends_in_time(machine: Timeline) -> None:
    machine.connect(1)
    report = machine.run(step=0.5, grace=60.0)
    assert not report.finished
    assert not report.drained
    assert report.elapsed == pytest.approx(0.5)
    assert report.grace_left == pytest.approx(59.5)
    assert report.by_state == {"established": 1}
    assert report.results == []


def test_grace_includes_time_between_steps(machine: Timeline) -> None:
    machine.connect(1)
    first = machine.run(step=0.5, grace=10.0)
    machine.sleep(30.0)
    last = machine.run(step=0.5, grace=10.0, progress=pass_on(machine, first))
    assert last.finished
    assert last.counts == {"destroyed": 1}
    assert last.elapsed == pytest.approx(30.5)


def test_last_step_has_reason_of_protection(machine: Timeline) -> None:
    salt = machine.connect(1, remote_port=4505)
    machine.ends(2.0, machine.connect(2))
    last = in_steps(machine, step=0.5, grace=10.0)[-1]
    (result,) = last.results
    assert (result.socket.cookie, result.outcome) == (salt.cookie, "protected")
    assert result.reason is not None
    assert result.reason.rule == "control_connection"


def test_token_is_compact(machine: Timeline) -> None:
    for port in range(1, 1001):
        machine.connect(port)
    report = machine.run(step=0.2)
    token = json.dumps(encode_resume_token(report.progress, machine.host, DIGEST))
    assert len(token) < 20 * 1000 + 1000


def make_token(machine: Timeline) -> dict[str, Any]:
    progress = Progress(
        999.0,
        [machine.namespace, Namespace("pid:7", "/proc/7/ns/net", (4, 7), explicit=False)],
        ended=1,
    )
    progress.counts["destroyed"] = 2
    value = encode_resume_token(progress, machine.host, DIGEST)
    value["namespaces"][1]["sockets"] = {"tcp": "w3e9-1a2b pA3ea-ff", "udp": "i1-2-998000"}
    return value


def test_token_round_trip(machine: Timeline) -> None:
    value = make_token(machine)
    progress = decode_resume_token(value, machine.host, DIGEST)
    assert progress.started == 999.0
    assert progress.namespaces[1] == Namespace("pid:7", "/proc/7/ns/net", (4, 7), explicit=False)
    statuses = {key: tracked.status for key, tracked in progress.tracker.connections.items()}
    assert statuses == {
        ("pid:7", "tcp", 0x3E9): "awaited",
        ("pid:7", "tcp", 0x3EA): "protected",
        ("pid:7", "udp", 1): "ignored",
    }
    assert progress.tracker.connections["pid:7", "udp", 1].empty_since == 998.0
    assert progress.tracker.connections["pid:7", "tcp", 0x3EA].arrived
    assert encode_resume_token(progress, machine.host, DIGEST) == value


def set_at(*path: Any) -> Callable[[dict[str, Any]], None]:
    """Return a function that sets the value at a path to the last argument."""

    def change(value: dict[str, Any]) -> None:
        inner: Any = value
        for step in path[:-2]:
            inner = inner[step]
        inner[path[-2]] = path[-1]

    return change


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (set_at("version", 2), ("version",)),
        (set_at("version", True), ("version",)),
        (set_at("boot", "another"), ("boot",)),
        (set_at("boot", None), ("boot",)),
        (set_at("options", "1" * 64), ("options",)),
        (set_at("started_ms", 2_000_000), ("started_ms",)),
        (set_at("started_ms", -1), ("started_ms",)),
        (set_at("started_ms", "1"), ("started_ms",)),
        (set_at("ended", 1.5), ("ended",)),
        (set_at("ended", 2**70), ("ended",)),
        (set_at("lost", [1, 2]), ("lost",)),
        (set_at("lost", [1, 2, "3"]), ("lost", 2)),
        (set_at("lost", "123"), ("lost",)),
        (set_at("outcomes", {"vanished": 1}), ("outcomes", "vanished")),
        (set_at("outcomes", {"destroyed": -1}), ("outcomes", "destroyed")),
        (set_at("outcomes", []), ("outcomes",)),
        (set_at("more", 1), ("more",)),
        (set_at("namespaces", {}), ("namespaces",)),
        (set_at("namespaces", 0, []), ("namespaces", 0)),
        (set_at("namespaces", 1, "path", "etc/passwd"), ("namespaces", 1, "path")),
        (set_at("namespaces", 1, "path", 7), ("namespaces", 1, "path")),
        (set_at("namespaces", 1, "explicit", 1), ("namespaces", 1, "explicit")),
        (set_at("namespaces", 1, "name", "current"), ("namespaces", 1, "name")),
        (set_at("namespaces", 1, "name", None), ("namespaces", 1, "name")),
        (set_at("namespaces", 1, "inode", None), ("namespaces", 1, "inode")),
        (set_at("namespaces", 1, "more", 1), ("namespaces", 1, "more")),
        (set_at("namespaces", 1, "sockets", {"sctp": ""}), ("namespaces", 1, "sockets", "sctp")),
        (set_at("namespaces", 1, "sockets", {"tcp": []}), ("namespaces", 1, "sockets", "tcp")),
        *(
            (
                set_at("namespaces", 1, "sockets", "tcp", text),
                ("namespaces", 1, "sockets", "tcp"),
            )
            for text in (
                "",
                "w3e9",
                "x3e9-1",
                "w3E9-1",
                "w3e9-1 ",
                "w3e9-1  w3ea-1",
                "w3e9-1\n",
                "w3e9-1-x",
                "w" + "1" * 17 + "-1",
                "w3e9-" + "1" * 9,
                "w٣-1",
            )
        ),
    ],
)
def test_changed_token_is_rejected(
    machine: Timeline, change: Callable[[dict[str, Any]], None], path: tuple[Any, ...]
) -> None:
    value = copy.deepcopy(make_token(machine))
    change(value)
    with pytest.raises(InputError) as caught:
        decode_resume_token(value, machine.host, DIGEST)
    assert caught.value.path == ("resume", *path)


@pytest.mark.parametrize("value", [None, [], "", 1, {}])
def test_empty_or_wrong_type_is_rejected(machine: Timeline, value: object) -> None:
    with pytest.raises(InputError) as caught:
        decode_resume_token(value, machine.host, DIGEST)
    assert caught.value.path[0] == "resume"


def test_missing_key_is_rejected(machine: Timeline) -> None:
    for key in make_token(machine):
        value = make_token(machine)
        del value[key]
        with pytest.raises(InputError) as caught:
            decode_resume_token(value, machine.host, DIGEST)
        assert caught.value.path == ("resume", key)
