# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Selectors that cannot match warn in every operation; owners by program, command line and unit."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from linuxnet_sockets import api, errors
from linuxnet_sockets.agent import commands
from linuxnet_sockets.agent.daemon import Daemon, Options
from linuxnet_sockets.agent.journal import Log
from linuxnet_sockets.agent.reporter import Reporter
from linuxnet_sockets.agent.scheduler import Scheduler
from linuxnet_sockets.agent.sd_notify import SystemdNotifier
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.host.processes import unit_of_process
from linuxnet_sockets.messages import describe_warning
from linuxnet_sockets.sockets.snapshot import Snapshot
from tests.kernel.test_names import holder
from tests.support.topologies.topology import Lab
from tests.support.topologies.waiting import until

OPEN = {"loopback": False, "control_connection": False}
NO_PID = 4194303


@pytest.mark.parametrize(
    ("match", "facts"),
    [
        ({"device": "wg00"}, ["match.device", "unknown interface", "Existing: ", "lo"]),
        ({"local": "interface:wg00"}, ["match.local", "unknown interface", "Existing: "]),
        ({"process": "/usr/sbin/nginx"}, ["match.process", "process: nginx", "exe"]),
        ({"process": "nginx,haproxy"}, ["match.process", "process: [nginx, haproxy]"]),
        (
            {"process": "nginx: worker process"},
            ["match.process", "'nginx: worker process'", "cmdline"],
        ),
        ({"process": "nginx.service"}, ["match.process", "unit: nginx.service"]),
        ({"cgroup": "/nginx.service"}, ["match.cgroup", "/system.slice/NAME", "unit"]),
        ({"pid": NO_PID}, ["match.pid", "no such process"]),
        (
            {"stranded": [{"verdict": ["rerouted"], "to": ["lo", "wg00"]}]},
            ["match.stranded[0].to", "'wg00'", "unknown interface"],
        ),
        ({"unit": "linuxnet-none"}, ["match.unit", "linuxnet-none.service"]),
        ({"not": {"process": "a/b"}, "local_port": 1}, ["match.not.process", "command name"]),
    ],
)
def test_every_operation_warns(lab: Lab, match: dict[str, Any], facts: list[str]) -> None:
    name = lab.namespace("absent").name
    policy = {
        "version": 1,
        "limits": {"max_sockets": 1},
        "namespaces": [name],
        "rules": [{"name": "a", "hold": 0, "match": {"remote_port": 1, **match}}],
    }
    results = [
        api.find(match, namespaces=[name]),
        api.destroy(match, namespaces=[name]),
        api.drain(match, namespaces=[name], grace=0),
        api.destroy({"local_port": 1}, namespaces=[name], protect={"selectors": [match]}),
    ]
    for result in results:
        (warning,) = result.warnings
        assert isinstance(warning, errors.Absent)
        text = describe_warning(warning)
        assert [fact for fact in facts if fact.split(".", 1)[-1] not in text] == []
    for of_policy in (api.enforce_policy(policy, check=True), api.plan_policy(policy)):
        kinds = {type(warning) for warning in of_policy.warnings}
        assert kinds & {errors.Absent, errors.InterfacesMissing}
        assert of_policy.to_dict()["warnings"]


def test_agent_names_parts_that_cannot_match(lab: Lab, tmp_path: Path) -> None:
    policy = {
        "version": 1,
        "limits": {"max_sockets": 1},
        "namespaces": [lab.namespace("agent").name],
        "protect": {"selectors": [{"pid": NO_PID}]},
        "rules": [{"name": "a", "match": {"remote_port": 1, "process": "/usr/sbin/nginx"}}],
    }
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(policy))
    out = io.StringIO()
    assert commands.plan(Host(), str(file), out, as_json=False, installed=False) == 0
    warnings = [line for line in out.getvalue().splitlines() if line.startswith("warning: ")]
    events: list[dict[str, Any]] = []
    with agent(tmp_path, file, events) as daemon:
        daemon.run_once()
        (text,) = [event["text"] for event in events if event.get("condition") == "selectors"]
        for fact in ("protect.selectors[0].pid", "no such process", "process: nginx"):
            assert fact in text
            assert fact in " ".join(warnings)
        policy["protect"] = {"loopback": True}
        policy["rules"][0]["match"] = {"remote_port": 1}
        file.write_text(json.dumps(policy))
        daemon.request_reload()
        daemon.scheduler = Scheduler(30)
        daemon.run_once()
    assert [event["text"] for event in events if event.get("condition") == "selectors"] == [
        text,
        None,
    ]


@contextlib.contextmanager
def agent(folder: Path, policy: Path, events: list[dict[str, Any]]) -> Iterator[Daemon]:
    class Recorder(Reporter):
        def event(self, name: str, fields: Mapping[str, Any]) -> None:
            events.append({"event": name, **fields})

    options = Options(str(policy), str(folder), str(folder))
    host = Host()
    log = Log(io.StringIO(), prefixed=False)
    daemon = Daemon(host, options, Recorder(log, None), SystemdNotifier({}, host.pid))
    try:
        yield daemon
    finally:
        daemon.close()


