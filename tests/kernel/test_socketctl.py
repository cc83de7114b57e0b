# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""socketctl on real sockets: results, terminals, and ordinary users."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from linuxnet_sockets import api
from tests.support.socketctl import Output, Socketctl
from tests.support.topologies import states
from tests.support.topologies.states import HeldSocket
from tests.support.topologies.topology import Pair

# pytest holds the sockets, and socketctl is its child: the guard would protect them.
UNGUARDED = ("--no-protect", "control_connection")
ORDINARY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@pytest.fixture
def socketctl(pair: Pair) -> Iterator[Socketctl]:
    with tempfile.TemporaryDirectory() as base:
        # Ordinary users must be able to read it.
        Path(base).chmod(0o755)
        yield Socketctl(pair.client, Path(base))


def words_of(held: HeldSocket) -> tuple[str, str]:
    return f"local_port={held.local[1]}", f"remote={held.remote[0]}:{held.remote[1]}"


def is_open(held: HeldSocket) -> bool:
    assert held.target is not None
    try:
        held.target.send(b"x")
    except ConnectionAbortedError:
        return False
    return True


def test_list_has_the_cookies_of_the_sockets(pair: Pair, socketctl: Socketctl) -> None:
    held = [states.established(pair) for _each in range(3)]
    done = socketctl("list", "state=established", "--json")
    assert done.status == 0
    found = {record["cookie"] for record in done.json["sockets"]}
    assert {f"{each.cookie:x}" for each in held} <= found
    lines = socketctl("list", *words_of(held[0]), "--ndjson").out.splitlines()
    assert [json.loads(line)["cookie"] for line in lines] == [f"{held[0].cookie:x}"]


def test_words_and_a_filter_of_ss_select_the_same(pair: Pair, socketctl: Socketctl) -> None:
    held = states.established(pair)
    states.established(pair)
    (address, port), remote_port = held.local, held.remote[1]
    for words in (
        words_of(held),
        (f"sport = :{port} and dport = :{remote_port}",),
        ("src", f"{address}:{port}", f"remote_port={remote_port}"),
        ("--match", json.dumps({"any": [{"local_port": port}]})),
    ):
        done = socketctl("list", *words, "--json")
        assert [record["local_port"] for record in done.json["sockets"]] == [port]


def test_destroy_reaches_the_application(pair: Pair, socketctl: Socketctl) -> None:
    held, other = states.established(pair), states.established(pair)
    done = socketctl("destroy", *words_of(held), *UNGUARDED, "--yes", "--json")
    assert (done.status, done.err) == (0, "")
    assert [entry["cookie"] for entry in done.json["destroyed"]] == [f"{held.cookie:x}"]
    assert not is_open(held)
    assert is_open(other)
    again = socketctl("destroy", *words_of(held), *UNGUARDED, "--yes")
    assert (again.status, again.out) == (0, "No sockets match.\n")


def test_guard_protects_the_sockets_of_the_caller(pair: Pair, socketctl: Socketctl) -> None:
    held = states.established(pair)
    done = socketctl("destroy", *words_of(held), "--yes")
    assert done.status == 0
    assert "control_connection" in done.out
    assert is_open(held)


def test_without_a_terminal_nothing_is_destroyed(pair: Pair, socketctl: Socketctl) -> None:
    held = states.established(pair)
    for command in ("destroy", "drain"):
        done = socketctl(command, *words_of(held), *UNGUARDED, stdin="y\n")
        assert done.status == 2
        assert "--yes" in done.err
    assert socketctl("destroy", *words_of(held), *UNGUARDED, "--dry-run").status == 0
    assert is_open(held)


