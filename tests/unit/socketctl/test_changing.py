# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""destroy and drain: the question, runs without one, and exit statuses."""

from __future__ import annotations

import errno

import pytest

from linuxnet_sockets import api
from linuxnet_sockets.guard import holders
from linuxnet_sockets.socketctl import exit_status
from tests.support.drain_timeline import Timeline
from tests.support.fake_kernel import FakeSocket
from tests.support.fake_kernel.model import LISTEN
from tests.support.fake_machine import LOCAL, connection
from tests.unit.socketctl.conftest import Shell


def left(machine: Timeline) -> int:
    """How many connections to port 443 there are."""
    return api.find({"remote_port": 443}, host=machine.host).matched


def test_destroy_shows_asks_and_destroys(machine: Timeline, socketctl: Shell) -> None:
    machine.add(connection())
    machine.add(connection(local_port=5))
    done = socketctl("destroy", "remote_port=443", typed="y\n")
    assert done.status == 0
    assert done.err.endswith("Destroy 2 sockets? [y/N] ")
    assert f"{LOCAL}:40000" in done.err
    assert "EXPECTED" in done.err
    assert done.out == "2 sockets: 2 destroyed.\n"
    assert left(machine) == 0


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "yess\n", "no\n"])
def test_any_other_answer_destroys_nothing(
    machine: Timeline, socketctl: Shell, answer: str
) -> None:
    machine.add(connection())
    for command in ("destroy", "drain"):
        done = socketctl(command, "remote_port=443", typed=answer)
        assert done.status == exit_status.FAILED
        assert done.err.endswith("Nothing was destroyed.\n")
        assert done.out == ""
    assert left(machine) == 1


def test_without_a_terminal_it_needs_yes(machine: Timeline, socketctl: Shell) -> None:
    machine.add(connection())
    for command in ("destroy", "drain"):
        done = socketctl(command, "remote_port=443", stdin=b"y\n")
        assert done.status == exit_status.USAGE
        assert "--yes" in done.err
    assert left(machine) == 1
    done = socketctl("destroy", "remote_port=443", "--yes")
    assert done.status == 0
    assert done.out.splitlines()[-1] == "1 socket: 1 destroyed."
    assert left(machine) == 0


def test_dry_run_changes_nothing(machine: Timeline, socketctl: Shell) -> None:
    machine.add(connection())
    for command in ("destroy", "drain"):
        done = socketctl(command, "remote_port=443", "--dry-run")
        assert done.status == 0
        assert done.out.splitlines()[-1] == "1 socket (dry run): 1 destroyed."
    assert left(machine) == 1


def test_nothing_to_destroy_is_success(socketctl: Shell) -> None:
    for words in (("--yes",), ("--dry-run",)):
        done = socketctl("destroy", "remote_port=443", *words)
        assert (done.status, done.out) == (0, "No sockets match.\n")
    done = socketctl("destroy", "remote_port=443", typed="")
    assert (done.status, done.out, done.err) == (0, "No sockets match.\n", "")


def test_protected_sockets_are_shown_and_not_asked_about(
    machine: Timeline, socketctl: Shell
) -> None:
    machine.add(FakeSocket(local=LOCAL, local_port=22, state=LISTEN))
    done = socketctl("destroy", "state=all", typed="")
    assert done.status == 0
    assert done.err == ""
    assert "listeners" in done.out
    assert "1 protected" in done.out


def test_rules_of_the_guard_can_be_switched_off(machine: Timeline, socketctl: Shell) -> None:
    machine.add(FakeSocket(local=LOCAL, local_port=22, state=LISTEN))
    done = socketctl("destroy", "state=all", "--no-protect", "kernel,listeners", "--yes")
    assert "1 destroyed" in done.out
    done = socketctl("destroy", "state=all", "--no-protect", "nothing", "--yes")
    assert done.status == exit_status.USAGE
    assert "protect.nothing" in done.err


def test_more_sockets_can_be_protected(machine: Timeline, socketctl: Shell) -> None:
    machine.add(connection())
    machine.add(connection(local_port=5))
    machine.add(connection(local_port=6))
    protect = ("--protect", "local_port=5 protocol=tcp", "--protect", '{"local_port": 6}')
    done = socketctl("destroy", "remote_port=443", *protect, "--yes", "--json")
    assert done.json["outcomes"] == {"destroyed": 1, "protected": 2}
    done = socketctl("destroy", "remote_port=443", "--protect", "nothing=5", "--yes")
    assert "protect.selectors[0].nothing" in done.err


def test_selector_is_required(machine: Timeline, socketctl: Shell) -> None:
    machine.add(connection())
    for words in ((), ("--match", "{}"), ("protocol=tcp",)):
        for command in ("destroy", "drain"):
            assert socketctl(command, *words, "--yes").status == exit_status.USAGE
    assert left(machine) == 1


def test_max_sockets_refuses(machine: Timeline, socketctl: Shell) -> None:
    machine.add(connection())
    machine.add(connection(local_port=5))
    for words in (("--yes",), ("--dry-run",)):
        done = socketctl("destroy", "remote_port=443", "--max-sockets", "1", *words)
        assert done.status == exit_status.LIMIT
        assert "max_sockets" in done.err
    done = socketctl("destroy", "remote_port=443", "--max-sockets", "25%", typed="y\n")
    assert done.status == exit_status.LIMIT
    assert "[y/N]" not in done.err
    assert left(machine) == 2


