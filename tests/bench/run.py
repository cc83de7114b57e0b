# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Benchmark of the collection, compared with ss(8) in the same run: `make bench`.

Runs in its own network namespace. Exits with status 1 if a measured value exceeds its limit.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

# Imported for its side effect: it maps the core to linuxnet_sockets.
import tests.conftest  # noqa: F401  # pylint: disable=unused-import

# isort: split
from linuxnet_sockets.bpf import socket_destroy
from linuxnet_sockets.host import host, namespaces
from linuxnet_sockets.query import find, record
from linuxnet_sockets.selector.parse import parse_selector
from linuxnet_sockets.sockets.session import NamespaceSession
from tests.bench import (
    destroying,
    measure,
    other_namespaces,
    population,
    reaction,
    resident,
    stranded,
)

_INSIDE = "LINUXNET_SOCKETS_BENCH_INSIDE"
_ROUNDS = 7
_SOCKETS = 40_000
_DESTROYED = 20_000
_EVALUATED = 20_000
_STRANDED = 1_000
_EVALUATED_MEMORY = 100_000
_PEERS = 2_000
_UNROUTABLE = "10.64.8.0"  # one of the peers
_SELECTED_REMOTES = "10.66.0.0/24"
_OTHERS = "10.64.0.0/16"
# The guard rules that need the owner of a socket; ss -K has no equivalent.
_WITHOUT_OWNERS = dict.fromkeys(
    ("control_connection", "ssh_sessions", "ssh_forwards", "kernel"), False
)


def main() -> int:
    if _INSIDE not in os.environ:
        return _run_in_namespace()
    # As the modules do, which are short-lived processes.
    gc.disable()
    local_host = host.Host()
    far = population.FarEnd()
    try:
        with far.connections(_SOCKETS, {"10.66.0.1": 100}):
            print(
                f"{_SOCKETS} established sockets; medians of {_ROUNDS} alternating rounds",
                flush=True,
            )
            comparisons = [_find(local_host), _records(local_host)]
            _memory(local_host)
        comparisons += _destroy(far)
        comparisons.append(_evaluate(local_host, far))
        for others in (0, _EVALUATED):
            with far.connections(others, {}):
                comparisons += reaction.compare(far, _STRANDED, others, _ROUNDS)
        limits = [*resident.measure_agent(), *other_namespaces.measure_delays(far)]
    finally:
        far.close()
    print()
    results = (*comparisons, *limits)
    print(measure.HEADER)
    for result in results:
        print(result.line())
    return 0 if all(result.passed for result in results) else 1


def _run_in_namespace() -> int:
    """Run again in a new network namespace and, unless root, in a new user namespace."""
    user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    command = ("unshare", *user, "--net", sys.executable, str(Path(__file__).resolve()))
    return subprocess.run(command, check=False, env={**os.environ, _INSIDE: "1"}).returncode


def _session(local_host: host.Host) -> NamespaceSession:
    return NamespaceSession(local_host, namespaces.resolve(["current"])[0])


def _find(local_host: host.Host) -> measure.Comparison:
    selector = parse_selector({"remote": _SELECTED_REMOTES}, names=local_host)

    def ours() -> None:
        with _session(local_host) as session:
            found = find.find(session, selector)
        _expect(len(found), 100)

    ss = ("ss", "-Htn", "dst", _SELECTED_REMOTES)
    own, other = measure.alternate(ours, lambda: measure.run_quietly(*ss), _ROUNDS)
    return measure.Comparison("find 100 of 40,000 by remote prefix", " ".join(ss), own, other, 1.0)


def _make_records(local_host: host.Host) -> int:
    """Create the record with tcp_info of each socket, one at a time as ss prints its lines."""
    selector = parse_selector({}, names=local_host)
    details = ("info",)
    count = 0
    with _session(local_host) as session:

        def receive(sock: find.Socket) -> None:
            nonlocal count
            count += "rtt" in record.record(sock, details)["tcp_info"]

        find.find_map(
            receive, session, selector, session.snapshot(), extensions=record.extensions(details)
        )
    return count


def _records(local_host: host.Host) -> measure.Comparison:
    def ours() -> None:
        _expect(_make_records(local_host), _SOCKETS)

    ss = ("ss", "-Htni")
    own, other = measure.alternate(ours, lambda: measure.run_quietly(*ss), _ROUNDS)
    return measure.Comparison("40,000 records with tcp_info", " ".join(ss), own, other, 2.0)


