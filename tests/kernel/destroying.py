# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run destroy() without a guard on the real kernel and read its outcomes."""

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

# The test holds the sockets itself, so its own and its ancestors' must not be protected.
OPEN = Guard(
    control_connection=False,
    ssh_sessions=False,
    loopback=False,
    listeners=False,
    unconnected=False,
    kernel=False,
)


def run(
    where: LabNamespace | Sequence[LabNamespace],
    match: Any,
    *,
    host: Host | None = None,
    **options: Any,
) -> Report:
    host = host or Host()
    spaces = [where] if isinstance(where, LabNamespace) else where
    return destroy(
        host,
        parse_selector(match, names=host, role="destroy"),
        namespaces.resolve([each.name for each in spaces]),
        DestroyOptions(OPEN, **options),
    )


def outcomes_of(report: Report) -> dict[int, str]:
    return {result.socket.cookie: result.outcome for result in report.results}


def as_predicted(where: LabNamespace, match: Any, outcome: str) -> Report:
    """Check mode says it, and then it is so."""
    predicted = run(where, match, check=True)
    report = run(where, match)
    assert outcomes_of(report) == outcomes_of(predicted)
    assert set(report.counts) == {outcome}
    return report
