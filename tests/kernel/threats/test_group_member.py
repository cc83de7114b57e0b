# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A member of the agent's group can pause, resume, confirm, and read the status and the events.

A member can do no more, and other users can do nothing. The agent has CAP_DAC_READ_SEARCH in all of
these tests: it could read every file.
"""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.threats.test_unit import CONNECT
from tests.kernel.threats.vpn import VpnHost, policy, wait_for_reset
from tests.support.topologies.waiting import until
from tests.support.unit_agent import ADVERSARY_UID, AGENT_UID, Adversary, UnitAgent, line_of

SECRET = "root:$6$very-secret$" + "x" * 60

# Sends a line to the agent, and prints the answer or the error.
ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as sock:
    sock.settimeout(20)
    try:
        sock.connect(sys.argv[1])
        try:
            sock.sendall(sys.argv[2].encode() + b"\\n")
        except BrokenPipeError:
            pass  # The agent has refused the client already.
        print(sock.makefile().readline().strip())
    except OSError as error:
        print(type(error).__name__)
"""


@pytest.fixture
def agent(vpn: VpnHost) -> Iterator[UnitAgent]:
    with UnitAgent(vpn.host, policy()) as agent:
        yield agent


@pytest.fixture
def member(vpn: VpnHost) -> Iterator[Adversary]:
    with Adversary(vpn.host, groups=(AGENT_UID,)) as member:
        yield member


@pytest.fixture
def secret(agent: UnitAgent) -> Path:
    """A file that only root may read. Its content would be a valid pause."""
    path = agent.folder / "shadow"
    path.write_text(json.dumps({"reason": SECRET, "until": None}))
    path.chmod(0o600)
    return path


def ask(user: Adversary, agent: UnitAgent, request: dict[str, Any] | str) -> str:
    text = request if isinstance(request, str) else json.dumps(request)
    return user.run(
        sys.executable, "-I", "-c", ASK, str(agent.runtime / "agent.sock"), text
    ).strip()


def answer(user: Adversary, agent: UnitAgent, request: dict[str, Any] | str) -> dict[str, Any]:
    found = json.loads(ask(user, agent, request))
    assert isinstance(found, dict)
    return found


def published(agent: UnitAgent) -> str:
    """Everything that the agent shows to others."""
    commands = [agent.command("status")[1], agent.command("status", "--json")[1]]
    return "\n".join([*commands, written(agent)])


def written(agent: UnitAgent) -> str:
    """Everything that the agent writes by itself."""
    files = (agent.log_file, agent.runtime / "status.json", agent.metrics_file)
    return "\n".join(file.read_text() for file in files)


def test_member_may_pause_resume_confirm_and_read(agent: UnitAgent, member: Adversary) -> None:
    with agent.listen() as events:
        pause = {"request": "pause", "reason": "work \x1b[2J\n", "for_s": 60}
        assert answer(member, agent, pause) == {"answer": {"done": True}}
        until(lambda: agent.status()["inhibited_by"] == "paused", "pause in the status")
        assert agent.status()["pause"]["reason"] == "work \\x1b[2J\\x0a"
        status = answer(member, agent, {"request": "status"})["answer"]["status"]
        assert status["inhibited_by"] == "paused"
        assert answer(member, agent, {"request": "resume"}) == {"answer": {"done": True}}
        assert answer(member, agent, {"request": "resume"}) == {"answer": {"done": False}}
        assert answer(member, agent, {"request": "confirm"}) == {"answer": {"done": False}}
        assert answer(member, agent, {"request": "events"}) == {"answer": {}}
        assert "paused" in json.loads(events.readline())["text"]
    assert agent.log_lines("request", "request=pause", f"uid={ADVERSARY_UID}")
    assert "\x1b" not in published(agent)


def test_member_may_not_start_a_trial(agent: UnitAgent, member: Adversary) -> None:
    trial = {"request": "trial", "digest": agent.status()["policy"]["digest"], "within_s": 1}
    assert answer(member, agent, trial) == {"error": {"name": "not_permitted"}}
    assert agent.command("trial", "--within", "1h", str(agent.policy))[0] == 0
    until(lambda: agent.status()["trial"] is not None, "trial of root")
    confirm = {"request": "confirm", "digest": "0" * 64}
    assert answer(member, agent, confirm)["error"]["name"] == "other_policy_on_trial"
    assert answer(member, agent, {"request": "confirm"}) == {"answer": {"done": True}}
    until(lambda: agent.status()["trial"] is None, "confirmed")


