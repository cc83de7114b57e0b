# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run destroy() without a guard on the running kernel and read its outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from linuxnet_sockets.destroy.command import destroy
from linuxnet_sockets.destroy.model import DestroyOptions, Report
from linuxnet_sockets.guard.options import Guard
from linuxnet_sockets.host import namespaces
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.selector.parse import parse_selector
from tests.support.topologies.topology import LabNamespace

# The test owns the sockets itself, so the guard must not protect its process tree.
UNGUARDED = Guard(
    control_connection=False,
    ssh_sessions=False,
    ssh_forwards=False,
    loopback=False,
    listeners=False,
    unconnected=False,
    shared_port=False,
    kernel=False,
)


# Modules that test several engines replace it.
default_engine = "netlink"


def run(
    where: LabNamespace | Sequence[LabNamespace],
    match: Any,
    *,
    host: Host | None = None,
    **options: Any,
) -> Report:
    host = host or Host()
    options.setdefault("engine", default_engine)
    spaces = [where] if isinstance(where, LabNamespace) else where
    return destroy(
        host,
        parse_selector(match, names=host, role="destroy"),
        namespaces.resolve([namespace.name for namespace in spaces]),
        DestroyOptions(UNGUARDED, **options),
    )


def outcomes_of(report: Report) -> dict[int, str]:
    return {result.socket.cookie: result.outcome for result in report.results}


def check_then_run(where: LabNamespace, match: Any, outcome: str) -> Report:
    """Run in check mode, then run. Both give the same outcome."""
    predicted = run(where, match, check=True)
    report = run(where, match)
    assert outcomes_of(report) == outcomes_of(predicted)
    assert set(report.counts) == {outcome}
    return report