@pytest.mark.parametrize(("answer", "destroyed"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_question_on_a_terminal(
    pair: Pair, socketctl: Socketctl, answer: str, destroyed: bool
) -> None:
    held = states.established(pair)
    command = socketctl.on_terminal("destroy", *words_of(held), *UNGUARDED)
    command.expect("Destroy 1 socket? [y/N] ")
    assert is_open(held)
    command.type(answer)
    done = command.finish()
    assert done.status == (0 if destroyed else 1)
    assert is_open(held) is not destroyed


def test_interrupted_question_destroys_nothing(pair: Pair, socketctl: Socketctl) -> None:
    held = states.established(pair)
    command = socketctl.on_terminal("destroy", *words_of(held), *UNGUARDED)
    command.expect("[y/N] ")
    command.type("\x03")
    assert command.finish().status == 130
    assert is_open(held)


def test_table_fits_the_terminal(pair: Pair, socketctl: Socketctl) -> None:
    held = states.established(pair)

    def shown(columns: int, **environ: str) -> Output:
        words = ("list", *words_of(held), "-d", "process,info,verdicts")
        return socketctl.on_terminal(*words, columns=columns, environ=environ).finish()

    wide, narrow = shown(200, NO_COLOR="1"), shown(110, NO_COLOR="1")
    assert "RECV-Q" in wide.out
    assert "RECV-Q" not in narrow.out
    assert max(map(len, narrow.out.splitlines())) <= 110
    for done in (wide, narrow):
        assert f"{held.local[0]}:{held.local[1]}" in done.out
        assert "\x1b" not in done.out
    assert "\x1b[1m" in shown(200).out
    assert "\x1b" not in socketctl("list", *words_of(held)).out


def test_names_of_processes_cannot_control_the_terminal(
    pair: Pair, socketctl: Socketctl, tmp_path: Path
) -> None:
    held = states.established(pair)
    # The command name of a process is that of its file (execve(2)).
    program = tmp_path / "e\x1b[2J\nvil"
    program.symlink_to(Path(sys.executable).resolve())
    connect = (
        f"import socket; s = socket.create_connection({held.remote}); print(s.fileno()); s.recv(1)"
    )
    process = pair.client.spawn(str(program), "-uc", connect, stdout=subprocess.PIPE)
    process.stdout.readline()
    words = (
        "list",
        f"remote_port={held.remote[1]}",
        f"local_port!={held.local[1]}",
        "-d",
        "process",
    )
    done = socketctl.on_terminal(*words, environ={"NO_COLOR": "1"}).finish()
    assert f"e\\x1b[2J\\x0avil[{process.pid}]" in done.out
    assert done.out.replace("\n", "").isprintable()


def test_drain_shows_progress_and_ends_with_the_connection(
    pair: Pair, socketctl: Socketctl
) -> None:
    held = states.established(pair)
    words = ("drain", *words_of(held), *UNGUARDED, "--grace", "1m")
    command = socketctl.on_terminal(*words)
    command.expect("Wait up to 60 s for 1 connection to end, then destroy the rest? [y/N] ")
    command.type("y\n")
    command.expect("1 left (1 established)")
    held.close()
    done = command.finish()
    assert done.status == 0
    assert "1 connection: 1 ended, in " in done.out
    assert "\r[" in done.out


def test_drain_without_a_terminal(pair: Pair, socketctl: Socketctl) -> None:
    held = states.established(pair)
    done = socketctl("drain", *words_of(held), *UNGUARDED, "--grace", "3", "--yes")
    assert done.status == 0
    assert done.err.startswith("1 left (1 established), 0 ended, ")
    assert "\r" not in done.err
    assert "1 connection: 0 ended, 1 destroyed, in " in done.out
    assert not is_open(held)


def test_interrupted_drain_destroys_nothing(pair: Pair, socketctl: Socketctl) -> None:
    held = states.established(pair)
    command = socketctl.on_terminal("drain", *words_of(held), *UNGUARDED, "--yes")
    command.expect("1 left (1 established)")
    command.type("\x03")
    done = command.finish()
    assert done.status == 130
    assert "Interrupted: 1 left" in done.out
    assert "Traceback" not in done.out
    assert is_open(held)


def test_max_sockets_refuses(pair: Pair, socketctl: Socketctl) -> None:
    held = [states.established(pair) for _each in range(2)]
    ports = ",".join(str(each.local[1]) for each in held)
    words = (f"local_port={ports}", f"remote={held[0].remote[0]}", *UNGUARDED)
    done = socketctl("destroy", *words, "--max-sockets", "1", "--yes")
    assert done.status == 3
    assert "max_sockets allows 1" in done.err
    assert all(map(is_open, held))


def test_policy_is_planned_and_enforced(pair: Pair, socketctl: Socketctl, tmp_path: Path) -> None:
    held, other = states.established(pair), states.established(pair)
    file = tmp_path / "policy.json"
    rule = {"name": "one", "match": {"local_port": held.local[1]}, "hold": "0s"}
    policy = {
        "version": 1,
        "limits": {"max_sockets": 5, "per": "1m"},
        "protect": {"control_connection": False},
        "rules": [rule],
    }
    file.write_text(json.dumps(policy))
    assert socketctl("policy", "check", str(file)).status == 0
    plan = socketctl("policy", "plan", str(file), "--detailed-exitcode")
    assert plan.status == 5
    assert f":{held.local[1]}" in plan.out
    done = socketctl("policy", "enforce", str(file), "--yes", "--json")
    assert (done.status, done.json["outcomes"]) == (0, {"destroyed": 1})
    assert not is_open(held)
    assert is_open(other)
    assert socketctl("policy", "plan", str(file), "--detailed-exitcode").status == 0


def test_support_is_that_of_the_api(pair: Pair, socketctl: Socketctl) -> None:
    assert socketctl("support", "--json").json == api.support(namespace=pair.client.name).to_dict()


def test_closed_pipe_ends_the_command_without_a_message(pair: Pair, socketctl: Socketctl) -> None:
    # Their records are longer than the buffer of a pipe.
    held = [states.established(pair) for _each in range(200)]
    process = subprocess.Popen(
        socketctl.command(["list", "state=all", "--json"]),
        env=socketctl.environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 141
    process.stderr.close()
    assert is_open(held[0])


def as_ordinary_user(socketctl: Socketctl, *words: str) -> Output:
    done = socketctl(*words, prefix=ORDINARY)
    if "setpriv" in done.err or "linuxnet_sockets" in done.err:
        # Its user is not mapped, or may not read the checkout.
        pytest.skip(f"cannot become an ordinary user: {done.err}")
    return done


def test_ordinary_user_lists_and_destroys_nothing(pair: Pair, socketctl: Socketctl) -> None:
    held = states.established(pair)
    done = as_ordinary_user(socketctl, "list", *words_of(held), "--json")
    assert done.status == 0
    assert [record["cookie"] for record in done.json["sockets"]] == [f"{held.cookie:x}"]
    support = as_ordinary_user(socketctl, "support")
    assert re.search(r"^tcp +yes +no +no: you need CAP_NET_ADMIN", support.out, re.MULTILINE)
    switches = "control_connection,ssh_sessions,kernel"
    words = ("destroy", *words_of(held), "--no-protect", switches, "--yes")
    denied = as_ordinary_user(socketctl, *words)
    assert denied.status == 4
    assert "not_permitted" in denied.err
    assert as_ordinary_user(socketctl, "destroy", *words_of(held), "--yes").status == 4
    elsewhere = as_ordinary_user(socketctl, "list", "-N", pair.server.name)
    assert elsewhere.status == 4
    assert "CAP_SYS_ADMIN" in elsewhere.err
    assert is_open(held)