def test_primary_group_counts_and_other_users_cannot_connect(
    vpn: VpnHost, agent: UnitAgent, user: Adversary
) -> None:
    for request in ("pause", "resume", "status", "events"):
        assert ask(user, agent, {"request": request}) == "PermissionError"
    # A user who gets past the mode of the socket still has to be a member.
    (agent.runtime / "agent.sock").chmod(0o666)
    for request in ("pause", "resume", "confirm", "trial", "status", "events"):
        assert answer(user, agent, {"request": request}) == {"error": {"name": "not_permitted"}}
    with Adversary(vpn.host, groups=tuple(range(2000, 2400))) as in_many_groups:
        assert answer(in_many_groups, agent, {"request": "status"}) == {
            "error": {"name": "not_permitted"}
        }
    with Adversary(vpn.host, groups=(*range(2000, 2400), AGENT_UID)) as last_group_counts:
        assert "answer" in answer(last_group_counts, agent, {"request": "status"})
    words = ("setpriv", "--reuid", "1500", "--regid", str(AGENT_UID), "--clear-groups", "--")
    done = subprocess.run(
        [*words, sys.executable, "-I", "-c", ASK, str(agent.runtime / "agent.sock")]
        + ['{"request": "status"}'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "answer" in json.loads(done.stdout)
    assert agent.status()["inhibited_by"] is None


def test_user_of_another_user_namespace_is_nobody(agent: UnitAgent, user: Adversary) -> None:
    """Root of a user namespace has uid 0 only there."""
    (agent.runtime / "agent.sock").chmod(0o666)
    try:
        shown = user.run(
            *("unshare", "--user", "--map-root-user", sys.executable, "-I", "-c", ASK),
            *(str(agent.runtime / "agent.sock"), '{"request": "pause"}'),
        )
    except subprocess.CalledProcessError:
        pytest.skip("users may not create user namespaces here")
    assert json.loads(shown) == {"error": {"name": "not_permitted"}}


ATTEMPTS = """
import os, sys
state, runtime, secret = sys.argv[1:]
def attempt(name, work):
    try:
        work()
        print("did", name)
    except OSError:
        pass
for directory in (state, runtime):
    for name in ("paused", "unconfirmed.json", "status.json", "budget.json", "agent.sock"):
        path = os.path.join(directory, name)
        attempt("link", lambda: os.symlink(secret, path))
        attempt("hard link", lambda: os.link(secret, path))
        attempt("pipe", lambda: os.mkfifo(path))
        attempt("device", lambda: os.mknod(path, 0o020666, os.makedev(1, 3)))
        attempt("file", lambda: os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)))
        attempt("write", lambda: os.close(os.open(path, os.O_WRONLY)))
        attempt("remove", lambda: os.unlink(path))
        attempt("rename", lambda: os.rename(path, path + "x"))
        attempt("chmod", lambda: os.chmod(path, 0o777))
    attempt("chmod", lambda: os.chmod(directory, 0o777))
    attempt("rename", lambda: os.rename(directory, directory + "x"))
attempt("list", lambda: os.listdir(state))
attempt("enter", lambda: os.stat(os.path.join(state, "paused")))
"""


def test_member_cannot_change_or_list_the_files_of_the_agent(
    agent: UnitAgent, member: Adversary, secret: Path
) -> None:
    assert stat.S_IMODE(agent.state.stat().st_mode) == 0o700
    assert answer(member, agent, {"request": "pause"}) == {"answer": {"done": True}}
    shown = member.run(
        *(sys.executable, "-I", "-c", ATTEMPTS),
        *(str(agent.state), str(agent.runtime), str(secret)),
    )
    assert shown == ""


def _own(path: Path) -> None:
    os.chown(path, ADVERSARY_UID, AGENT_UID, follow_symlinks=False)


def _link(path: Path, secret: Path) -> None:
    path.symlink_to(secret)
    _own(path)


def _hard_link(path: Path, secret: Path) -> None:
    os.link(secret, path)


def _pipe(path: Path, _secret: Path) -> None:
    os.mkfifo(path)
    _own(path)


def _device(path: Path, _secret: Path) -> None:
    os.mknod(path, 0o020666, os.makedev(1, 5))
    _own(path)


def _huge(path: Path, _secret: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 42)
    _own(path)


def _file(path: Path, secret: Path) -> None:
    path.write_text(secret.read_text())
    _own(path)


def _socket(path: Path, _secret: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def _directory_link(path: Path, secret: Path) -> None:
    path.symlink_to(secret.parent)


@pytest.mark.parametrize(
    "plant", [_link, _hard_link, _pipe, _device, _huge, _file, _socket, _directory_link]
)
def test_planted_files_are_neither_followed_nor_shown(
    agent: UnitAgent, secret: Path, plant: Callable[[Path, Path], None]
) -> None:
    """As an earlier version let members plant them. They count as a pause and an expired trial."""
    for name in ("paused", "unconfirmed.json"):
        plant(agent.state / name, secret)
    agent.notify()
    until(lambda: agent.status()["inhibited_by"] == "paused", "the agent saw the files", seconds=15)
    status = agent.status()
    assert str(agent.state / "paused") in status["pause"]["reason"]
    assert status["trial"]["expired"]
    agent.wait_for_pass()
    for part in (SECRET, "very-secret", SECRET[:20]):
        assert part not in published(agent)
    # Root cleans up with the ordinary commands.
    assert agent.command("resume") == (0, "resumed\n")
    assert agent.command("confirm") == (0, "confirmed\n")
    until(lambda: agent.status()["inhibited_by"] is None, "enforcing")
    assert SECRET in secret.read_text()


RACE = """
import os, sys, time
path, secret, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
new = path + ".new"
def text():
    with open(new, "w") as file:
        file.write('{"reason": "harmless", "until": null}')
kinds = [text, lambda: os.symlink(secret, new), lambda: os.mkfifo(new), text,
         lambda: os.symlink("/dev/zero", new), lambda: os.link(path, new)]
print("started", flush=True)
end, swaps = time.monotonic() + seconds, 0
while time.monotonic() < end:
    for kind in kinds:
        try:
            kind()
            os.rename(new, path)
            swaps += 1
        except OSError:
            pass
        try:
            os.unlink(new)
        except OSError:
            pass
print(swaps, flush=True)
"""


def test_race_between_kinds_of_files_reveals_nothing(
    agent: UnitAgent, member: Adversary, secret: Path
) -> None:
    """With the state directory that an earlier version left open to the group."""
    agent.state.chmod(0o777)
    racing = member.start(RACE, str(agent.state / "paused"), str(secret), "6")
    assert line_of(racing) == "started"
    reasons = set()
    while racing.poll() is None:
        agent.notify()
        assert "very-secret" not in written(agent)
        pause = agent.status()["pause"]
        reasons.add(None if pause is None else pause["reason"])
        time.sleep(0.01)
    assert int(line_of(racing)) > 1000
    # The agent saw the file in several of its states.
    assert len(reasons) > 2
    (agent.state / "paused").unlink()
    agent.notify()
    until(lambda: agent.status()["inhibited_by"] is None, "enforcing", seconds=15)
    assert "very-secret" not in published(agent)


FLOOD = """
import os, socket, sys, threading, time
path, seconds = sys.argv[1], float(sys.argv[2])
end = time.monotonic() + seconds
def connect():
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(0.2)
    sock.connect(path)
    return sock
def silent():
    held = []
    while time.monotonic() < end:
        try:
            held.append(connect())
        except OSError:
            time.sleep(0.01)
        del held[:-60]
def send(data, pause):
    while time.monotonic() < end:
        try:
            with connect() as sock:
                for part in data:
                    sock.send(part)
                    time.sleep(pause)
        except OSError:
            pass
garbage = os.urandom(64)
jobs = [(silent,), (send, [b"{"] * 50, 0.01), (send, [garbage * 100], 0),
        (send, [b'{"request": "status"}\\n'], 0), (send, [b'{"request": "events"}\\n'], 0.05),
        (send, [b'{"request": "resume"}\\n'], 0), (send, [b"["] * 4000 + [b"\\n"], 0)]
print("started", flush=True)
threads = [threading.Thread(target=job[0], args=job[1:]) for job in jobs]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def cpu_seconds(pid: int) -> float:
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_flood_of_a_member_delays_neither_enforcement_nor_root(
    vpn: VpnHost, agent: UnitAgent, member: Adversary, user: Adversary
) -> None:
    listening = vpn.listen()
    pid = agent.status()["pid"]
    flooding = member.start(FLOOD, str(agent.runtime / "agent.sock"), "12")
    assert line_of(flooding) == "started"
    started, cpu_started = time.monotonic(), cpu_seconds(pid)
    time.sleep(3)

    process = user.start(CONNECT, vpn.server4, str(listening.getsockname()[1]))
    peer = vpn.accept(listening)
    line_of(process)
    wait_for_reset(peer, vpn.start_vpn())

    asked = time.monotonic()
    assert agent.command("pause", "--reason", "by root") == (0, "paused\n")
    assert time.monotonic() - asked < 8
    flooding.wait(timeout=30)
    share = (cpu_seconds(pid) - cpu_started) / (time.monotonic() - started)
    assert share < 0.25
    assert agent.command("resume")[0] == 0


def test_pause_of_root_works_with_a_stopped_agent(agent: UnitAgent, member: Adversary) -> None:
    agent.stop()
    assert ask(member, agent, {"request": "pause"}) == "FileNotFoundError"
    core = agent._environ["PYTHONPATH"]
    with pytest.raises(subprocess.CalledProcessError) as caught:
        member.run(
            *("env", f"PYTHONPATH={core}", sys.executable, "-m", "linuxnet_sockets.agent.cli"),
            *("pause", "--state-directory", str(agent.state)),
            *("--runtime-directory", str(agent.runtime)),
        )
    assert caught.value.returncode == 1
    code, text = agent.command("pause", "--reason", "before the start")
    assert (code, text) == (0, "paused (no agent is running)\n")
    assert agent.command("trial", "--within", "1h", str(agent.policy))[0] == 0
    agent.start()
    status = agent.status()
    assert status["inhibited_by"] == "paused"
    assert status["pause"]["reason"] == "before the start"
    assert not status["trial"]["expired"]
    # The agent can end what root began.
    assert answer(member, agent, {"request": "resume"}) == {"answer": {"done": True}}
    assert answer(member, agent, {"request": "confirm"}) == {"answer": {"done": True}}
    until(lambda: agent.status()["inhibited_by"] is None, "enforcing")


@pytest.mark.parametrize("kind", ["group", "others", "owner", "directory", "link"])
def test_policy_that_users_may_write_is_rejected(
    vpn: VpnHost, agent: UnitAgent, user: Adversary, kind: str
) -> None:
    digest = agent.status()["policy"]["digest"]
    harmless = {**policy(), "mode": "report"}
    agent.write(harmless)
    place = agent.policy
    if kind == "group":
        agent.policy.chmod(0o664)
    elif kind == "others":
        agent.policy.chmod(0o646)
    elif kind == "owner":
        os.chown(agent.policy, ADVERSARY_UID, ADVERSARY_UID)
    elif kind == "directory":
        place = agent.folder
        place.chmod(0o777)
    else:
        place = user.home
        target = user.home / "policy.json"
        target.write_text(json.dumps(harmless))
        agent.policy.unlink()
        agent.policy.symlink_to(target)
    agent.notify()
    until(lambda: agent.status()["rejected"] is not None, "rejected", seconds=15)
    status = agent.status()
    assert status["policy"]["digest"] == digest
    (error,) = status["rejected"]["errors"]
    mode = stat.S_IMODE(place.stat().st_mode)
    assert f"{place} " in error
    assert f"mode {mode:04o}, owner uid {place.stat().st_uid}" in error

    # Enforcement of the previous policy goes on.
    listening = vpn.listen()
    process = user.start(CONNECT, vpn.server4, str(listening.getsockname()[1]))
    peer = vpn.accept(listening)
    line_of(process)
    wait_for_reset(peer, vpn.start_vpn())

    # After the correction, without a change of the file, the agent loads it.
    if kind == "link":
        agent.policy.unlink()
        agent.write(harmless)
    elif kind == "owner":
        os.chown(agent.policy, 0, 0)
    else:
        place.chmod(0o755 if kind == "directory" else 0o644)
    agent.notify()
    until(lambda: agent.status()["rejected"] is None, "accepted", seconds=15)
    assert re.fullmatch("[0-9a-f]{64}", agent.status()["policy"]["digest"])
    assert agent.status()["policy"]["mode"] == "report"
