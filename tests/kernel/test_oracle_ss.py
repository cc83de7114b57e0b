# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records of the core against the output of ss, in all states and protocols."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from linuxnet_sockets.host import namespaces
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.netlink import inet_diag
from linuxnet_sockets.query import record
from linuxnet_sockets.sockets.session import NamespaceSession
from linuxnet_sockets.sockets.socket import Socket
from tests.support.oracles import compare, ss
from tests.support.topologies import proc_net, states
from tests.support.topologies.topology import LabNamespace, Pair

_SELECTION = {"tcp": "-t", "udp": "-u", "mptcp": "-M"}
# As ss -a, without bound-inactive sockets, which this ss does not know.
_STATES = inet_diag.ANY_STATE & ~(1 << 13)

pytestmark = pytest.mark.skipif(
    shutil.which("ss", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None,
    reason="ss (iproute2) is not installed",
)


def _records(where: LabNamespace, protocol: str) -> dict[str, dict[str, Any]]:
    """The records of all sockets of the namespace, with all details, by cookie."""
    (namespace,) = namespaces.resolve([where.name])
    details = record.DETAILS
    with NamespaceSession(Host(), namespace) as session:
        snapshot = session.snapshot()
        socks = [
            sock
            for family in (socket.AF_INET, socket.AF_INET6)
            for sock in inet_diag.dump(
                session.diag, protocol, family, _STATES, record.extensions(details)
            )
        ]
        found = [record.record(Socket(sock, snapshot), details) for sock in socks]
    assert len({entry["cookie"] for entry in found}) == len(found)
    return {entry["cookie"]: entry for entry in found}


def _differences(where: LabNamespace, protocol: str) -> dict[str, list[str]]:
    before = _records(where, protocol)
    shown = ss.show(where, _SELECTION[protocol])
    after = _records(where, protocol)
    found: dict[str, list[str]] = {}
    cookies = {str(line.cookie) for line in shown}
    if set(before) != cookies or set(after) != cookies:
        found["sockets"] = sorted(cookies ^ (set(before) | set(after)))
    for line in shown:
        cookie = str(line.cookie)
        if cookie in before and cookie in after:
            differing = compare.compare(before[cookie], line, after[cookie])
            if differing:
                found[line.line] = differing
    return found


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("protocol", list(_SELECTION))
def test_records_equal_ss(crowd: Pair, protocol: str, side: str) -> None:
    """Repeated, since a timer may fire between the dumps; a real difference persists."""
    where: LabNamespace = getattr(crowd, side)
    differing: dict[str, list[str]] = {}
    for _attempt in range(5):
        differing = _differences(where, protocol)
        if not differing:
            return
        time.sleep(0.05)
    pytest.fail("\n".join(f"{line}\n    {text}" for line, text in differing.items()))


def test_sockets_cover_all_states(crowd: Pair) -> None:
    seen = {
        entry["state"]
        for where in (crowd.client, crowd.server)
        for entry in _records(where, "tcp").values()
    }
    assert seen == set(states.TCP_STATES)


def test_sockets_cover_fields_of_ss(crowd: Pair) -> None:
    """Every field that ss can print here occurred at least once with a value."""
    shown = [
        line
        for where in (crowd.client, crowd.server)
        for selection in _SELECTION.values()
        for line in ss.show(where, selection)
    ]
    values = {name for line in shown for name in line.values}
    assert values >= {"fwmark", "tos", "tclass", "class_id", "v6only", "cgroup", "ino", "sk"}
    assert values >= {"unacked", "notsent", "busy", "rwnd_limited", "backoff", "ato", "rcv_rtt"}
    assert {line.timer for line in shown} >= {None, "on", "timewait", "persist"}
    assert {line.shutdown for line in shown} == {None, "none", "receive", "send", "both"}
    assert any(line.mapped for line in shown)
    assert any(line.device for line in shown)
    assert any(line.ulp == "mptcp" for line in shown) or not os.path.exists("/proc/sys/net/mptcp")
    assert any(line.congestion_info for line in shown) or not any(
        line.congestion == "bbr" for line in shown
    )


def test_udplite_equals_proc(crowd: Pair) -> None:
    """ss does not list UDP-Lite; /proc/net/udplite does."""
    for where in (crowd.client, crowd.server):
        ours = {
            (entry["local"], entry["local_port"], entry["remote"], entry["remote_port"])
            + (entry["inode"], entry["uid"])
            for entry in _records(where, "udplite").values()
        }
        theirs = {
            (line.local, line.local_port, line.remote, line.remote_port, line.inode, line.uid)
            for line in proc_net.read(where, "udplite")
        }
        assert ours == theirs
        assert len(ours) == 1


@pytest.mark.parametrize(
    ("state", "mask"),
    [
        ("established", 1 << 1),
        ("listening", 1 << 10),
        ("time-wait", 1 << 6),
        ("syn-recv", 1 << 3 | 1 << 12),
        ("fin-wait-2", 1 << 5),
    ],
)
def test_state_masks_equal_ss(crowd: Pair, state: str, mask: int) -> None:
    for where in (crowd.client, crowd.server):
        output = where.output("ss", "-H", "-O", "-n", "-e", "-t", "state", state)
        theirs = {ss.parse(line, state).cookie for line in output.splitlines()}
        (namespace,) = namespaces.resolve([where.name])
        with NamespaceSession(Host(), namespace) as session:
            ours = {
                f"{sock.cookie:x}"
                for family in (socket.AF_INET, socket.AF_INET6)
                for sock in inet_diag.dump(session.diag, "tcp", family, mask)
            }
        assert ours == theirs


# Nested fields, and those of them that ss prints; None: all.
_INNER = {
    "tcp_info": frozenset(compare.FIELDS),
    "memory": None,
    "congestion_info": None,
    "mptcp_info": frozenset(compare.MPTCP),
    "ulp_info": frozenset({"token_rem", "token_loc", "id_rem", "id_loc"})
    | {"map_seq", "map_sfseq", "ssn_offset", "map_datalen"},
}


def _perturbed(entry: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (name, record with that field changed) for each field that ss prints."""
    other = {"protocol", "family", "namespace", "processes", "user", "idle_ms", "stuck"}
    other |= {"stranded", "superseded", "timer_ms", *_INNER}
    for name, value in entry.items():
        if name in other or (value is None and name not in ("mark", "device", "timer")):
            continue
        if isinstance(value, bool):
            yield name, {**entry, name: not value}
        elif isinstance(value, list):
            yield name, {**entry, name: [*value, "nodefrag"]}
        elif isinstance(value, int) or value is None:
            yield name, {**entry, name: (value or 0) + 1}
        else:
            yield name, {**entry, name: value + "0"}
    for inner, shown in _INNER.items():
        for name in entry[inner] or ():
            if (shown is not None and name not in shown) or name == "algorithm":
                continue
            if inner == "mptcp_info" and not entry[inner][name]:
                # ss omits it.
                continue
            # Large enough to differ after ss rounds microseconds to milliseconds. ss omits a
            # threshold above 65535.
            value = 7 if name == "snd_ssthresh" else entry[inner][name] * 2 + 100_000
            changed = {**entry[inner], name: value}
            yield f"{inner}.{name}", {**entry, inner: changed}


def test_comparison_finds_every_changed_field(crowd: Pair) -> None:
    """A change in any compared field of an equal record is a difference."""
    found: set[str] = set()
    missed: set[str] = set()
    for protocol, selection in _SELECTION.items():
        shown = {line.cookie: line for line in ss.show(crowd.client, selection)}
        for cookie, entry in _records(crowd.client, protocol).items():
            usual = compare.compare(entry, shown[cookie], entry)
            for name, changed in _perturbed(entry):
                differing = compare.compare(changed, shown[cookie], changed)
                (found if set(differing) - set(usual) else missed).add(name)
    assert found >= {f"tcp_info.{name}" for name in compare.FIELDS}
    assert found >= {"mptcp_info.token", "ulp_info.token_loc"}
    assert found >= set(record.RECORD_KEYS) - _NOT_SHOWN
    assert not missed - found


# Not from the diag message, or not printed by ss. Nested fields are compared one by one.
_NOT_SHOWN = {
    "protocol",
    "family",
    "namespace",
    "processes",
    "user",
    "idle_ms",
    "stuck",
    "stranded",
    "superseded",
    "timer_ms",
    *_INNER,
}
