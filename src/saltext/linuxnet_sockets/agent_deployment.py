# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deploys the agent on a minion, and removes it: the steps of agent_running and agent_absent.

The steps are states of Salt, such as ``file.managed``. Their changes become the changes of the
whole state. A step that fails ends the deployment.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from salt.exceptions import CommandExecutionError

from saltext.linuxnet_sockets import agent_files as files
from saltext.linuxnet_sockets import operations

if operations.AVAILABLE:
    from linuxnet_sockets import api, values
    from linuxnet_sockets.agent import requests

Functions = Mapping[str, Callable[..., Any]]

_UNIT_DURATION = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d)?")
_PROTECT_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_WAIT_S = 20.0
_MIN_DURATION_MS = 1000


class Options(NamedTuple):
    """The arguments of agent_running. policy: the document."""

    policy: Mapping[str, Any]
    protect: Mapping[str, Any]
    confirm_within: Any
    packages: Sequence[str]
    python: str
    metrics_file: str
    resync: str
    watchdog: str
    user: str


class Steps:
    """Runs the states of a deployment and collects their changes.

    changes: by path, or by the kind and the name of a package, user or service. pending: whether a
    change would follow without test mode.
    """

    def __init__(self, states: Functions, *, test: bool) -> None:
        self._states = states
        self.test = test
        self.changes: dict[str, Any] = {}
        self.pending = False

    def run(self, state: str, name: str, **arguments: Any) -> bool:
        """Return whether it changed something, or would. Raises CommandExecutionError."""
        result = self._states[state](name, **arguments)
        if result["result"] is False:
            raise CommandExecutionError(f"{state} {name}: {result['comment']}")
        changed = bool(result["changes"]) or result["result"] is None
        if changed:
            path = name.startswith("/")
            self.note(
                name if path else f"{state.partition('.')[0]} {name}",
                result["changes"] or result["comment"],
            )
        return changed

    def note(self, name: str, change: Any) -> None:
        """Record a change that no state made."""
        self.changes[name] = change
        self.pending = self.pending or self.test


