# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures that the collection promises, beside ss(8) in the same run: `make bench`.

Runs in a network namespace of its own, and ends with status 1 where a promise is not kept.
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

# For what it does: it maps the core to linuxnet_sockets.
import tests.conftest  # noqa: F401  # pylint: disable=unused-import

# isort: split
from linuxnet_sockets.host import host, namespaces
from linuxnet_sockets.query import find, record
from linuxnet_sockets.selector.parse import parse_selector
from linuxnet_sockets.sockets.session import NamespaceSession
from tests.bench import destroying, measure, population, reaction, resident, stranded

_INSIDE = "LINUXNET_SOCKETS_BENCH_INSIDE"
_ROUNDS = 7
_SOCKETS = 40_000
_DOOMED = 20_000
_JUDGED = 20_000
_ENDED = 1_000
_JUDGED_AT_MOST = 100_000
_PEERS = 2_000
_UNROUTABLE = "10.64.8.0"  # one of the peers
_WANTED = "10.66.0.0/24"
_OTHERS = "10.64.0.0/16"
# The guard's rules that ask who holds a socket: ss -K has no such rules.
_WITHOUT_OWNERS = {"control_connection": False, "ssh_sessions": False, "kernel": False}


def main() -> int:
    if _INSIDE not in os.environ:
        return _enter()
    # As the modules do: they are processes that live for a moment.
    gc.disable()
    here = host.Host()
    far = population.FarEnd()
    try:
        with far.connections(_SOCKETS, {"10.66.0.1": 100}):
            print(
                f"{_SOCKETS} established sockets; medians of {_ROUNDS}, taken in turns", flush=True
            )
            comparisons = [_find(here), _records(here)]
            _memory(here)
        comparisons += _destroy(far)
        comparisons.append(_judge(here, far))
        for others in (0, _JUDGED):
            with far.connections(others, {}):
                comparisons += reaction.compare(far, _ENDED, others, _ROUNDS)
        promises = resident.promises()
    finally:
        far.close()
    print()
    told = (*comparisons, *promises)
    for each in told:
        print(each.line())
    return 0 if all(each.kept for each in told) else 1


def _enter() -> int:
    """Run again in a network namespace of one's own (and, not as root, a user namespace)."""
    user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    command = ("unshare", *user, "--net", sys.executable, str(Path(__file__).resolve()))
    return subprocess.run(command, check=False, env={**os.environ, _INSIDE: "1"}).returncode


def _view(here: host.Host) -> NamespaceSession:
    return NamespaceSession(here, namespaces.resolve(["current"])[0])


def _find(here: host.Host) -> measure.Comparison:
    selector = parse_selector({"remote": _WANTED}, names=here)

    def ours() -> None:
        with _view(here) as session:
            found = find.find(session, selector)
        _expect(len(found), 100)

    ss = ("ss", "-Htn", "dst", _WANTED)
    own, other = measure.alternate(ours, lambda: measure.run_quietly(*ss), _ROUNDS)
    return measure.Comparison("find 100 of 40,000 by remote prefix", " ".join(ss), own, other, 1.0)


def _make_records(here: host.Host) -> int:
    """Every socket's record, tcp_info included, one after the other, as ss prints its lines."""
    selector = parse_selector({}, names=here)
    details = ("info",)
    count = 0
    with _view(here) as session:

        def receive(sock: find.Socket) -> None:
            nonlocal count
            count += "rtt" in record.record(sock, details)["tcp_info"]

        find.find_map(
            receive, session, selector, session.snapshot(), extensions=record.extensions(details)
        )
    return count


def _records(here: host.Host) -> measure.Comparison:
    def ours() -> None:
        _expect(_make_records(here), _SOCKETS)

    ss = ("ss", "-Htni")
    own, other = measure.alternate(ours, lambda: measure.run_quietly(*ss), _ROUNDS)
    return measure.Comparison("40,000 records with tcp_info", " ".join(ss), own, other, 2.0)


def _memory(here: host.Host) -> None:
    def kept() -> None:
        with _view(here) as session:
            found = find.find(session, parse_selector({}, names=here))
        _expect(len(found), _SOCKETS)

    for name, action in (
        ("one record after the other", lambda: _make_records(here)),
        ("all 40,000 kept as subjects", kept),
    ):
        before, peak = measure.peak_memory_mb(action)
        print(f"memory, {name}: {peak:.0f} MiB at most, {before:.0f} MiB before", flush=True)


def _judge(here: host.Host, far: population.FarEnd) -> measure.Comparison:
    """Stranded or not, of 20,000 connections to 2,000 peers of which one has lost its route; and
    the memory that this takes for 100,000, in a process of its own."""
    remotes = [f"10.64.{1 + number // 250}.{number % 250}" for number in range(_PEERS)]

    def ours() -> None:
        _expect(stranded.judge(here), _JUDGED // _PEERS)

    ss = ("ss", "-Htni")
    with far.connections(_JUDGED, dict.fromkeys(remotes, _JUDGED // _PEERS)), _unroutable():
        _expect(stranded.judge(here, stranded=False), _JUDGED - _JUDGED // _PEERS)
        own, other = measure.alternate(ours, lambda: measure.run_quietly(*ss), _ROUNDS)
    share = _JUDGED_AT_MOST // _PEERS
    with far.connections(_JUDGED_AT_MOST, dict.fromkeys(remotes, share)), _unroutable():
        program = str(Path(stranded.__file__).resolve())
        command = (sys.executable, program, str(_JUDGED_AT_MOST), str(share))
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    print(
        f"memory, {_JUDGED_AT_MOST} connections judged stranded or not: {told.strip()}", flush=True
    )
    return measure.Comparison(
        "20,000 of 2,000 peers stranded or not", " ".join(ss), own, other, 3.0
    )


@contextmanager
def _unroutable() -> Iterator[None]:
    """While one of the peers has no route."""
    measure.run_quietly("ip", "route", "add", "unreachable", _UNROUTABLE)
    try:
        yield
    finally:
        measure.run_quietly("ip", "route", "del", "unreachable", _UNROUTABLE)


def _destroy(far: population.FarEnd) -> list[measure.Comparison]:
    """20,000 connections to the far end, each time made anew, and each way in turn."""
    ss = ("ss", "-K", "-Htn", "dst", _OTHERS)
    ways: dict[str, Callable[[], measure.Taken]] = {
        "ss": lambda: measure.taken(lambda: measure.run_quietly(*ss)),
        "bare": lambda: destroying.taken(_OTHERS, _DOOMED, _WITHOUT_OWNERS),
        "guarded": lambda: destroying.taken(_OTHERS, _DOOMED, {}),
    }
    times: dict[str, list[measure.Taken]] = {name: [] for name in ways}
    for _round in range(_ROUNDS):
        for name, way in ways.items():
            with far.connections(_DOOMED, {}):
                times[name].append(way())
    medians = {name: measure.median(each) for name, each in times.items()}
    print(
        f"the whole guard, which finds out who holds each of {_DOOMED} sockets: "
        f"{(medians['guarded'].cpu - medians['bare'].cpu) * 1000:.0f} ms more, ratio "
        f"{medians['guarded'].cpu / medians['ss'].cpu:.2f}"
    )
    return [
        measure.Comparison(
            "20,000 found, destroyed and verified",
            " ".join(ss),
            medians["bare"],
            medians["ss"],
            0.8,
        )
    ]


def _expect(found: object, wanted: object) -> None:
    if found != wanted:
        raise SystemExit(f"the bench measured something else: {found} instead of {wanted}")


if __name__ == "__main__":
    raise SystemExit(main())