def test_more_sockets_than_confirmed_are_refused(machine: Timeline, socketctl: Shell) -> None:
    machine.add(connection())
    machine.add(FakeSocket(local=LOCAL, local_port=443, remote_port=443, state=LISTEN))

    def arrive() -> None:
        machine.add(connection(local_port=5))

    done = socketctl("destroy", "remote_port=443", typed="y\n", before=arrive)
    assert done.status == exit_status.LIMIT
    assert "2 sockets match now, more than the 1 that you confirmed" in done.err
    assert left(machine) == 2


def test_sockets_that_were_not_shown_are_reported(machine: Timeline, socketctl: Shell) -> None:
    """As many as confirmed, but not the same ones: one closed, and another came."""
    first = machine.add(connection())
    machine.add(connection(local_port=4))

    def exchange() -> None:
        machine.sockets.sockets.remove(first)
        machine.add(connection(local_port=5))

    done = socketctl("destroy", "remote_port=443", typed="y\n", before=exchange)
    assert done.status == 0
    assert "1 socket began to match after you had been asked." in done.out
    assert f"{LOCAL}:5" in done.out
    assert f"{LOCAL}:4 " not in done.out
    assert done.out.endswith("2 sockets: 2 destroyed.\n")


def test_json_asks_on_standard_error(machine: Timeline, socketctl: Shell) -> None:
    machine.add(connection())
    done = socketctl("destroy", "remote_port=443", "--json", typed="yes\n")
    assert "[y/N]" in done.err
    assert done.json["outcomes"] == {"destroyed": 1}


def test_json_is_the_result_of_the_api(machine: Timeline, socketctl: Shell) -> None:
    machine.add(connection())
    machine.add(connection(local_port=9, errno=errno.EPERM))
    expected = api.destroy({"remote_port": "443"}, check=True, host=machine.host).to_dict()
    assert socketctl("destroy", "remote_port=443", "-n", "--json").json == expected
    done = socketctl("destroy", "remote_port=443", "-y", "--ndjson")
    assert [line["outcome"] for line in done.lines] == ["destroyed", "not_permitted"]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (errno.EPERM, exit_status.IMPOSSIBLE),
        (errno.EOPNOTSUPP, exit_status.IMPOSSIBLE),
        (errno.EBUSY, exit_status.FAILED),
    ],
)
def test_exit_status_of_sockets_that_were_not_destroyed(
    machine: Timeline, socketctl: Shell, code: int, status: int
) -> None:
    machine.add(connection(errno=code))
    done = socketctl("destroy", "remote_port=443", "--yes")
    assert done.status == status
    assert done.err.startswith("socketctl: 1 of the 1 selected sockets")


def test_unreadable_owner_is_a_lack_of_permission(
    machine: Timeline, socketctl: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.add(connection(), holder=None)

    def denied(*_arguments: object) -> None:
        raise PermissionError

    monkeypatch.setattr(holders, "FdDirectory", denied)
    done = socketctl("destroy", "remote_port=443", "--yes")
    assert "owner_unreadable" in done.out
    assert done.status == exit_status.IMPOSSIBLE
    assert "cannot read which processes hold it" in done.err


def test_drain_asks_waits_and_destroys(machine: Timeline, socketctl: Shell) -> None:
    machine.add(connection())
    done = socketctl("drain", "remote_port=443", "--grace", "5", typed="y\n")
    assert done.status == 0
    assert "Wait up to 5 s for 1 connection to end, then destroy the rest? [y/N]" in done.err
    assert "1 left (1 established)" in done.err
    assert "\r" in done.err
    assert done.out.splitlines()[-1].startswith("1 connection: 0 ended, 1 destroyed, in ")
    assert left(machine) == 0


def test_drain_without_terminal_writes_lines_when_something_changes(
    machine: Timeline, socketctl: Shell
) -> None:
    machine.add(connection())
    done = socketctl("drain", "remote_port=443", "--grace", "20", "--yes")
    assert done.status == 0
    (line,) = done.err.splitlines()
    assert line.startswith("1 left (1 established), 0 ended")
    assert "\r" not in done.err


def test_drain_that_only_waits_needs_no_answer(machine: Timeline, socketctl: Shell) -> None:
    machine.add(connection())
    done = socketctl("drain", "remote_port=443", "--grace", "1", "--no-destroy")
    assert done.status == exit_status.FAILED
    assert "1 left" in done.out
    assert left(machine) == 1
    assert socketctl("drain", "remote_port=80", "--no-destroy").status == 0


def test_interrupted_drain(machine: Timeline, socketctl: Shell) -> None:
    machine.add(connection())

    def interrupt() -> None:
        raise KeyboardInterrupt

    machine.at(10.0, interrupt)
    done = socketctl("drain", "remote_port=443", "--yes")
    assert done.status == exit_status.INTERRUPTED
    assert "Interrupted: 1 left" in done.err
    assert left(machine) == 1
