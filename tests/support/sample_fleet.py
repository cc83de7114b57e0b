# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A made-up report of fifty hosts, for tests of the page's size and behaviour."""

from __future__ import annotations

import random
from typing import Any

from plugins.plugin_utils._report.document import build_report
from tests.support.sample_results import (
    FAILED,
    TIME,
    UNREACHABLE,
    facts_result,
    info_result,
    record,
    verdict,
)

EARLIER_TIME = "2026-11-20T06:40:10Z"

# Kind, number of hosts, command, unit.
_KINDS = (
    ("web", 24, "nginx", "nginx.service"),
    ("app", 12, "java", "orders.service"),
    ("db", 6, "postgres", "postgresql@16-main.service"),
    ("cache", 4, "redis-server", "redis.service"),
    ("gw", 2, "haproxy", "haproxy.service"),
)
_VERDICTS = {
    "close_wait": 30,
    "zero_window": 16,
    "retransmitting": 16,
    "silent": 12,
    "syn_sent": 7,
    "fin_wait": 5,
    "orphaned": 3,
    "address_gone": 4,
    "unroutable": 2,
    "no_carrier": 2,
    "superseded": 2,
    "rerouted": 2,
}
_NETWORK = ("address_gone", "unroutable", "no_carrier", "rerouted")
_STATES = {"close_wait": "close-wait", "syn_sent": "syn-sent", "fin_wait": "fin-wait-2"}


def fleet_report(findings: int = 500, **options: Any) -> dict[str, Any]:
    """Return a report of 48 hosts that answered and two that did not, with so many findings."""
    results = _results(findings)
    results["db-old.fra.example.net"] = UNREACHABLE
    results["old-1.fra.example.net"] = FAILED
    facts = {name: facts_result(established=100 + 7 * index) for index, name in enumerate(results)}
    return build_report(results, facts, **{"time": TIME, **options})


def earlier_report() -> dict[str, Any]:
    """Return an earlier report, in which some sockets are others."""
    earlier = fleet_report(time=EARLIER_TIME)
    for index, finding in enumerate(earlier["findings"]):
        if index % 14 == 0:
            finding["cookie"] = f"f{finding['cookie']}"
    return earlier


def compared_report() -> dict[str, Any]:
    """Return a report that is compared with an earlier one."""
    return fleet_report(previous=earlier_report())


def single_report() -> dict[str, Any]:
    """Return a report of one host with one finding."""
    found = record(verdict("close_wait", 1_900_000, last_ack_ms=1_900_000), state="close-wait")
    name = "web-1.example.net"
    return build_report({name: info_result(found)}, {name: facts_result(established=80)}, time=TIME)


def _results(findings: int) -> dict[str, Any]:
    source = random.Random(3)
    hosts = {
        f"{kind}-{number}.{'fra' if number % 5 else 'ams'}.example.net": (comm, unit)
        for kind, count, comm, unit in _KINDS
        for number in range(1, count + 1)
    }
    names = list(hosts)
    affected = [name for index, name in enumerate(names) if index % 4 != 3]
    records: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    count = 0
    while count < findings:
        host = source.choice(affected[:6] if source.random() < 0.4 else affected)
        (name,) = source.choices(list(_VERDICTS), list(_VERDICTS.values()))
        peer = source.choice(
            (
                f"10.20.{source.randrange(4)}.{source.randrange(1, 9)}",
                f"198.51.100.{source.randrange(1, 6)}",
                f"203.0.113.{source.randrange(1, 30)}",
                f"2001:db8:4:{source.randrange(3)}::{source.randrange(1, 6)}",
            )
        )
        for _repeat in range(min(findings - count, source.choice((1, 1, 1, 2, 3, 6, 12)))):
            records[host].append(
                _record(source, name, peer, count, names.index(host) + 1, *hosts[host])
            )
            count += 1
    return {name: info_result(*found) for name, found in records.items()}


def _record(
    source: random.Random, name: str, peer: str, number: int, host: int, comm: str, unit: str
) -> dict[str, Any]:
    age = None if name in _NETWORK else int(source.expovariate(1 / 900) * 1000) + 900
    evidence: dict[str, Any] = {"last_ack_ms": age, "backoff": 6, "unsent_bytes": 169_370}
    if name == "rerouted":
        evidence = {"held_by": ["eth0"], "leaves_by": ["wg0"], "table": 51820}
    verdicts = [verdict(name, age, **evidence)]
    if name == "address_gone" and number % 2:
        verdicts.append(verdict("retransmitting", 30_000, retransmits=6))
    port = source.randrange(32768, 60999)
    is_server = name == "close_wait"
    changes: dict[str, Any] = {}
    if name == "superseded":
        verdicts = []
        changes["superseded"] = {"silent_ms": age, "by": {"remote_port": 4, "cookie": "4a"}}
    return record(
        *verdicts,
        cookie=f"{0x1000 + number:x}",
        state=_STATES.get(name, "established"),
        local=f"2001:db8:1::{host:x}" if ":" in peer else f"10.1.0.{host}",
        local_port=443 if is_server else port,
        remote=peer,
        remote_port=port if is_server else source.choice((443, 5432, 6379)),
        send_queue=source.choice((0, 2048, 169_370)) if name == "zero_window" else 0,
        recv_queue=source.choice((0, 1, 513)) if name == "close_wait" else 0,
        inode=0 if name == "orphaned" else 4000 + number,
        processes=[] if name == "orphaned" else [{"pid": 900 + host, "comm": comm, "unit": unit}],
        **changes,
    )
