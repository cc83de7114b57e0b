# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A drain in steps: what each hands to the next, and what is not taken."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from linuxnet_sockets.drain.progress import Progress
from linuxnet_sockets.drain.report import Report
from linuxnet_sockets.drain.resume_token import from_resume, to_resume
from linuxnet_sockets.errors import InputError
from linuxnet_sockets.host.namespaces import Namespace
from tests.support.drain_timeline import QUIET, Timeline, outcomes_of
from tests.support.fake_kernel import FakeSocket
from tests.support.fake_kernel.model import CLOSE_WAIT, UDP
from tests.support.fake_machine import LOCAL, REMOTE

DIGEST = "0" * 64
BOOT = "e5accf53-2ad6-413f-9e7a-c74c5c41fc7b"


def handed_on(machine: Timeline, report: Report) -> Progress:
    """As the next process gets it."""
    sent = json.dumps(to_resume(report.progress, machine.host, DIGEST))
    return from_resume(json.loads(sent), machine.host, DIGEST)


def in_steps(machine: Timeline, *arguments: Any, step: float, **options: Any) -> list[Report]:
    reports: list[Report] = []
    progress: Progress | None = None
    while not reports or not reports[-1].finished:
        reports.append(machine.run(*arguments, step=step, progress=progress, **options))
        progress = handed_on(machine, reports[-1])
        assert len(reports) < 1000
    return reports


def scene(machine: Timeline) -> None:
    """Something of everything."""
    boot = machine.proc / "sys" / "kernel" / "random"
    boot.mkdir(parents=True)
    (boot / "boot_id").write_text(f"{BOOT}\n")
    machine.ends(3.0, machine.connect(1))
    turns = machine.connect(2)
    machine.at(4.0, lambda: vars(turns).update(state=CLOSE_WAIT))
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
def test_steps_make_no_difference(
    tmp_path_factory: pytest.TempPathFactory, arrivals: str, until: str, step: float
) -> None:
    match = {"state": "established", "protocol": ["tcp", "udp"], "remote_port": [443, 53, 4505]}
    machines = [Timeline(tmp_path_factory.mktemp("machine")) for _each in range(2)]
    for machine in machines:
        scene(machine)
    options = {"grace": 20.0, "arrivals": arrivals, "until": until, "settle": 1.0}
    whole = machines[0].run(match, **options)
    steps = in_steps(machines[1], match, step=step, **options)
    last = steps[-1]
    assert last.counts == whole.counts
    assert (last.matched, last.by_state) == (whole.matched, whole.by_state)
    for name in ("ended", "arrived", "sent", "lost"):
        assert getattr(last.progress, name) == getattr(whole.progress, name), name
    merged = {cookie: name for each in steps for cookie, name in outcomes_of(each).items()}
    assert merged == outcomes_of(whole)
    assert set(last.left) == set(whole.left)
    assert last.elapsed == pytest.approx(whole.elapsed, abs=1.1)
    assert len(steps) > 1 or step == 100.0
    assert [each.finished for each in steps] == [False] * (len(steps) - 1) + [True]
    assert machines[1].sockets.destroyed == machines[0].sockets.destroyed


def test_a_step_ends_in_time(machine: Timeline) -> None:
    machine.connect(1)
    report = machine.run(step=0.5, grace=60.0)
    assert not report.finished
    assert not report.drained
    assert report.elapsed == pytest.approx(0.5)
    assert report.grace_left == pytest.approx(59.5)
    assert report.by_state == {"established": 1}
    assert report.results == []


def test_the_grace_goes_on_between_steps(machine: Timeline) -> None:
    machine.connect(1)
    first = machine.run(step=0.5, grace=10.0)
    machine.sleep(30.0)
    last = machine.run(step=0.5, grace=10.0, progress=handed_on(machine, first))
    assert last.finished
    assert last.counts == {"destroyed": 1}
    assert last.elapsed == pytest.approx(30.5)


def test_what_is_spared_is_explained_in_the_last_step(machine: Timeline) -> None:
    salt = machine.connect(1, remote_port=4505)
    machine.ends(2.0, machine.connect(2))
    last = in_steps(machine, step=0.5, grace=10.0)[-1]
    (result,) = last.results
    assert (result.socket.cookie, result.outcome) == (salt.cookie, "protected")
    assert result.reason is not None
    assert result.reason.rule == "control_connection"


def test_it_is_compact(machine: Timeline) -> None:
    for port in range(1, 1001):
        machine.connect(port)
    report = machine.run(step=0.2)
    sent = json.dumps(to_resume(report.progress, machine.host, DIGEST))
    assert len(sent) < 20 * 1000 + 1000


