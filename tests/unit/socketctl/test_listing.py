# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""list, stuck and support: tables for people, JSON for programs, warnings and errors."""

from __future__ import annotations

import pytest

from linuxnet_sockets import api
from linuxnet_sockets.bpf.socket_destroy import SUPPORTED, Support
from linuxnet_sockets.errors import InputError
from linuxnet_sockets.socketctl import exit_status
from tests.support.drain_timeline import Timeline
from tests.support.fake_kernel import FakeSocket
from tests.support.fake_kernel.model import CLOSE_WAIT, LISTEN, UDP
from tests.support.fake_machine import LOCAL, LOCAL6, REMOTE, REMOTE6, connection
from tests.unit.socketctl.conftest import Shell

QUIET = {"last_ack_recv": 900_000, "last_data_recv": 900_000, "bytes_received": 1}
HOSTILE = "e\x1b[2Jvil\nroot"


def test_list_shows_a_table(machine: Timeline, socketctl: Shell) -> None:
    machine.add(connection(tcp_info={"last_data_recv": 70_000, "last_data_sent": 90_000}))
    machine.add(connection(local=LOCAL6, remote=REMOTE6, local_port=9, wqueue=5))
    done = socketctl("list")
    assert done.status == 0
    assert done.err == ""
    heading, *rows = [line.split() for line in done.out.splitlines()]
    assert heading == ["PROTO", "STATE", "RECV-Q", "SEND-Q", "LOCAL", "REMOTE", "USER", "IDLE"]
    assert [row[:6] for row in rows] == [
        ["tcp", "established", "0", "0", f"{LOCAL}:40000", f"{REMOTE}:443"],
        ["tcp", "established", "0", "5", f"[{LOCAL6}]:9", f"[{REMOTE6}]:443"],
    ]
    assert rows[0][7] == "1m"


def test_list_of_nothing_says_so_on_standard_error(socketctl: Shell) -> None:
    done = socketctl("list")
    assert (done.status, done.out) == (0, "")
    assert done.err == "No sockets match.\n"


def test_details_add_columns(machine: Timeline, socketctl: Shell) -> None:
    machine.add(connection())
    heading = socketctl("list", "-d", "process,info", "-d", "verdicts").out.splitlines()[0]
    assert {"PROCESS", "RTT", "VERDICTS"} <= set(heading.split())
    assert "app[500]" in socketctl("list", "--details", "process").out
    assert "app[500]" in socketctl("list", "-p").out


def test_list_by_groups(machine: Timeline, socketctl: Shell) -> None:
    for port in (1, 2, 3):
        machine.add(connection(local_port=port, remote_port=443 if port < 3 else 80))
    done = socketctl("list", "--group-by", "remote_port")
    assert [line.split() for line in done.out.splitlines()] == [
        ["COUNT", "REMOTE_PORT"],
        ["2", "443"],
        ["1", "80"],
    ]


def test_header_can_be_left_out(machine: Timeline, socketctl: Shell) -> None:
    machine.add(connection())
    assert socketctl("list", "-H").out.startswith("tcp ")


def test_json_is_the_result_of_the_api(machine: Timeline, socketctl: Shell) -> None:
    machine.add(connection())
    machine.add(connection(local_port=5))
    found = api.find({"remote_port": 443}, details=["process"], limit=1, host=machine.host)
    done = socketctl("list", "remote_port=443", "-d", "process", "--limit", "1", "--json")
    assert done.json == found.to_dict()
    lines = socketctl("list", "remote_port=443", "-d", "process", "--limit", "1", "--ndjson").lines
    assert lines == found.sockets
    assert done.err == ""


def test_cut_list_says_how_many_there_are(machine: Timeline, socketctl: Shell) -> None:
    for port in (1, 2, 3):
        machine.add(connection(local_port=port))
    done = socketctl("list", "--limit", "1")
    assert len(done.out.splitlines()) == 2
    assert "1 of 3" in done.err


def test_words_of_a_selector_may_stand_between_options(machine: Timeline, socketctl: Shell) -> None:
    machine.add(connection())
    machine.add(connection(local_port=5))
    words = (
        "list",
        "state=established",
        "--limit",
        "9",
        "local_port=5",
        "--json",
        "dport",
        "= 443",
    )
    assert socketctl(*words).json["matched"] == 1


def test_listening_and_udp_sockets(machine: Timeline, socketctl: Shell) -> None:
    machine.add(FakeSocket(local=LOCAL, local_port=22, state=LISTEN))
    machine.add(FakeSocket(protocol=UDP, local=LOCAL, local_port=53, remote=None, remote_port=0))
    done = socketctl("list", "state=all", "protocol=tcp,udp")
    assert [line.split()[0] for line in done.out.splitlines()] == ["PROTO", "tcp", "udp"]
    assert ":*" in done.out


