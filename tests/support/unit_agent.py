# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent as its systemd unit runs it, and an unprivileged user against it.

    with UnitAgent(host, policy) as agent, Adversary(host) as user:
        process = user.start(PROGRAM, "192.0.2.2", "5432")

The unit is rendered from the template that the role and Salt install. From it come the
capabilities, no_new_privs, hidepid and the umask. The directories of the agent have the owners that
systemd gives them, and the policy belongs to root. The filter for system calls and the read-only
file systems are not applied.
"""

from __future__ import annotations

import atexit
import compileall
import contextlib
import functools
import importlib.util
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from linuxnet_sockets import api
from tests.kernel.agent.running import RunningAgent
from tests.support.topologies.topology import LabNamespace

_ROOT = Path(__file__).parents[2]
_CORE = _ROOT / "plugins" / "module_utils" / "_core"
_TEMPLATE = _ROOT / "roles" / "agent" / "templates" / "socket-agent.service.j2"

# A system user without an entry in passwd(5), and an ordinary user.
AGENT_UID = 950
ADVERSARY_UID = 1500

_MOUNT_PROC = 'mount -t proc -o "hidepid=$0" proc /proc; exec "$@"'
_ALL_IDS = ["0", "0", "4294967295"]


@functools.lru_cache(maxsize=1)
def unavailable_reason() -> str | None:
    """Why no agent can run as its unit runs it here, or None."""
    if os.geteuid() != 0:
        return "needs root: the agent and the adversary have users of their own"
    if Path("/proc/self/uid_map").read_text(encoding="ascii").split() != _ALL_IDS:
        return "needs root of the machine itself, not only of a user namespace"
    if shutil.which("setpriv") is None:
        return "needs setpriv of util-linux"
    if importlib.util.find_spec("jinja2") is None or not _TEMPLATE.exists():
        return "needs Jinja2 and the unit's template"
    done = subprocess.run(
        [*_as_agent(_render({})), "true"], capture_output=True, text=True, check=False
    )
    return f"this root lacks what the unit gives: {done.stderr}" if done.returncode else None


class Unit:
    """The settings of a rendered unit: `Name=value` lines, without sections."""

    def __init__(self, text: str) -> None:
        self._settings: dict[str, str] = {}
        for line in text.splitlines():
            name, equals, value = line.partition("=")
            if equals and not line.startswith("#"):
                self._settings[name] = value

    def __getitem__(self, name: str) -> str:
        return self._settings[name]

    @property
    def capabilities(self) -> list[str]:
        return self["AmbientCapabilities"].split()


def _render(document: Any) -> Unit:
    """The unit for a policy. An empty one: for all capabilities that a unit can have."""
    needs = {"reads_owners": True, "namespaces": ["all"], "engine": "auto"}
    if document:
        needs = api.check_policy(document, resolve_names=False).to_dict()
    import jinja2  # The guests of the kernel matrix have no Jinja2.

    environment = jinja2.Environment(
        trim_blocks=True, undefined=jinja2.StrictUndefined, autoescape=False
    )
    return Unit(
        environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
            agent__command="socket-agent",
            agent__engine=needs["engine"],
            agent__metrics="",
            agent__reads_owners=needs["reads_owners"],
            agent__foreign_namespaces=[each for each in needs["namespaces"] if each != "current"],
            agent_metrics_file="",
            agent_resync="30s",
            agent_user=str(AGENT_UID),
            agent_watchdog="60s",
            ansible_facts={"systemd": {"version": 252}},
        )
    )


def _as_agent(unit: Unit) -> list[str]:
    """The words before a command that runs it with the rights of the unit."""
    assert unit["CapabilityBoundingSet"] == unit["AmbientCapabilities"]
    assert unit["NoNewPrivileges"] == "yes"
    assert unit["ProtectProc"] == "invisible"
    names = [name.removeprefix("CAP_").lower() for name in unit.capabilities]
    capabilities = ",".join(["-all", *(f"+{name}" for name in names)])
    user = unit["User"]
    return [
        *("unshare", "--mount", "sh", "-ec", _MOUNT_PROC, "invisible"),
        *("setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--no-new-privs"),
        *("--inh-caps", capabilities, "--ambient-caps", capabilities),
        *("--bounding-set", capabilities, "--"),
    ]


@functools.lru_cache(maxsize=1)
def _installed_core() -> Path:
    """A compiled copy of the core that every user can read, as the role installs it."""
    library = Path(tempfile.mkdtemp(prefix="lns-core-", dir="/run"))
    atexit.register(shutil.rmtree, library, ignore_errors=True)
    library.chmod(0o755)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(_CORE, library / "linuxnet_sockets", ignore=ignored)
    compileall.compile_dir(library, quiet=2)
    return library


class UnitAgent(RunningAgent):
    """The agent in a namespace, as its unit runs it. The context manager starts and stops it.

    folder: its directories; policy.json there belongs to root.
    """

    _numbers = itertools.count()

    def __init__(self, where: LabNamespace, document: Any, *, resync: str = "30s") -> None:
        self.unit = _render(document)
        # Every directory above is root's alone, unlike that of pytest or /tmp.
        self.folder = Path(f"/run/lns-{os.getpid()}-agent-{next(self._numbers)}")
        super().__init__(
            where,
            self.folder,
            document,
            resync=resync,
            prefix=_as_agent(self.unit),
            start=False,
        )
        for directory, mode in (
            (self.state, self.unit["StateDirectoryMode"]),
            (self.runtime, self.unit["RuntimeDirectoryMode"]),
        ):
            os.chown(directory, AGENT_UID, AGENT_UID)
            directory.chmod(int(mode, 8))
        self.metrics_file = self.runtime / "metrics.prom"
        # The environment of a system service.
        self._environ = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": str(_installed_core()),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def __enter__(self) -> UnitAgent:
        try:
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self._remove()

    def _remove(self) -> None:
        try:
            if self.process is not None and self.process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.stop()
                self.kill()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


class Adversary:
    """An unprivileged user who runs programs in a namespace. The context manager ends them.

    groups: the supplementary groups of the user. home: a directory of the user. prefix: words
    before those that give up root.
    """

    _numbers = itertools.count()

    def __init__(
        self, where: LabNamespace, uid: int = ADVERSARY_UID, groups: Sequence[int] = ()
    ) -> None:
        self.where = where
        self.uid = uid
        self._groups = f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups"
        self.prefix: Sequence[str] = ()
        self.home = Path(f"/run/lns-{os.getpid()}-home-{next(self._numbers)}")
        self.home.mkdir(mode=0o700)
        os.chown(self.home, uid, uid)
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Adversary:
        return self

    def __exit__(self, *_exception: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
        shutil.rmtree(self.home, ignore_errors=True)

    def command(self, *words: str) -> list[str]:
        """The words that run a command as the user, in the namespace."""
        return self.where.command(
            *self.prefix,
            *("setpriv", "--reuid", str(self.uid), "--regid", str(self.uid)),
            *(self._groups, "--inh-caps=-all", "--", *words),
        )

    def run(self, *words: str) -> str:
        """Run a command as the user and return its output. Raises CalledProcessError."""
        done = subprocess.run(
            self.command(*words),
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=self.home,
            env=self._environ,
        )
        return done.stdout

    def start(
        self, program: str, *arguments: str, python: Sequence[str] = (sys.executable, "-I")
    ) -> subprocess.Popen[str]:
        """Start a program in Python as the user, with pipes for its input and output.

        python: the words that run Python.
        """
        return self.start_command(*python, "-c", program, *arguments)

    def start_command(self, *words: str) -> subprocess.Popen[str]:
        """Start a command as the user, with pipes for its input and output."""
        process = subprocess.Popen(
            self.command(*words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self.home,
            env=self._environ,
        )
        self._processes.append(process)
        return process

    @property
    def _environ(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        }


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line of a process's output."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the process exited"
    return line.rstrip("\n")
