# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: a socket record as a finding: its verdicts in order, and the rest.

Whatever comes from a host is taken as untrusted: types are checked, and text is cleaned.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from .verdicts import RANK, certain

Finding = dict[str, Any]

# What is taken over from a record as it is, by type.
_TEXTS = ("namespace", "protocol", "state", "local", "remote", "device", "user", "cookie", "timer")
_NUMBERS = (
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
# Of struct tcp_info, by the kernel's names and in its units (include/uapi/linux/tcp.h).
TCP_INFO = (
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
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_LONGEST = 300


def clean(value: object, longest: int = _LONGEST) -> str:
    """Text with nothing in it that acts without being seen.

    Controls, marks of direction, lone surrogates and the like are shown as escapes, so that no name
    can turn a line around, and what is too long is cut.
    """
    text = str(value)
    cut = len(text) > longest
    if cut:
        text = text[: longest - 1]
    if not (text.isascii() and text.isprintable()):
        text = "".join(
            f"\\u{{{ord(each):x}}}" if unicodedata.category(each) in _INVISIBLE else each
            for each in text
        )
    return f"{text}…" if cut else text


def number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def finding(host: str, record: Mapping[str, Any]) -> Finding:
    """A finding has the same keys whatever the record lacks; null is unknown.

    verdicts: the most telling first, each {verdict, for_ms, evidence}. leading: the first one's
    name, `none` without any. for_ms: how long at least, of the first verdict that says so.
    """
    verdicts = _verdicts(record)
    entry: Finding = {
        "host": host,
        "leading": verdicts[0]["verdict"] if verdicts else "none",
        "for_ms": _for_ms(verdicts),
        "verdicts": verdicts,
    }
    for key in _TEXTS:
        value = record.get(key)
        entry[key] = None if value is None else clean(value)
    for key in _NUMBERS:
        entry[key] = number(record.get(key))
    entry["processes"] = _processes(record.get("processes"))
    info = record.get("tcp_info")
    entry["tcp_info"] = (
        {key: number(info.get(key)) for key in TCP_INFO if number(info.get(key)) is not None}
        if isinstance(info, Mapping)
        else None
    )
    return entry


def unsent(entry: Finding) -> int:
    """Bytes that are not sent or not acknowledged. The kernel counts a SYN or a FIN that is not
    acknowledged as a byte."""
    return max(0, (entry["send_queue"] or 0) - (entry["state"] in _END_ON_ITS_WAY))


_END_ON_ITS_WAY = ("syn-sent", "fin-wait-1", "closing", "last-ack")


def judged(record: Mapping[str, Any]) -> bool:
    """Whether the record was asked for verdicts at all."""
    return any(record.get(key) is not None for key in ("stuck", "stranded", "superseded"))


def _verdicts(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    for key in ("stuck", "stranded"):
        told = record.get(key)
        if isinstance(told, Sequence) and not isinstance(told, str):
            found += [_verdict(each) for each in told if isinstance(each, Mapping)]
    superseded = record.get("superseded")
    if isinstance(superseded, Mapping):
        by = superseded.get("by")
        # The connection that is heard; nothing tells that it is the newer one.
        evidence = (
            {f"other_{key}": value for key, value in by.items()} if isinstance(by, Mapping) else {}
        )
        found.append(
            _verdict(
                {
                    "verdict": "superseded",
                    "for_ms": superseded.get("silent_ms"),
                    "evidence": evidence,
                }
            )
        )
    return sorted(found, key=lambda each: (RANK.get(each["verdict"], len(RANK)), each["verdict"]))


def _verdict(told: Mapping[str, Any]) -> dict[str, Any]:
    evidence = told.get("evidence")
    return {
        "verdict": clean(told.get("verdict"), 40),
        "for_ms": number(told.get("for_ms")),
        "evidence": _flat(evidence) if isinstance(evidence, Mapping) else {},
    }


def _flat(evidence: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Names and plain values; what is nested gets the outer name in front."""
    flat: dict[str, Any] = {}
    for key, value in evidence.items():
        name = clean(f"{prefix}{key}", 60)
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{name}_"))
        elif (
            value is None
            or isinstance(value, (bool, int))
            or (isinstance(value, float) and math.isfinite(value))
        ):
            flat[name] = value
        elif isinstance(value, Sequence) and not isinstance(value, str):
            flat[name] = clean(", ".join(str(each) for each in value))
        else:
            flat[name] = clean(value)
    return flat


def _for_ms(verdicts: Sequence[Mapping[str, Any]]) -> int | None:
    """A verdict that is only perhaps one does not lend its clock to one that is certain."""
    for each in verdicts:
        if each["for_ms"] is not None and certain(each["verdict"]) == certain(
            verdicts[0]["verdict"]
        ):
            return int(each["for_ms"])
    return None


def _processes(held: object) -> list[dict[str, Any]] | None:
    if not isinstance(held, Sequence) or isinstance(held, str):
        return None
    return [
        {
            "pid": number(each.get("pid")),
            "comm": clean(each.get("comm"), 60),
            "unit": None if each.get("unit") is None else clean(each["unit"], 120),
        }
        for each in held
        if isinstance(each, Mapping)
    ]


def program(entry: Finding) -> str | None:
    """The systemd unit that holds it, or the command; None where no process is known."""
    held = entry["processes"]
    return (held[0]["unit"] or held[0]["comm"]) if held else None
