# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Words of other tools: keys and values that selectors call by another name.

SYNONYMS are suggested. Aliases are accepted, because they leave no doubt. Hints are phrases for
InputError.allowed, for words that stand for more than one key.
"""

from __future__ import annotations

from ..verdicts.stranded import STRANDED
from ..verdicts.stuck import STUCK

# Words of other tools, and the keys that replace each.
SYNONYMS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("src", "source", "saddr", "laddr", "local_address", "local_ip", "local_addr"), ("local",)
    ),
    **dict.fromkeys(
        ("dst", "dest", "destination", "daddr", "raddr", "peer", "remote_address", "remote_ip"),
        ("remote",),
    ),
    **dict.fromkeys(
        ("address", "addr", "ip", "host", "endpoint", "prefix", "net", "network"),
        ("local", "remote"),
    ),
    **dict.fromkeys(("sport", "lport", "src_port", "source_port"), ("local_port",)),
    **dict.fromkeys(("dport", "rport", "dst_port", "dest_port", "peer_port"), ("remote_port",)),
    **dict.fromkeys(("port", "ports"), ("local_port", "remote_port")),
    **dict.fromkeys(("proto", "type", "l4proto"), ("protocol",)),
    **dict.fromkeys(("interface", "iface", "dev", "ifname", "link"), ("device", "local")),
    **dict.fromkeys(("fwmark", "so_mark"), ("mark",)),
    **dict.fromkeys(("uid", "owner", "username"), ("user",)),
    **dict.fromkeys(("comm", "command", "process_name", "processes"), ("process",)),
    **dict.fromkeys(("service", "systemd_unit"), ("unit",)),
    **dict.fromkeys(("program", "executable", "binary"), ("exe",)),
    **dict.fromkeys(("args", "arguments", "command_line"), ("cmdline",)),
    **dict.fromkeys(("idle_ms", "idle_for", "age", "timeout", "inactive"), ("idle",)),
    **dict.fromkeys(("filter", "ss", "query"), ("expression",)),
    **dict.fromkeys(("recvq", "recv_q", "rx_queue"), ("recv_queue",)),
    **dict.fromkeys(("sendq", "send_q", "tx_queue"), ("send_queue",)),
    **dict.fromkeys(("ipv", "af", "version"), ("family",)),
    **dict.fromkeys(("states", "status"), ("state",)),
    **dict.fromkeys(STUCK, ("stuck",)),
    **dict.fromkeys(STRANDED, ("stranded",)),
    "and": ("all",),
    "or": ("any",),
    **dict.fromkeys(("except", "exclude", "none"), ("not",)),
}

# Other words for families and protocols that leave no doubt.
FAMILY_ALIASES = {
    **dict.fromkeys(("ipv4", "ip4", "v4", "4", "inet4", "af_inet"), "inet"),
    **dict.fromkeys(("ipv6", "ip6", "v6", "6", "af_inet6"), "inet6"),
}
PROTOCOL_ALIASES = {"udp-lite": "udplite"}

PROTOCOL_HINTS = {
    **{
        f"{name}{version}": f"{name}, with family: {family}"
        for name in ("tcp", "udp", "raw", "mptcp", "udplite")
        for version, family in ((4, "inet"), (6, "inet6"))
    },
    **dict.fromkeys(("any", "all", "*"), "[tcp, udp, udplite, raw, mptcp]"),
    **dict.fromkeys(("icmp", "icmp6", "ping"), "raw, the sockets of programs that send ICMP"),
    "6": "tcp",
    "17": "udp",
    "quic": "udp, which QUIC uses",
}
