# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parsing of the guard: switches, selectors and protection files."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from linuxnet_sockets.errors import InputError, ProtectFileError
from linuxnet_sockets.guard.options import SWITCHES
from linuxnet_sockets.guard.reason import RULES
from linuxnet_sockets.messages import describe
from tests.support.fake_kernel.model import TIME_WAIT, UDP
from tests.support.fake_machine import LOCAL, REMOTE, FakeMachine, FakeSocket, connection
from tests.support.named_pipes import pipe


def write(machine: FakeMachine, name: str, content: object) -> str:
    machine.files.mkdir(exist_ok=True)
    file = machine.files / name
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(file)


def test_all_switches_are_on_by_default(machine: FakeMachine) -> None:
    for value in (None, {}, {"selectors": None, "loopback": None}, {"selectors": []}):
        guard = machine.guard(value)
        assert all(getattr(guard, name) for name in SWITCHES)
        assert guard.selectors == ()


@pytest.mark.parametrize("name", SWITCHES)
def test_each_switch_turns_off_one_rule(machine: FakeMachine, name: str) -> None:
    guard = machine.guard({name: False})
    assert [switch for switch in SWITCHES if not getattr(guard, switch)] == [name]


def test_each_switch_is_a_rule() -> None:
    assert set(SWITCHES) < set(RULES)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"loopbak": True}, ("protect", "loopbak")),
        ({"loopback": "yes"}, ("protect", "loopback")),
        ({"kernel": 0}, ("protect", "kernel")),
        ({"selectors": {"remote": REMOTE}}, ("protect", "selectors")),
        ({"selectors": "tcp"}, ("protect", "selectors")),
        ({"selectors": [{"remote": REMOTE}, {"remote": "x.y"}]}, ("protect", "selectors", 1)),
        ({"selectors": [{"remot": REMOTE}]}, ("protect", "selectors", 0)),
        ({"selectors": [{}]}, ("protect", "selectors", 0)),
        ({"selectors": [None]}, ("protect", "selectors", 0)),
        ([], ("protect",)),
        (True, ("protect",)),
    ],
)
def test_invalid_guard_is_rejected_with_its_path(
    machine: FakeMachine, value: object, path: tuple[Any, ...]
) -> None:
    with pytest.raises(InputError) as caught:
        machine.guard(value)
    assert caught.value.path[: len(path)] == path


def test_selectors_protect_matching_sockets(machine: FakeMachine) -> None:
    guard = machine.guard({"selectors": [{"remote_port": 1}, {"remote": "198.51.100.0/24"}]})
    assert machine.reason(guard, machine.add(connection())) == ("selector", "protect.selectors[1]")
    assert machine.reason(guard, machine.add(connection(remote="203.0.113.9"))) is None


def test_selectors_cover_all_protocols_and_states(machine: FakeMachine) -> None:
    # A selector finds TCP in the usual states by default; here it covers all protocols and states.
    guard = machine.guard({"selectors": [{"remote": REMOTE}], "unconnected": False})
    datagrams = FakeSocket(protocol=UDP, local=LOCAL, local_port=1, remote=REMOTE, remote_port=53)
    for sock in (datagrams, connection(state=TIME_WAIT)):
        reason = machine.reason(guard, machine.add(sock))
        assert reason is not None
        assert reason.rule == "selector"


def test_unknown_selector_protects(machine: FakeMachine) -> None:
    # The interface does not exist, so its addresses are unknown.
    guard = machine.guard({"selectors": [{"local": "interface:wg7"}]})
    reason = machine.reason(guard, machine.add(connection()))
    assert reason is not None
    assert reason.rule == "selector"
    assert str(reason.detail).startswith("protect.selectors[0]")
    # More than the place: the detail distinguishes unknown from a match.
    assert reason.detail != "protect.selectors[0]"


def test_selector_by_process(machine: FakeMachine) -> None:
    guard = machine.guard({"selectors": [{"process": "app"}]})
    mine, other = machine.add(connection()), machine.add(connection(local_port=2), holder=None)
    machine.process(501, comm="other")
    machine.hold(501, other)
    reasons = machine.reasons(guard, mine, other)
    assert [reason and reason.rule for reason in reasons] == ["selector", None]


def test_selector_on_tcp_info_requests_it(machine: FakeMachine) -> None:
    guard = machine.guard({"selectors": [{"protocol": "tcp", "rtt": ">1s"}]})
    assert guard.extensions
    slow = connection()
    slow.tcp_info = {"rtt": 2_000_000}
    fast = connection(local_port=2)
    fast.tcp_info = {"rtt": 2_000}
    reasons = machine.reasons(guard, machine.add(slow), machine.add(fast))
    assert [reason and reason.rule for reason in reasons] == ["selector", None]


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ({"remote": REMOTE}, ""),
        ([{"remote_port": 1}, {"remote": REMOTE}], "[1]"),
        ({"selectors": [{"remote": REMOTE}]}, "[0]"),
    ],
)
def test_protection_files_protect_matching_sockets(
    machine: FakeMachine, content: object, place: str
) -> None:
    file = write(machine, "50-database.json", content)
    reason = machine.reason(machine.guard(), machine.add(connection()))
    assert reason == ("selector", f"{file}{place}")
    assert machine.reason(machine.guard(), machine.add(connection(remote="203.0.113.9"))) is None


def test_protection_files_apply_with_all_switches_off(machine: FakeMachine) -> None:
    write(machine, "all.json", [{"remote": REMOTE}])
    off = dict.fromkeys(SWITCHES, False)
    assert machine.rule(machine.add(connection()), **off) == "selector"