class Deployment:
    """One deployment. salt: the execution functions. grains: of the minion."""

    def __init__(
        self, options: Options, steps: Steps, salt: Functions, grains: Mapping[str, Any]
    ) -> None:
        self._options = options
        self._steps = steps
        self._salt = salt
        self._grains = grains
        self._policy_changed = False
        self.warnings: list[str] = []

    def run(self) -> str:
        """Deploy the agent and return a comment. Raises CommandExecutionError and OSError."""
        checked = self._check()
        self._install()
        reload = self._configure(checked["digest"])
        self._start(checked, reload=reload)
        self._remove_obsolete()
        if self._steps.test:
            return f"The agent would run with the policy {checked['digest'][:12]}."
        return self._verify(checked["digest"])

    # Checks, before anything is changed

    def _check(self) -> dict[str, Any]:
        """Check the options and return the needs of the policy. Raises CommandExecutionError."""
        options = self._options
        if self._grains.get("init") != "systemd":
            raise CommandExecutionError(
                f"The agent needs systemd as init (found: {self._grains.get('init')})."
            )
        with operations.errors_for_salt():
            for name in ("resync", "watchdog", *(["confirm_within"] if self._on_trial else [])):
                values.parse_duration_ms(getattr(options, name), (name,), low_ms=_MIN_DURATION_MS)
        policy = _checked(options.policy)
        reads_owners = policy["reads_owners"]
        if options.protect:
            protect = _checked(_protecting(options.protect))
            reads_owners = reads_owners or protect["reads_owners"]
        wrong = [name for name in options.protect if not _PROTECT_NAME.fullmatch(str(name))]
        if wrong:
            raise CommandExecutionError(
                f"protect: {wrong[0]!r}: not a valid name. Allowed: letters, digits, - and _."
            )
        directory = os.path.dirname(options.metrics_file)
        if options.metrics_file and not os.path.isdir(directory):
            raise CommandExecutionError(f"metrics_file: the directory {directory} does not exist.")
        metrics = options.metrics_file
        if metrics and os.path.lexists(metrics) and not files.is_metrics_link(metrics):
            raise CommandExecutionError(
                f"metrics_file: {metrics} exists and is not a link to {files.METRICS}. "
                "Move it away, or choose another file."
            )
        self._check_user()
        self.warnings += policy["warnings"]
        return {**policy, "reads_owners": reads_owners}

    @property
    def _on_trial(self) -> bool:
        return self._options.confirm_within not in (None, "")

    def _check_user(self) -> None:
        info = self._salt["user.info"](self._options.user)
        if info and info["fullname"] != files.USER_COMMENT:
            raise CommandExecutionError(
                f"The user {self._options.user} exists and does not belong to the agent. "
                "Set user to another name."
            )

    # Steps

    def _install(self) -> None:
        """Install pyroute2, the core and the commands."""
        options, steps = self._options, self._steps
        missing = self._salt["cmd.retcode"](
            [options.python, "-Ic", "import pyroute2"], python_shell=False, ignore_retcode=True
        )
        if missing and options.packages:
            steps.run("pkg.installed", "agent-packages", pkgs=list(options.packages))
        core = _core()
        program = files.program(core)
        if not files.is_installed(core, program):
            if not steps.test:
                files.install(core, program)
            steps.note(program, "installed")
        for command, module in files.COMMANDS.items():
            text = files.launcher(module, program, options.python)
            self._file(command, text, mode="0755")

    def _file(self, path: str, text: str, *, mode: str = "0644", group: str = "root") -> bool:
        return self._steps.run(
            "file.managed", path, contents=text, user="root", group=group, mode=mode
        )

    def _configure(self, digest: str) -> bool:
        """Write the user, the directories, the protection and the policy.

        Returns whether the agent has to read them again.
        """
        options, steps = self._options, self._steps
        user = options.user
        steps.run("group.present", user, system=True)
        steps.run(
            "user.present",
            user,
            gid=user,
            fullname=files.USER_COMMENT,
            home="/nonexistent",
            shell="/usr/sbin/nologin",
            createhome=False,
            system=True,
        )
        # The agent rejects a policy in directories that other users may write.
        for directory in (files.CONFIG_DIRECTORY, files.PROTECT_DIRECTORY):
            steps.run(
                "file.directory", directory, user="root", group="root", mode="0755", makedirs=True
            )
        steps.run("file.directory", files.STATE_DIRECTORY, user=user, group=user, mode="0700")
        reload = False
        wanted = {
            f"{files.PROTECT_DIRECTORY}/agent-{name}.json": selectors
            for name, selectors in options.protect.items()
        }
        for path, selectors in wanted.items():
            reload |= self._file(path, files.json_text(selectors))
        for path in _protect_files():
            if path not in wanted:
                reload |= steps.run("file.absent", path)
        if self._on_trial and not steps.test and _installed_digest() != digest:
            # Before the agent can read the policy.
            seconds = values.parse_duration_ms(options.confirm_within, ()) / 1000
            with operations.errors_for_salt():
                requests.start_trial(requests.Directories(), digest, seconds)
        self._policy_changed = self._file(
            files.POLICY_FILE, files.json_text(options.policy), mode="0640", group=user
        )
        return reload or self._policy_changed

    def _start(self, checked: Mapping[str, Any], *, reload: bool) -> None:
        """Write the unit, and start, restart or reload the agent."""
        options, steps = self._options, self._steps
        previous = _previous_metrics_file()
        settings = files.Settings(
            user=options.user,
            resync=_for_unit(options.resync),
            watchdog=_for_unit(options.watchdog),
            metrics_file=options.metrics_file,
            reads_owners=checked["reads_owners"],
            namespaces=checked["namespaces"],
            engine=checked["engine"],
            systemd=int(self._grains["systemd"]["version"]),
        )
        new_unit = self._file(files.UNIT_FILE, files.unit(settings))
        if new_unit and not steps.test:
            self._salt["service.systemctl_reload"]()
        if options.metrics_file:
            steps.run("file.symlink", options.metrics_file, target=files.METRICS, force=True)
        if previous != options.metrics_file and files.is_metrics_link(previous):
            steps.run("file.absent", previous)
        if steps.test and new_unit:
            # The service may not exist yet.
            return
        started = steps.run("service.running", files.UNIT, enable=True)
        if started or steps.test:
            return
        if _program_is_newer():
            self._salt["service.restart"](files.UNIT)
            steps.note(f"service {files.UNIT}", "restarted")
        elif reload:
            self._salt["service.reload"](files.UNIT)
            steps.note(f"service {files.UNIT}", "reloaded")

    def _remove_obsolete(self) -> None:
        for path in files.obsolete(files.program(_core())):
            self._steps.run("file.absent", path)

    # Verification

    def _verify(self, digest: str) -> str:
        """Wait until the agent has this policy, and return a comment."""
        status = _wait(lambda status: (status.get("policy") or {}).get("digest") == digest)
        if self._policy_changed and not self._on_trial:
            # Only now: before, this would put an expired policy back in force.
            with operations.errors_for_salt():
                requests.confirm(requests.Directories(), digest=None)
            status = _wait(lambda status: not status.get("trial"))
        if not status.get("healthy"):
            reasons = [
                status.get("inhibited_by"),
                status.get("faults"),
                status.get("rejected"),
                (status.get("last_pass") or {}).get("not_evaluated"),
            ]
            reason = next((str(each) for each in reasons if each), "see socket-agent status")
            self.warnings.append(f"The agent runs with this policy but is unhealthy: {reason}.")
        text = f"The agent runs with the policy {digest[:12]}."
        if status.get("trial"):
            minutes = status["trial"]["remaining_s"] / 60
            text += f" It is on trial: confirm it within {minutes:.1f} minutes."
        return text


