# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparison of a record of the core with a line of ss, field by field.

ss runs between two dumps of the core. Static fields must be equal. A clock (an age, a time left)
must lie between its two values. If a socket changed otherwise, the caller repeats the comparison.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .ss import Shown

Record = Mapping[str, Any]
_NEVER = 0xFFFFFFFF
_NO_RATE = 0xFFFFFFFFFFFFFFFF


class Field(NamedTuple):
    """How ss prints a field of struct tcp_info.

    shown: its name in ss. scale: ss divides by it. hidden: True for values that ss omits. part: the
    index in a value such as 1.5/0.75. clock: it changes with time.
    """

    shown: str
    scale: float = 1
    hidden: Callable[[int], bool] = lambda value: value == 0
    part: int = 0
    clock: bool = False


# ss prints these microseconds as milliseconds, with six significant digits (%g).
_US = 1000.0
FIELDS: dict[str, Field] = {
    "rto": Field("rto", _US, lambda value: value in (0, 3_000_000)),
    "backoff": Field("backoff"),
    "rtt": Field("rtt", _US),
    "rttvar": Field("rtt", _US, lambda _value: True, part=1),
    "ato": Field("ato", _US),
    "snd_mss": Field("mss"),
    "pmtu": Field("pmtu"),
    "rcv_mss": Field("rcvmss"),
    "advmss": Field("advmss"),
    "snd_cwnd": Field("cwnd"),
    "snd_ssthresh": Field("ssthresh", 1, lambda value: value == 0 or value >= 0xFFFF),
    "bytes_sent": Field("bytes_sent"),
    "bytes_retrans": Field("bytes_retrans"),
    "bytes_acked": Field("bytes_acked"),
    "bytes_received": Field("bytes_received"),
    "segs_out": Field("segs_out"),
    "segs_in": Field("segs_in"),
    "data_segs_out": Field("data_segs_out"),
    "data_segs_in": Field("data_segs_in"),
    "last_data_sent": Field("lastsnd", clock=True),
    "last_data_recv": Field("lastrcv", clock=True),
    "last_ack_recv": Field("lastack", clock=True),
    "delivered": Field("delivered"),
    "delivered_ce": Field("delivered_ce"),
    "busy_time": Field("busy", _US, clock=True),
    "rwnd_limited": Field("rwnd_limited", _US, clock=True),
    "sndbuf_limited": Field("sndbuf_limited", _US, clock=True),
    "unacked": Field("unacked"),
    "retrans": Field("retrans"),
    "total_retrans": Field("retrans", 1, part=1),
    "lost": Field("lost"),
    "sacked": Field("sacked"),
    "dsack_dups": Field("dsack_dups"),
    "fackets": Field("fackets"),
    "reordering": Field("reordering", 1, lambda value: value in (0, 3)),
    "reord_seen": Field("reord_seen"),
    "rcv_rtt": Field("rcv_rtt", _US),
    "rcv_space": Field("rcv_space"),
    "rcv_ssthresh": Field("rcv_ssthresh"),
    "notsent_bytes": Field("notsent"),
    "min_rtt": Field("minrtt", _US, lambda value: value in (0, _NEVER)),
    "rcv_ooopack": Field("rcv_ooopack"),
    "snd_wnd": Field("snd_wnd"),
}
# Options of tcpi_options (TCPI_OPT_*), and their names in ss.
_OPTION_WORDS = {1: "ts", 2: "sack", 8: "ecn", 16: "ecnseen", 32: "fastopen"}
_WINDOW_SCALE = 4
# Names in Shown.values that compare() checks itself.
_GENERAL = {
    "uid",
    "ino",
    "sk",
    "fwmark",
    "cgroup",
    "v6only",
    "tos",
    "tclass",
    "class_id",
    "wscale",
}
# The fields of struct mptcp_info that ss prints, and their base.
MPTCP = {
    **dict.fromkeys(("subflows", "subflows_max", "add_addr_signal", "add_addr_accepted"), 10),
    **dict.fromkeys(("add_addr_signal_max", "add_addr_accepted_max", "local_addr_used"), 10),
    "local_addr_max": 10,
    **dict.fromkeys(("token", "write_seq", "snd_una", "rcv_nxt"), 16),
}


