# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages of the core against pyroute2's, in all states and protocols."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from linuxnet_sockets.netlink import attributes, inet_diag, info
from tests.kernel.conftest import Diag
from tests.support.oracles import pyroute2_diag
from tests.support.topologies.topology import LabNamespace, Pair

_PROTOCOLS = {"tcp": 6, "udp": 17, "udplite": 136}
_FAMILIES = [socket.AF_INET, socket.AF_INET6]
# Fields that change with time.
_CLOCKS = {
    "tcpi_last_data_sent",
    "tcpi_last_data_recv",
    "tcpi_last_ack_recv",
    "tcpi_busy_time",
    "tcpi_rwnd_limited",
    "tcpi_sndbuf_limited",
}


def _text(family: int, address: bytes) -> str:
    return socket.inet_ntop(family, address[:4] if family == socket.AF_INET else address)


def _ours(sock: inet_diag.DiagMessage) -> dict[str, Any]:
    found = attributes.parse(sock.attributes)
    entry: dict[str, Any] = {
        "idiag_family": sock.family,
        "idiag_state": sock.state,
        "idiag_timer": sock.timer,
        "idiag_retrans": sock.retrans,
        "idiag_sport": sock.sport,
        "idiag_dport": sock.dport,
        "idiag_src": _text(sock.family, sock.src),
        "idiag_dst": _text(sock.family, sock.dst),
        "idiag_if": sock.ifindex,
        "idiag_cookie": sock.cookie,
        "idiag_rqueue": sock.rqueue,
        "idiag_wqueue": sock.wqueue,
        "idiag_uid": sock.uid,
        "idiag_inode": sock.inode,
    }
    numbers = {
        "INET_DIAG_SHUTDOWN": inet_diag.SHUTDOWN,
        "INET_DIAG_CLASS_ID": inet_diag.CLASS_ID,
        "INET_DIAG_CGROUP_ID": inet_diag.CGROUP_ID,
    }
    for name, number in numbers.items():
        if number in found:
            entry[name] = int.from_bytes(found[number], "little")
    if inet_diag.CONG in found:
        entry["INET_DIAG_CONG"] = found[inet_diag.CONG].rstrip(b"\0").decode()
    for name, number in (
        ("INET_DIAG_MARK", inet_diag.MARK),
        ("INET_DIAG_SKMEMINFO", inet_diag.SKMEMINFO),
        ("INET_DIAG_TOS", inet_diag.TOS),
        ("INET_DIAG_TCLASS", inet_diag.TCLASS),
    ):
        if number in found:
            entry[name] = found[number].hex(":")
    if sock.protocol == "tcp" and inet_diag.INFO in found:
        decoded = info.decode_tcp_info(found[inet_diag.INFO])
        entry["INET_DIAG_INFO"] = {f"tcpi_{name}": value for name, value in decoded.items()}
    return entry


def _differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    found = [
        f"{name}: {value!r}, pyroute2 {theirs.get(name)!r}"
        for name, value in ours.items()
        if name != "INET_DIAG_INFO" and theirs.get(name) != value
    ]
    fields = theirs.get("INET_DIAG_INFO")
    if fields is None:
        return found if "INET_DIAG_INFO" not in ours else [*found, "no INET_DIAG_INFO"]
    own_fields = ours.get("INET_DIAG_INFO", {})
    for name, value in fields.items():
        # pyroute2 has the two bit fields of a byte in one number.
        if name == "tcpi_delivery_rate_app_limited":
            value &= 1
        if name in _CLOCKS:
            if not value <= own_fields.get(name, -1) <= value + 2_000_000:
                found.append(f"{name}: {own_fields.get(name)}, pyroute2 {value} before")
        elif own_fields.get(name) != value:
            found.append(f"{name}: {own_fields.get(name)}, pyroute2 {value}")
    return found


def _compare(where: LabNamespace, diag: Diag, protocol: str, family: int) -> dict[str, list[str]]:
    theirs = {
        entry["idiag_cookie"]: entry
        for entry in pyroute2_diag.show(where, family, _PROTOCOLS[protocol])
    }
    ours = {
        sock.cookie: _ours(sock)
        for sock in diag(where).all(protocol, inet_diag.ANY_STATE, 0xFF)
        if sock.family == family
    }
    found = {
        str(theirs.get(cookie, ours.get(cookie))): ["listed by only one"]
        for cookie in ours.keys() ^ theirs.keys()
    }
    for cookie in ours.keys() & theirs.keys():
        differing = _differences(ours[cookie], theirs[cookie])
        if differing:
            found[str(theirs[cookie])] = differing
    assert theirs or protocol == "udplite"
    return found


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("family", _FAMILIES)
@pytest.mark.parametrize("protocol", list(_PROTOCOLS))
def test_messages_equal_pyroute2(
    crowd: Pair, diag: Diag, protocol: str, family: int, side: str
) -> None:
    """Repeated, since a timer may fire between the dumps; a real difference persists."""
    differing: dict[str, list[str]] = {}
    for _attempt in range(5):
        differing = _compare(getattr(crowd, side), diag, protocol, family)
        if not differing:
            return
        time.sleep(0.05)
    pytest.fail("\n".join(f"{line}\n    {text}" for line, text in differing.items()))