def _memory(local_host: host.Host) -> None:
    def keep_all() -> None:
        with _session(local_host) as session:
            found = find.find(session, parse_selector({}, names=local_host))
        _expect(len(found), _SOCKETS)

    for name, action in (
        ("one record at a time", lambda: _make_records(local_host)),
        ("40,000 decoded sockets in a list", keep_all),
    ):
        before, peak = measure.peak_memory_mb(action)
        print(f"memory, {name}: peak {peak:.0f} MiB, before {before:.0f} MiB", flush=True)


def _evaluate(local_host: host.Host, far: population.FarEnd) -> measure.Comparison:
    """Evaluate `stranded` for 20,000 connections to 2,000 peers, one of them without a route.

    Also prints the memory for 100,000 connections, measured in a separate process.
    """
    remotes = [f"10.64.{1 + number // 250}.{number % 250}" for number in range(_PEERS)]

    def ours() -> None:
        _expect(stranded.count(local_host), _EVALUATED // _PEERS)

    ss = ("ss", "-Htni")
    with far.connections(_EVALUATED, dict.fromkeys(remotes, _EVALUATED // _PEERS)), _unroutable():
        _expect(stranded.count(local_host, stranded=False), _EVALUATED - _EVALUATED // _PEERS)
        own, other = measure.alternate(ours, lambda: measure.run_quietly(*ss), _ROUNDS)
    share = _EVALUATED_MEMORY // _PEERS
    with far.connections(_EVALUATED_MEMORY, dict.fromkeys(remotes, share)), _unroutable():
        program = str(Path(stranded.__file__).resolve())
        command = (sys.executable, program, str(_EVALUATED_MEMORY), str(share))
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    print(
        f"memory, verdict stranded of {_EVALUATED_MEMORY} connections: {output.strip()}", flush=True
    )
    return measure.Comparison(
        "verdict stranded, 20,000 to 2,000 peers", " ".join(ss), own, other, 3.0
    )


@contextmanager
def _unroutable() -> Iterator[None]:
    """Remove the route to one of the peers."""
    measure.run_quietly("ip", "route", "add", "unreachable", _UNROUTABLE)
    try:
        yield
    finally:
        measure.run_quietly("ip", "route", "del", "unreachable", _UNROUTABLE)


def _destroy(far: population.FarEnd) -> list[measure.Comparison]:
    """Destroy 20,000 connections in each of the ways, with new connections in each round."""
    ss = ("ss", "-K", "-Htn", "dst", _OTHERS)
    ways: dict[str, Callable[[], measure.Time]] = {
        "ss": lambda: measure.measure(lambda: measure.run_quietly(*ss)),
        "bare": lambda: destroying.destroy_time(_OTHERS, _DESTROYED, _WITHOUT_OWNERS),
        "guarded": lambda: destroying.destroy_time(_OTHERS, _DESTROYED, {}),
    }
    by_bpf = socket_destroy.probe("tcp").verdict == socket_destroy.SUPPORTED
    if by_bpf:
        ways["bpf"] = lambda: destroying.destroy_time(_OTHERS, _DESTROYED, _WITHOUT_OWNERS, "bpf")
    times: dict[str, list[measure.Time]] = {name: [] for name in ways}
    for _round in range(_ROUNDS):
        for name, way in ways.items():
            with far.connections(_DESTROYED, {}):
                times[name].append(way())
    medians = {name: measure.median(values) for name, values in times.items()}
    print(
        f"guard with the owners of {_DESTROYED} sockets: "
        f"{(medians['guarded'].cpu - medians['bare'].cpu) * 1000:.0f} ms more, ratio to ss -K "
        f"{medians['guarded'].cpu / medians['ss'].cpu:.2f}"
    )
    found = [
        measure.Comparison(
            "find, destroy and verify 20,000",
            " ".join(ss),
            medians["bare"],
            medians["ss"],
            0.8,
        )
    ]
    if by_bpf:
        found.append(
            measure.Comparison(
                "find, destroy and verify 20,000 by bpf",
                "engine netlink",
                medians["bpf"],
                medians["bare"],
                1.5,
                required=False,
            )
        )
    return found


def _expect(actual: object, expected: object) -> None:
    if actual != expected:
        raise SystemExit(f"unexpected number of sockets: {actual} instead of {expected}")


if __name__ == "__main__":
    raise SystemExit(main())