def given(machine: Timeline) -> dict[str, Any]:
    progress = Progress(
        999.0,
        [machine.namespace, Namespace("pid:7", "/proc/7/ns/net", (4, 7), explicit=False)],
        ended=1,
    )
    progress.counts["destroyed"] = 2
    value = to_resume(progress, machine.host, DIGEST)
    value["namespaces"][1]["sockets"] = {"tcp": "w3e9-1a2b sA3ea-ff", "udp": "i1-2-998000"}
    return value


def test_what_was_given_is_taken(machine: Timeline) -> None:
    value = given(machine)
    progress = from_resume(value, machine.host, DIGEST)
    assert progress.started == 999.0
    assert progress.namespaces[1] == Namespace("pid:7", "/proc/7/ns/net", (4, 7), explicit=False)
    kinds = {key: entry.kind for key, entry in progress.watchlist.entries.items()}
    assert kinds == {
        ("pid:7", "tcp", 0x3E9): "waited",
        ("pid:7", "tcp", 0x3EA): "protected",
        ("pid:7", "udp", 1): "ignored",
    }
    assert progress.watchlist.entries["pid:7", "udp", 1].quiet_since == 998.0
    assert progress.watchlist.entries["pid:7", "tcp", 0x3EA].arrived
    assert to_resume(progress, machine.host, DIGEST) == value


def put(*path: Any) -> Callable[[dict[str, Any]], None]:
    """Change what is at the path (all but the last) to the last."""

    def change(value: dict[str, Any]) -> None:
        inner: Any = value
        for step in path[:-2]:
            inner = inner[step]
        inner[path[-2]] = path[-1]

    return change


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (put("version", 2), ("version",)),
        (put("version", True), ("version",)),
        (put("boot", "another"), ("boot",)),
        (put("boot", None), ("boot",)),
        (put("options", "1" * 64), ("options",)),
        (put("started_ms", 2_000_000), ("started_ms",)),
        (put("started_ms", -1), ("started_ms",)),
        (put("started_ms", "1"), ("started_ms",)),
        (put("ended", 1.5), ("ended",)),
        (put("ended", 2**70), ("ended",)),
        (put("lost", [1, 2]), ("lost",)),
        (put("lost", [1, 2, "3"]), ("lost", 2)),
        (put("lost", "123"), ("lost",)),
        (put("outcomes", {"vanished": 1}), ("outcomes", "vanished")),
        (put("outcomes", {"destroyed": -1}), ("outcomes", "destroyed")),
        (put("outcomes", []), ("outcomes",)),
        (put("more", 1), ("more",)),
        (put("namespaces", {}), ("namespaces",)),
        (put("namespaces", 0, []), ("namespaces", 0)),
        (put("namespaces", 1, "path", "etc/passwd"), ("namespaces", 1, "path")),
        (put("namespaces", 1, "path", 7), ("namespaces", 1, "path")),
        (put("namespaces", 1, "explicit", 1), ("namespaces", 1, "explicit")),
        (put("namespaces", 1, "name", "current"), ("namespaces", 1, "name")),
        (put("namespaces", 1, "name", None), ("namespaces", 1, "name")),
        (put("namespaces", 1, "inode", None), ("namespaces", 1, "inode")),
        (put("namespaces", 1, "more", 1), ("namespaces", 1, "more")),
        (put("namespaces", 1, "sockets", {"sctp": ""}), ("namespaces", 1, "sockets", "sctp")),
        (put("namespaces", 1, "sockets", {"tcp": []}), ("namespaces", 1, "sockets", "tcp")),
        *(
            (put("namespaces", 1, "sockets", "tcp", text), ("namespaces", 1, "sockets", "tcp"))
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
def test_what_was_not_given_is_refused(
    machine: Timeline, change: Callable[[dict[str, Any]], None], path: tuple[Any, ...]
) -> None:
    value = copy.deepcopy(given(machine))
    change(value)
    with pytest.raises(InputError) as caught:
        from_resume(value, machine.host, DIGEST)
    assert caught.value.path == ("resume", *path)


@pytest.mark.parametrize("value", [None, [], "", 1, {}])
def test_it_must_be_there_as_a_whole(machine: Timeline, value: object) -> None:
    with pytest.raises(InputError) as caught:
        from_resume(value, machine.host, DIGEST)
    assert caught.value.path[0] == "resume"


def test_each_part_must_be_there(machine: Timeline) -> None:
    for key in given(machine):
        value = given(machine)
        del value[key]
        with pytest.raises(InputError) as caught:
            from_resume(value, machine.host, DIGEST)
        assert caught.value.path == ("resume", key)