def remove(user: str, steps: Steps, salt: Functions) -> str:
    """Remove the agent and all of its files. Returns a comment."""
    if os.path.exists(files.UNIT_FILE):
        previous = _previous_metrics_file()
        user = _previous_user() or user
        steps.run("service.dead", files.UNIT, enable=False)
        if files.is_metrics_link(previous):
            steps.run("file.absent", previous)
    for path in (
        files.UNIT_FILE,
        *files.COMMANDS,
        files.LIBRARY,
        files.POLICY_FILE,
        files.STATE_DIRECTORY,
        files.RUNTIME_DIRECTORY,
        *_protect_files(),
    ):
        steps.run("file.absent", path)
    if files.UNIT_FILE in steps.changes and not steps.test:
        salt["service.systemctl_reload"]()
    for directory in (files.PROTECT_DIRECTORY, files.CONFIG_DIRECTORY):
        if os.path.isdir(directory) and not os.listdir(directory):
            steps.run("file.absent", directory)
    info = salt["user.info"](user)
    if info and info["fullname"] == files.USER_COMMENT:
        steps.run("user.absent", user)
        steps.run("group.absent", user)
    if steps.test:
        return "The agent would be removed." if steps.changes else "The agent is not installed."
    return "The agent is removed." if steps.changes else "The agent was not installed."


def _core() -> dict[str, bytes]:
    """The files of the core of this installation."""
    return files.core_files(Path(str(api.__file__)).parents[1])


def _checked(policy: Mapping[str, Any]) -> dict[str, Any]:
    """Check a policy and return its needs. Raises CommandExecutionError with all of its errors."""
    result: dict[str, Any] = operations.call(api.check_policy, policy=policy)
    if not result["valid"]:
        problems = "\n- ".join(result["errors"])
        raise CommandExecutionError(f"The policy is invalid, and nothing was done:\n- {problems}")
    return result


def _protecting(protect: Mapping[str, Any]) -> dict[str, Any]:
    """A minimal policy with these selectors in its guard."""
    selectors = [each for given in protect.values() for each in _listed(given)]
    return {
        "version": 1,
        "limits": {"max_sockets": 1, "per": "1m"},
        "rules": [{"name": "nothing", "match": {"state": "close"}, "action": "report"}],
        "protect": {
            "control_connection": False,
            "ssh_sessions": False,
            "kernel": False,
            "selectors": selectors,
        },
    }


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _protect_files() -> list[str]:
    return sorted(map(str, Path(files.PROTECT_DIRECTORY).glob("agent-*.json")))


def _installed_digest() -> str | None:
    """The digest of the policy on the host; None if there is none, or an invalid one."""
    try:
        policy = json.loads(Path(files.POLICY_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    digest: str | None = operations.call(api.check_policy, policy=policy)["digest"]
    return digest


def _setting(pattern: str) -> str:
    """A setting of the installed unit; empty if there is none."""
    try:
        unit = Path(files.UNIT_FILE).read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(pattern, unit, re.MULTILINE)
    return found[1] if found else ""


def _previous_metrics_file() -> str:
    return _setting(r"^MetricsLink=(.+)$")


def _previous_user() -> str:
    return _setting(r"^User=(.+)$")


def _program_is_newer() -> bool:
    """Whether the program is newer than the running agent, which creates its socket at start."""
    try:
        started = os.stat(os.path.join(files.RUNTIME_DIRECTORY, "agent.sock")).st_ctime
    except FileNotFoundError:
        # An agent of another version has another socket.
        return True
    return any(os.stat(path).st_ctime > started for path in (files.AGENT, files.UNIT_FILE))


def _wait(condition: Callable[[Mapping[str, Any]], bool]) -> dict[str, Any]:
    """The first status of the agent that meets a condition. Raises CommandExecutionError."""
    for status in _statuses():
        if condition(status):
            return status
    raise CommandExecutionError(
        f"The agent did not take over the policy within {_WAIT_S:g} s. See socket-agent status."
    )


def _statuses() -> Iterator[dict[str, Any]]:
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        with operations.errors_for_salt():
            yield requests.status(files.RUNTIME_DIRECTORY)
        time.sleep(0.2)


def _for_unit(duration: int | str) -> str:
    """A duration as the unit file takes it: one word, with a unit that systemd knows."""
    written = str(duration).strip()
    if _UNIT_DURATION.fullmatch(written):
        return written
    return f"{values.parse_duration_ms(duration, ())}ms"