def test_missing_directory_protects_nothing(machine: FakeMachine) -> None:
    assert not machine.files.exists()
    assert machine.guard().selectors == ()


def test_empty_lists_in_files_protect_nothing(machine: FakeMachine) -> None:
    write(machine, "a.json", [])
    write(machine, "b.json", {"selectors": []})
    assert machine.guard().selectors == ()


@pytest.mark.parametrize(
    "name",
    ["a.json~", ".a.json.swp", "a.json.dpkg-old", "a.json.rpmsave", "README", "README.md", "#a#"],
)
def test_backup_files_and_readme_are_ignored(machine: FakeMachine, name: str) -> None:
    write(machine, name, "nonsense")
    assert machine.guard().selectors == ()


@pytest.mark.parametrize("name", ["db.rpm-mirror.json", "README-hosts.json", "a.dpkg-b.json"])
def test_every_json_file_is_read(machine: FakeMachine, name: str) -> None:
    write(machine, name, [{"remote": REMOTE}])
    assert len(machine.guard().selectors) == 1


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.json", "{", "JSON"),
        ("a.json", "", "JSON"),
        ("a.json", '{"remote": "192.0.2.1", "remote": "192.0.2.2"}', "'remote'"),
        ("a.json", '"tcp"', "mapping"),
        ("a.json", "null", "mapping"),
        ("a.json", {"selectors": {"remote": REMOTE}}, "selectors"),
        ("a.json", {}, ""),
        pytest.param("a.json", "[" * 100_000, "deep", id="deep"),
        pytest.param("a.json", '{"not":' * 90 + "1" + "}" * 90, "deep", id="nots"),
        pytest.param("a.json", {"user": "a\0b"}, "NUL", id="NUL"),
        pytest.param("a.json", '{"cgroup": "\\ud800"}', "NUL", id="half"),
        pytest.param("a.json", '{"pid": ' + "9" * 5_000 + "}", "digits", id="digits"),
        ("a.json", [{"remote": REMOTE}, {"remote": "300.1.1.1"}], "selector 1"),
        ("a.json", [{"remote": []}], "selector 0"),
        ("a.json", {"remot": REMOTE}, "remot"),
        ("a.yml", "- remote: 192.0.2.1", "YAML"),
        ("a.yaml", "- remote: 192.0.2.1", "YAML"),
        ("a.conf", "remote=192.0.2.1", "*.json"),
        ("a", "[]", "*.json"),
    ],
)
def test_invalid_file_raises(
    machine: FakeMachine, name: str, content: object, problem: str
) -> None:
    write(machine, "00-good.json", {"remote": REMOTE})
    file = write(machine, name, content)
    with pytest.raises(ProtectFileError) as caught:
        machine.guard()
    assert caught.value.file == file
    assert problem in caught.value.problem
    assert caught.value.allowed


def test_directory_that_is_a_file_raises(machine: FakeMachine) -> None:
    machine.files.write_text("")
    with pytest.raises(ProtectFileError) as caught:
        machine.guard()
    assert caught.value.file == str(machine.files)


def test_unreadable_file_raises(machine: FakeMachine) -> None:
    machine.files.mkdir()
    (machine.files / "gone.json").symlink_to("/does/not/exist")
    with pytest.raises(ProtectFileError) as caught:
        machine.guard()
    assert os.strerror(errno.ENOENT) in caught.value.problem


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("pipe", "regular file"),
        ("device", "regular file"),
        ("directory", "not a regular file"),
        ("endless", "bytes"),
    ],
)
def test_special_file_is_rejected_without_waiting(
    machine: FakeMachine, kind: str, problem: str
) -> None:
    machine.files.mkdir()
    file = machine.files / "odd.json"
    with contextlib.ExitStack() as stack:
        if kind == "pipe":
            stack.enter_context(pipe(file))
        elif kind == "device":
            file.symlink_to("/dev/null")
        elif kind == "directory":
            file.mkdir()
        else:
            file.touch()
            os.truncate(file, 1 << 40)
        with pytest.raises(ProtectFileError) as caught:
            machine.guard()
    assert caught.value.file == str(file)
    assert problem in caught.value.problem


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_file_that_others_may_write_raises(machine: FakeMachine, mode: int) -> None:
    write(machine, "00-good.json", {"remote": REMOTE})
    file = write(machine, "own.json", {"remote": REMOTE})
    os.chmod(file, mode)
    with pytest.raises(ProtectFileError) as caught:
        machine.guard()
    assert caught.value.file == file
    assert f"mode {mode:04o}, owner uid {os.geteuid()}" in describe(caught.value)


@pytest.mark.parametrize("exists", [True, False])
def test_directory_that_others_may_write_raises(machine: FakeMachine, exists: bool) -> None:
    """Also without protect.d: other users could create it, or have removed it."""
    if exists:
        machine.files.mkdir()
    place = machine.files if exists else machine.files.parent
    place.chmod(0o777)
    with pytest.raises(ProtectFileError) as caught:
        machine.guard()
    assert f"{place} (mode 0777" in describe(caught.value)


def test_file_that_is_not_utf8_raises(machine: FakeMachine) -> None:
    machine.files.mkdir()
    (machine.files / "a.json").write_bytes(b'{"remote": "\xff"}')
    with pytest.raises(ProtectFileError) as caught:
        machine.guard()
    assert "UTF-8" in caught.value.problem


def test_manual_explains_each_rule() -> None:
    manual = Path(__file__).parents[3] / "docs" / "docsite" / "rst" / "guard.rst"
    text = manual.read_text()
    assert [name for name in (*RULES, *SWITCHES) if f"``{name}``" not in text] == []