def compare(before: Record, shown: Shown, after: Record) -> list[str]:
    """Return the differences; empty if the two agree."""
    differences: list[str] = []

    def check(name: str, ours: object, theirs: object) -> None:
        if ours != theirs:
            differences.append(f"{name}: {ours!r}, ss {theirs!r}")

    values = shown.values
    check("state", after["state"], shown.state)
    for name in ("mapped", "recv_queue", "send_queue", "local", "local_port", "device"):
        check(name, after[name], getattr(shown, name))
    check("remote", after["remote"], _remote(shown, after))
    check("remote_port", after["remote_port"], shown.remote_port)
    check("cookie", after["cookie"], shown.cookie)
    check("inode", after["inode"], int(values["ino"]))
    # ss omits uid 0, and a socket without an owner has uid 0.
    check("uid", after["uid"] or 0, int(values.get("uid", 0)))
    check("timer", after["timer"], shown.timer)
    check("retransmits", after["retransmits"], shown.retransmits)
    if shown.timer is not None:
        differences += _time_left(before, shown, after)
    mini = after["state"] in ("time-wait", "syn-recv") or after["shutdown"] is None
    check("shutdown", after["shutdown"], shown.shutdown)
    check("mark", after["mark"] or 0, int(values.get("fwmark", "0"), 16))
    check("v6only", after["v6only"], _flag(values.get("v6only")))
    if not mini:
        check("cgroup", after["cgroup"], values.get("cgroup"))
        for name in ("tos", "tclass", "class_id"):
            check(name, after[name], _hexadecimal(values.get(name)))
        check("options", set(after["options"]), set(shown.options or ()))
        check("memory", after["memory"], shown.memory)
        check("congestion", after["congestion"], shown.congestion)
        check("ulp", after["ulp"], shown.ulp)
        if shown.ulp == "mptcp" and "token" in shown.ulp_values:
            check("ulp_info", _subflow(after["ulp_info"]), shown.ulp_values)
    differences += _congestion(after["congestion_info"], shown.congestion_info)
    if after["tcp_info"] is not None:
        differences += _info(before["tcp_info"], shown, after["tcp_info"])
        known = _GENERAL | {field.shown for field in FIELDS.values()}
    else:
        known = _GENERAL | set(MPTCP)
        for name, base in MPTCP.items():
            if name in values:
                check(name, (after["mptcp_info"] or {}).get(name), int(values[name], base))
    differences += [f"{name}: not compared" for name in sorted(set(values) - known)]
    return differences


def _subflow(info: Record) -> dict[str, str]:
    """Format a subflow as ss does (mptcp_subflow_info)."""
    remote, local = (
        f"{info['token_' + end]:04x}(id:{info['id_' + end]})" for end in ("rem", "loc")
    )
    return {
        "token": f"{remote}/{local}",
        "seq": f"{info['map_seq']:x}",
        "sfseq": f"{info['map_sfseq']:x}",
        "ssnoff": f"{info['ssn_offset']:x}",
        "maplen": f"{info['map_datalen']:x}",
    }


def _remote(shown: Shown, record: Record) -> str:
    """The remote as a record has it: ss prints * for a dual-stack listener too."""
    if record["family"] == "inet6" and not record["mapped"] and shown.remote == "0.0.0.0":
        return "::"
    return shown.remote


def _flag(text: str | None) -> bool | None:
    return None if text is None else text == "1"


def _hexadecimal(text: str | None) -> int | None:
    return None if text is None else int(text, 16)


