# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Salt master with minions, each in its own network namespace, with the files of examples/salt.

The master's host also runs the servers that the minions connect to. The processes are stopped at
the end: first the minions, since they need several seconds to stop.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import salt.utils.yaml

from tests.integration.socket_process import SocketProcess
from tests.support.topologies.networks import ip
from tests.support.topologies.topology import Lab, LabNamespace
from tests.support.topologies.waiting import until

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "salt"
# The address of the old database in the example pillar, and a server that nothing is said about.
DATABASE, DATABASE_PORT = "192.0.2.10", 5432
OTHER, OTHER_PORT = "192.0.2.20", 443
# A minion needs more than two seconds to stop.
_STOP_S = 5


class Minion:
    """A minion: its namespace, and a process there that is the client of the servers."""

    def __init__(self, name: str, namespace: LabNamespace, master: str, address: str) -> None:
        self.name = name
        self.namespace = namespace
        # The addresses of the link between master and minion.
        self.master = master
        self.address = address
        self.client = SocketProcess(namespace.spawn)

    def connect(self, address: str, port: int, count: int = 1, **options: Any) -> list[int]:
        """The numbers of new connections, for `states`."""
        made = self.client.connect(address, port, count, **options)
        return [each["number"] for each in made]

    def states(self, *numbers: int) -> list[str]:
        return self.client.state(*numbers)


class Fleet:
    """The master and its minions, not yet started. ports: publish_port and ret_port."""

    def __init__(self, lab: Lab, root: Path, names: Sequence[str], ports: tuple[int, int]) -> None:
        self.root = root
        self.host = lab.namespace("master")
        self.host.address("lo", f"{DATABASE}/32", f"{OTHER}/32")
        self.minions = {name: self._minion(lab, name, number) for number, name in enumerate(names)}
        self.servers = SocketProcess(self.host.spawn)
        for address, port in ((DATABASE, DATABASE_PORT), (OTHER, OTHER_PORT)):
            self.servers.listen(address, port)
        self._ports = ports

    def _minion(self, lab: Lab, name: str, number: int) -> Minion:
        master, address = f"198.51.100.{4 * number + 1}", f"198.51.100.{4 * number + 2}"
        namespace = lab.namespace(name)
        lab.connect(self.host, namespace, [f"{master}/30"], [f"{address}/30"])
        # Without a default route, look-ups of host names fail at once.
        ip(namespace, f"route add 192.0.2.0/24 via {master}")
        return Minion(name, namespace, master, address)

    @contextmanager
    def running(self) -> Iterator[Fleet]:
        """Start the master and the minions, and wait until the minions answer."""
        with _daemons() as daemons:
            config = self._config(
                "master",
                interface="0.0.0.0",
                publish_port=self._ports[0],
                ret_port=self._ports[1],
                auto_accept=True,
                worker_threads=3,
                file_roots={"base": [str(EXAMPLES / "salt")]},
                pillar_roots={"base": [str(EXAMPLES / "pillar")]},
                default_include=str(EXAMPLES / "master.d" / "*.conf"),
            )
            daemons.append(_start(self.host, "salt-master", config))
            for minion in self.minions.values():
                config = self._config(
                    minion.name,
                    role="minion",
                    id=minion.name,
                    master=minion.master,
                    master_port=self._ports[1],
                    acceptance_wait_time=1,
                    random_reauth_delay=1,
                )
                daemons.append(_start(minion.namespace, "salt-minion", config))
            until(self._all_answer, "all minions answer", seconds=60)
            yield self

    def _all_answer(self) -> bool:
        with suppress(AssertionError, ValueError):
            return set(self.salt("*", "test.ping", timeout=3)) == set(self.minions)
        return False

    def _config(self, name: str, *, role: str = "master", **options: Any) -> Path:
        directory = self.root / name
        directory.mkdir()
        options = {"user": "root", "root_dir": str(directory), **options}
        (directory / role).write_text(salt.utils.yaml.safe_dump(options))
        return directory

    def salt(self, target: str, function: str, *arguments: str, timeout: int = 30) -> Any:
        """The returns of the command `salt`, by minion."""
        words = ["--static", "--out=json", f"--timeout={timeout}", target, function, *arguments]
        return json.loads(self.command("salt", *words).stdout)

    def command(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the master."""
        command = _script(name)
        done = subprocess.run(
            self.host.command(*command, f"--config-dir={self.root / 'master'}", *words),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.stdout, done.stderr
        return done


def _script(name: str) -> list[str]:
    """The command line of one of Salt's commands in this environment."""
    return [sys.executable, str(Path(sys.executable).with_name(name))]


@contextmanager
def _daemons() -> Iterator[list[subprocess.Popen[bytes]]]:
    """A list for daemons, which are stopped at the end, all at the same time."""
    running: list[subprocess.Popen[bytes]] = []
    try:
        yield running
    finally:
        for process in running:
            process.terminate()
        deadline = time.monotonic() + _STOP_S
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(0.0, deadline - time.monotonic()))
            # Its remaining children.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _start(namespace: LabNamespace, name: str, config: Path) -> subprocess.Popen[bytes]:
    """Start a daemon of Salt in the foreground, as the leader of a process group of its own."""
    with (config / "out").open("wb") as output:
        return subprocess.Popen(
            namespace.command(*_script(name), f"--config-dir={config}"),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


@contextmanager
def fleet(*names: str, ports: tuple[int, int] = (4505, 4506)) -> Iterator[Fleet]:
    """A running fleet with minions of these names. ports: publish_port and ret_port."""
    # Paths of unix sockets have at most 107 characters.
    with (
        Lab() as lab,
        tempfile.TemporaryDirectory(prefix="salt-") as root,
        Fleet(lab, Path(root), names, ports).running() as made,
    ):
        yield made