@pytest.mark.parametrize(
    "words",
    [
        ("list", "-d", "process"),
        ("stuck",),
        ("destroy", "state=close-wait", "--dry-run"),
        ("drain", "state=close-wait", "--dry-run"),
    ],
)
def test_names_of_processes_cannot_control_the_terminal(
    machine: Timeline, socketctl: Shell, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    sock = connection(state=CLOSE_WAIT, tcp_info=QUIET)
    machine.process(700, comm=HOSTILE, program="/bin/evil")
    machine.add(sock, holder=700)
    done = socketctl(*words, typed="")
    assert done.status == 0
    assert len(done.out.splitlines()) >= 2
    assert (done.out + done.err).replace("\n", "").isprintable()


def test_json_escapes_control_characters(machine: Timeline, socketctl: Shell) -> None:
    machine.process(700, comm=HOSTILE, program="/bin/evil")
    machine.add(connection(), holder=700)
    for form in ("--json", "--ndjson"):
        done = socketctl("list", "-d", "process", form)
        assert done.out.replace("\n", "").isprintable()
    assert done.lines[0]["processes"][0]["comm"].startswith("e\\x1b[2Jvil")


def test_arguments_in_errors_cannot_control_the_terminal(socketctl: Shell) -> None:
    for words in (("list", HOSTILE), ("list", f"state={HOSTILE}"), ("list", "-N", HOSTILE)):
        done = socketctl(*words)
        assert done.status != 0
        assert done.err.replace("\n", "").isprintable()


def test_wrong_options_are_the_errors_of_the_api(machine: Timeline, socketctl: Shell) -> None:
    for words, options in (
        (["--limit", "x"], {"limit": "x"}),
        (["--details", "foo"], {"details": ["foo"]}),
        (["--group-by", "foo"], {"group_by": "foo"}),
        (["foo=1"], {"match": {"foo": "1"}}),
        (["state=foo"], {"match": {"state": "foo"}}),
        (["dport = :443 or"], {"match": {"expression": "dport = :443 or"}}),
    ):
        with pytest.raises(InputError) as caught:
            api.find(**options, host=machine.host)  # type: ignore[arg-type]
        done = socketctl("list", *words)
        assert done.status == exit_status.USAGE
        assert done.err == f"socketctl: {api.describe(caught.value)}\n"
        assert done.out == ""


def test_stuck_shows_the_verdict_and_its_evidence(machine: Timeline, socketctl: Shell) -> None:
    machine.add(connection(state=CLOSE_WAIT, tcp_info=QUIET))
    done = socketctl("stuck")
    assert done.status == 0
    row = done.out.splitlines()[1]
    assert row.split()[:2] == ["close_wait", "14m"]
    report = api.stuck_report(host=machine.host).to_dict()
    assert socketctl("stuck", "--json").json == report
    assert socketctl("stuck", "--ndjson").lines == report["connections"]


def test_stuck_takes_a_duration(machine: Timeline, socketctl: Shell) -> None:
    machine.add(connection(state=CLOSE_WAIT, tcp_info=QUIET))
    assert socketctl("stuck", "--stuck", "close_wait:10m", "--json").json["matched"] == 1
    assert socketctl("stuck", "--stuck", "close_wait:20m", "--json").json["matched"] == 0


def test_nothing_stuck(machine: Timeline, socketctl: Shell) -> None:
    machine.add(connection(tcp_info={"last_data_recv": 5, "last_ack_recv": 5}))
    done = socketctl("stuck")
    assert (done.status, done.out) == (0, "")
    assert done.err == "No connection is stuck.\n"


def test_support(machine: Timeline, socketctl: Shell) -> None:
    found = api.support(host=machine.host).to_dict()
    assert socketctl("support", "--json").json == found
    lines = socketctl("support", "--ndjson").lines
    assert [line["protocol"] for line in lines] == list(found["support"])
    rows = {line.split()[0]: line for line in socketctl("support").out.splitlines()}
    assert set(found["support"]) <= set(rows)
    assert rows["tcp"].split()[1:] == ["yes", "no", "yes"]
    assert "bpf is not available: the kernel has no bpf_sock_destroy" in socketctl("support").err
    machine.bpf.support = Support(SUPPORTED)
    found = socketctl("support")
    rows = {line.split()[0]: line for line in found.out.splitlines()}
    assert rows["tcp"].split()[1:] == ["yes", "yes", "yes"]
    assert rows["mptcp"].split()[1:3] == ["yes", "no"]
    assert found.err == ""
