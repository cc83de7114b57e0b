# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""A socket record as a finding: its verdicts in order of precedence, and sanitized values.

Everything that a host returns is untrusted: types are checked and text is sanitized.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...module_utils._core.api.stuck import (
    by_precedence,
    leading_verdict,
    proven_ms,
    superseded_verdict,
)
from ...module_utils._core.text import printable

Finding = dict[str, Any]

# Keys of a record that a finding keeps, by type.
_TEXT_KEYS = (
    "namespace",
    "protocol",
    "state",
    "local",
    "remote",
    "device",
    "user",
    "cookie",
    "timer",
)
_INTEGER_KEYS = (
    "local_port",
    "remote_port",
    "uid",
    "inode",
    "mark",
    "send_queue",
    "recv_queue",
    "idle_ms",
    "retransmits",
)
# Members of struct tcp_info, in the kernel's names and units (include/uapi/linux/tcp.h).
TCP_INFO_KEYS = (
    "rtt",
    "rto",
    "backoff",
    "probes",
    "unacked",
    "lost",
    "notsent_bytes",
    "snd_wnd",
    "total_retrans",
    "bytes_acked",
    "bytes_received",
    "last_data_sent",
    "last_data_recv",
    "last_ack_recv",
)
# States in which a SYN or a FIN waits for its acknowledgement.
_SYN_OR_FIN_UNACKED = ("syn-sent", "fin-wait-1", "closing", "last-ack")
_MAX_TEXT = 300


def sanitize(value: object, max_length: int = _MAX_TEXT) -> str:
    """Return text of limited length without invisible characters.

    Control characters, direction marks, lone surrogates and similar characters become escapes such
    as `\\u202e`, so that no name can change how its line is displayed.
    """
    text = str(value)
    cut = len(text) > max_length
    if cut:
        text = text[: max_length - 1]
    text = printable(text)
    return f"{text}…" if cut else text


def integer(value: object) -> int | None:
    """Return an integer as it is, and None for every other type."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def make_finding(host: str, record: Mapping[str, Any]) -> Finding:
    """Return the finding of a record. It has the same keys for every record; null is unknown.

    verdicts: in order of precedence, each {verdict, for_ms, evidence}. leading: name of the first
    verdict, or `none`. for_ms: proven minimum duration of the first verdict that has one. change,
    first_time: see compare(). selector: of just this connection; set by build_report().
    """
    verdicts = _verdicts(record)
    finding: Finding = {
        "host": host,
        "leading": leading_verdict(verdicts),
        "for_ms": proven_ms(verdicts),
        "verdicts": verdicts,
    }
    for key in _TEXT_KEYS:
        value = record.get(key)
        finding[key] = None if value is None else sanitize(value)
    for key in _INTEGER_KEYS:
        finding[key] = integer(record.get(key))
    finding["processes"] = _processes(record.get("processes"))
    info = record.get("tcp_info")
    finding["tcp_info"] = (
        {key: info[key] for key in TCP_INFO_KEYS if integer(info.get(key)) is not None}
        if isinstance(info, Mapping)
        else None
    )
    finding.update(change=None, first_time=None, selector=None)
    return finding


def unsent_bytes(finding: Finding) -> int:
    """Return the bytes that are unsent or unacknowledged.

    The kernel counts an unacknowledged SYN or FIN as one byte of the send queue.
    """
    return max(0, (finding["send_queue"] or 0) - (finding["state"] in _SYN_OR_FIN_UNACKED))


def has_verdicts(record: Mapping[str, Any]) -> bool:
    """Whether the record was requested with verdicts."""
    return any(record.get(key) is not None for key in ("stuck", "stranded", "superseded"))


def program_name(finding: Finding) -> str | None:
    """Return the systemd unit or the command that holds the socket, None if it is unknown."""
    processes = finding["processes"]
    return (processes[0]["unit"] or processes[0]["comm"]) if processes else None


def _verdicts(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    verdicts = []
    for key in ("stuck", "stranded"):
        entries = record.get(key)
        if isinstance(entries, Sequence) and not isinstance(entries, str):
            verdicts += [_verdict(entry) for entry in entries if isinstance(entry, Mapping)]
    superseded = record.get("superseded")
    if isinstance(superseded, Mapping):
        verdicts.append(_verdict(superseded_verdict(superseded)))
    return by_precedence(verdicts)


def _verdict(entry: Mapping[str, Any]) -> dict[str, Any]:
    evidence = entry.get("evidence")
    return {
        "verdict": sanitize(entry.get("verdict"), 40),
        "for_ms": integer(entry.get("for_ms")),
        "evidence": _flatten(evidence) if isinstance(evidence, Mapping) else {},
    }


def _flatten(evidence: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Return names and plain values; the name of a nested value starts with the outer name."""
    flat: dict[str, Any] = {}
    for key, value in evidence.items():
        name = sanitize(f"{prefix}{key}", 60)
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{name}_"))
        elif (
            value is None
            or isinstance(value, (bool, int))
            or (isinstance(value, float) and math.isfinite(value))
        ):
            flat[name] = value
        elif isinstance(value, Sequence) and not isinstance(value, str):
            flat[name] = sanitize(", ".join(str(item) for item in value))
        else:
            flat[name] = sanitize(value)
    return flat


def _processes(value: object) -> list[dict[str, Any]] | None:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None
    return [
        {
            "pid": integer(process.get("pid")),
            "comm": sanitize(process.get("comm"), 60),
            "unit": None if process.get("unit") is None else sanitize(process["unit"], 120),
        }
        for process in value
        if isinstance(process, Mapping)
    ]
