# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Groups of equal findings, and short names of hosts."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from .finding import Finding, program_name

Group = list[Finding]


def group_equal(findings: Iterable[Finding]) -> list[Group]:
    """Group the findings with equal host, namespace, verdicts, program and peer.

    Groups and their findings keep the order of the findings.
    """
    groups: dict[tuple[object, ...], Group] = {}
    for finding in findings:
        key = (
            finding["host"],
            finding["namespace"],
            finding["protocol"],
            tuple(verdict["verdict"] for verdict in finding["verdicts"]),
            program_name(finding),
            finding["remote"],
        )
        groups.setdefault(key, []).append(finding)
    return list(groups.values())


def folded_suffixes(names: Iterable[str]) -> list[str]:
    """Return the domains that the page leaves out of the names of hosts, the longest first.

    The first is the longest domain, such as `.fra.example.net`, of more than half of the hosts. The
    others are the domains above it that have at least two labels and occur without it. Addresses
    have no domain.
    """
    names = set(names)
    counts: Counter[str] = Counter()
    for name in names:
        first, *labels = name.split(".")
        if first and not _is_address(name):
            counts.update("." + ".".join(labels[at:]) for at in range(len(labels)))
    common = [suffix for suffix, count in counts.items() if count > 1 and 2 * count > len(names)]
    longest = max(common, key=len, default="")
    suffixes = [longest] if longest else []
    parent = longest
    while parent.count(".") > 2:
        parent = "." + parent[1:].partition(".")[2]
        if counts[parent] > counts[suffixes[-1]]:
            suffixes.append(parent)
    return suffixes


def short_names(names: Iterable[str], suffixes: Sequence[str]) -> Mapping[str, str]:
    """Return the name of each host without these domains; short names stay unique."""
    short = {name: _without(name, suffixes) for name in names}
    times = Counter(short.values())
    return {name: brief if times[brief] == 1 else name for name, brief in short.items()}


def _without(name: str, suffixes: Sequence[str]) -> str:
    for suffix in suffixes:
        if name.endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
