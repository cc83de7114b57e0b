# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sample results of socket_diag_info and socket_diag_facts for the tests of the report."""

from __future__ import annotations

from typing import Any

from plugins.plugin_utils._report.document import build_report

TIME = "2026-11-21T06:41:52Z"
STRANDED = ("address_gone", "unroutable", "no_carrier", "rerouted")


def verdict(name: str, for_ms: int | None = None, **evidence: Any) -> dict[str, Any]:
    return {"verdict": name, "for_ms": for_ms, "evidence": evidence}


def record(*verdicts: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "protocol": "tcp",
        "state": "established",
        "local": "192.0.2.10",
        "local_port": 48134,
        "remote": "198.51.100.7",
        "remote_port": 443,
        "device": None,
        "uid": 33,
        "user": "www-data",
        "inode": 48213,
        "cookie": "3e9",
        "mark": 0,
        "timer": "persist",
        "retransmits": 4,
        "send_queue": 18432,
        "recv_queue": 0,
        "idle_ms": 93_500,
        "namespace": "current",
        "processes": [{"pid": 912, "comm": "php-fpm", "unit": "php.service"}],
        "stuck": [entry for entry in verdicts if entry["verdict"] not in STRANDED],
        "stranded": [entry for entry in verdicts if entry["verdict"] in STRANDED],
        "superseded": False,
        "tcp_info": {"rtt": 181, "last_ack_recv": 400},
        **changes,
    }


def info_result(*records: dict[str, Any], matched: int | None = None) -> dict[str, Any]:
    """Return a result of socket_diag_info."""
    count = len(records) if matched is None else matched
    return {"sockets": list(records), "matched": count, "truncated": count > len(records)}


def facts_result(kernel: str = "6.12.48", **tcp: int) -> dict[str, Any]:
    """Return a result of socket_diag_facts. tcp: number of sockets by state."""
    facts = {"kernel": kernel, "may_destroy": True, "totals": {"tcp": tcp}}
    return {"ansible_facts": {"socket_diag": facts}}


UNREACHABLE = {"unreachable": True, "msg": "ssh: connect to host db-2 port 22:\n  No route to host"}
FAILED = {"failed": True, "msg": "This kernel cannot list tcp sockets."}

MIXED = {
    "web-10": info_result(
        record(verdict("zero_window", 9_500, unsent_bytes=169_370, probes=5)),
        record(verdict("zero_window", 12_000), cookie="3ea"),
        record(verdict("close_wait", 1_900_000), cookie="3eb", state="close-wait"),
    ),
    "web-2": info_result(record(verdict("silent", 7_200_000), remote="203.0.113.20")),
    "cache-1": info_result(),
    "db-2": UNREACHABLE,
    "old-1": FAILED,
}


def mixed_report() -> dict[str, Any]:
    """Return a report: two hosts with findings, one without, one unreachable, one failed."""
    facts = {
        "web-10": facts_result(established=80, listening=9),
        "web-2": facts_result(established=20),
    }
    return build_report(MIXED, facts, time=TIME)
