# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The time beyond a hold until connections are destroyed, while other namespaces have sockets."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.bench import population, reaction, resident
from tests.bench.resident import Limit

_NAMESPACES = 20
_SOCKETS = 1_000
_HOLD_MS = 200
_ROUNDS = 7
_PORT = 6_950
_MAX_BEYOND_MS = 300.0

# Connections over the loopback of a namespace. Argument: the number of sockets.
_POPULATE = """
import socket, subprocess, sys
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
held = []
for _pair in range(int(sys.argv[1]) // 2):
    held += [socket.create_connection(listener.getsockname()), listener.accept()[0]]
print("ready", flush=True)
sys.stdin.read()
"""


def measure_delays(far: population.FarEnd) -> list[Limit]:
    """Measure the longest of several delays, without and with other namespaces."""
    limits = []
    for index, count in enumerate((0, _NAMESPACES)):
        with ExitStack() as stack:
            pids = [stack.enter_context(_namespace()) for _number in range(count)]
            names = ["current", *(f"pid:{pid}" for pid in pids)]
            beyond_ms = _beyond_hold_ms(far, names, _PORT + index * _ROUNDS)
        name = f"{_HOLD_MS} ms hold, {count} namespaces: beyond it"
        limits.append(Limit(name, beyond_ms, "ms", _MAX_BEYOND_MS))
    return limits


def _beyond_hold_ms(far: population.FarEnd, namespaces: list[str], first_port: int) -> float:
    rule = {
        "name": "gone",
        "match": {"stranded": "address_gone"},
        "hold": f"{_HOLD_MS}ms",
    }
    longest_ms = 0.0
    with resident.agent(namespaces=namespaces, rules=[rule]):
        # Another port each time, because the agent backs off from repeated destinations.
        for port in range(first_port, first_port + _ROUNDS):
            with far.listener(port, 1):
                delay_ms = reaction.reaction_time(port, 1).wall * 1000 - _HOLD_MS
            longest_ms = max(longest_ms, delay_ms)
    return longest_ms


@contextmanager
def _namespace() -> Iterator[int]:
    """Run a process with sockets in a namespace of its own; yield its PID."""
    command = ("unshare", "--net", sys.executable, "-c", _POPULATE, str(_SOCKETS))
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise SystemExit("cannot make sockets in another namespace")
        try:
            yield process.pid
        finally:
            process.stdin.close()
            process.wait()