def _time_left(before: Record, shown: Shown, after: Record) -> list[str]:
    """Check a timer that runs down. Above nine seconds ss omits the milliseconds."""
    assert shown.timer_ms is not None
    highest, lowest = before["timer_ms"], after["timer_ms"]
    if not shown.timer_exact:
        lowest = lowest // 1000 * 1000
    if lowest <= shown.timer_ms <= highest:
        return []
    return [f"timer_ms: {highest} then {lowest}, ss {shown.timer_ms}"]


def _congestion(ours: Record | None, theirs: dict[str, str] | None) -> list[str]:
    if ours is None or theirs is None:
        return [] if ours is None and theirs is None else [f"congestion_info: {ours}, ss {theirs}"]
    if ours["algorithm"] != "bbr":
        return [] if theirs["algorithm"] == ours["algorithm"] else [f"{ours}, ss {theirs}"]
    expected = {
        "bw": f"{(ours['bw_hi'] << 32 | ours['bw_lo']) * 8}bps",
        "mrtt": f"{ours['min_rtt'] / 1000:g}",
        "algorithm": "bbr",
    }
    for name in ("pacing_gain", "cwnd_gain"):
        if ours[name]:
            expected[name] = f"{ours[name] / 256:g}"
    return [] if expected == theirs else [f"congestion_info: {expected}, ss {theirs}"]


def _info(before: Record, shown: Shown, after: Record) -> list[str]:
    found: list[str] = []
    listening = shown.state == "listening"
    for name, field in FIELDS.items():
        text = shown.values.get(field.shown)
        if text is None:
            # sacked of a listener is its backlog, which ss prints as Send-Q.
            if not field.hidden(after[name]) and not (
                (listening and name == "sacked")
                or (name in ("rwnd_limited", "sndbuf_limited") and not after["busy_time"])
            ):
                found.append(f"tcp_info.{name}: {after[name]}, ss omits it")
            continue
        parts = text.partition("(")[0].removesuffix("ms").split("/")
        if len(parts) <= field.part or not _same(
            field, before[name], parts[field.part], after[name]
        ):
            found.append(f"tcp_info.{name}: {before[name]} then {after[name]}, ss {text}")
    for bit, word in _OPTION_WORDS.items():
        if bool(after["options"] & bit) != (word in shown.words):
            found.append(f"tcp_info.options: {after['options']:#x}, ss {sorted(shown.words)}")
    if bool(after["delivery_rate_app_limited"]) != ("app_limited" in shown.words):
        found.append("tcp_info.delivery_rate_app_limited")
    scales = f"{after['snd_wscale']},{after['rcv_wscale']}"
    if after["options"] & _WINDOW_SCALE and shown.values.get("wscale") != scales:
        found.append(f"tcp_info.wscale: {scales}, ss {shown.values.get('wscale')}")
    return found + _rates(shown, after)


def _same(field: Field, before: int, text: str, after: int) -> bool:
    theirs = float(text)
    if field.clock:
        # Whole milliseconds, truncated.
        return before // field.scale <= theirs <= after // field.scale
    return f"{after / field.scale:g}" == f"{theirs:g}" or math.isclose(
        after / field.scale, theirs, rel_tol=1e-9
    )


def _rates(shown: Shown, after: Record) -> list[str]:
    """Compare rates: bytes a second in a record, bits a second in ss."""
    pacing = f"{after['pacing_rate'] * 8}bps" if after["pacing_rate"] not in (0, _NO_RATE) else ""
    if pacing and after["max_pacing_rate"] not in (0, _NO_RATE):
        pacing += f"/{after['max_pacing_rate'] * 8}bps"
    delivery = f"{after['delivery_rate'] * 8}bps" if after["delivery_rate"] else ""
    return [
        f"tcp_info.{name}: {ours}, ss {shown.rates.get(name)}"
        for name, ours in (("pacing_rate", pacing), ("delivery_rate", delivery))
        if ours != shown.rates.get(name, "")
    ]