def test_existing_names_do_not_warn(lab: Lab) -> None:
    name = lab.namespace("present").name
    match = {"any": [{"device": "lo"}, {"local": "interface:lo"}, {"pid": os.getpid()}]}
    assert api.find(match, namespaces=[name]).warnings == ()


def test_owner_by_program_and_command_line(lab: Lab) -> None:
    where = lab.namespace("owners")
    with holder(where) as held:
        for key, right, wrong in (
            ("exe", sys.executable, "/usr/sbin/nginx"),
            ("cmdline", "import os, socket.*listen", "gunicorn.*app"),
        ):
            for value, count in ((right, 1), (wrong, 0)):
                match = {"local_port": held.port, "state": "established", key: value}
                assert api.find(match, namespaces=[where.name]).matched == count
        result = api.destroy(
            {"local_port": held.port},
            namespaces=[where.name],
            protect={**OPEN, "selectors": [{"exe": sys.executable}]},
        )
        assert result.outcomes == {"protected": 1}
        unit = unit_of_process("/proc", held.pid)
        if unit is not None:
            match = {"local_port": held.port, "unit": unit}
            assert api.find(match, namespaces=[where.name]).matched == 1


def test_unit_by_the_cgroup_of_creation(lab: Lab) -> None:
    from linuxnet_sockets.host.cgroups import mount_point

    mount = mount_point("/proc")
    unit = f"linuxnet-{os.getpid()}.service"
    if mount is None or not os.access(mount, os.W_OK):
        pytest.skip("cgroups cannot be created here")
    try:
        os.mkdir(f"{mount}/{unit}")
    except OSError:
        pytest.skip("cgroups cannot be created here")
    where = lab.namespace("units")
    try:
        with holder(where, cgroup=os.fsencode(f"{mount}/{unit}")) as held:
            match = {"local_port": held.port, "unit": unit}
            assert api.find(match, namespaces=[where.name]).matched == 1
    finally:
        os.rmdir(f"{mount}/{unit}")


@pytest.mark.parametrize("engine", ["destroy", "drain", "policy"])
def test_forgotten_become_is_said(lab: Lab, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    """The descriptors of another process are unreadable, as for an ordinary user."""
    from linuxnet_sockets.host import processes

    where = lab.namespace("become")
    with holder(where) as held:
        opened = processes.FdDirectory.__init__

        def denied(self: processes.FdDirectory, proc: str, pid: int, *rest: Any) -> None:
            if pid == held.pid:
                raise PermissionError(13, "Permission denied")
            opened(self, proc, pid, *rest)

        monkeypatch.setattr(processes.FdDirectory, "__init__", denied)
        match = {"local_port": held.port}
        if engine == "destroy":
            result: Any = api.destroy(match, namespaces=[where.name], protect=OPEN)
        elif engine == "drain":
            result = api.drain(match, namespaces=[where.name], protect=OPEN, grace=0)
        else:
            policy = {
                "version": 1,
                "limits": {"max_sockets": 5},
                "namespaces": [where.name],
                "protect": OPEN,
                "rules": [{"name": "a", "hold": 0, "match": match}],
            }
            result = api.enforce_policy(policy)
        assert result.outcomes == {"protected": 1}
        assert errors.OwnersUnreadable(1) in result.warnings
        texts = map(describe_warning, result.warnings)
        assert any("run with become" in text for text in texts)


@pytest.mark.parametrize("operation", ["destroy", "drain", "enforce_policy"])
def test_sockets_that_ended_during_the_snapshot_are_not_protected(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """Their process ends after the dump, so the guard finds no owner."""
    from linuxnet_sockets.guard import evaluator

    where = lab.namespace("churn")
    with holder(where) as held:
        # A policy looks up owners for its reports too.
        home, name = evaluator, "reasons_by_owner"
        if operation == "enforce_policy":
            home, name = Snapshot, "load_owners"
        look_up = getattr(home, name)

        def end_first(*arguments: Any) -> Any:
            with contextlib.suppress(ProcessLookupError):
                os.kill(held.pid, signal.SIGKILL)
            until(lambda: not os.path.exists(f"/proc/{held.pid}/fd/3"), "the process to end")
            return look_up(*arguments)

        monkeypatch.setattr(home, name, end_first)
        match = {"local_port": held.port, "state": "established"}
        options: dict[str, Any] = {"namespaces": [where.name], "protect": OPEN}
        if operation == "destroy":
            destroyed = api.destroy(match, **options)
            assert destroyed.outcomes == {"already_gone": 1}
        elif operation == "enforce_policy":
            policy = {
                "version": 1,
                "limits": {"max_sockets": 1},
                "namespaces": [where.name],
                "protect": OPEN,
                "rules": [{"name": "a", "hold": 0, "match": match}],
            }
            enforced = api.enforce_policy(policy)
            assert enforced.outcomes == {"already_gone": 1}
            (violation,) = enforced.violations
            assert (violation["status"], violation["protected_by"]) == ("destroy", None)
            assert not enforced.warnings
        else:
            drained = api.drain(match, grace=0, **options)
            assert (drained.outcomes, drained.ended, drained.matched) == ({}, 1, 1)
