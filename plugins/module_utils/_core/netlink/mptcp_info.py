# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: struct mptcp_info, as long as it comes.

include/uapi/linux/mptcp.h
"""

from __future__ import annotations

import struct

# (name, format), padding in the format of the field before it.
_FIELDS = (
    ("subflows", "B"),
    ("add_addr_signal", "B"),
    ("add_addr_accepted", "B"),
    ("subflows_max", "B"),
    ("add_addr_signal_max", "B"),
    ("add_addr_accepted_max", "B2x"),
    ("flags", "I"),
    ("token", "I"),
    ("write_seq", "Q"),
    ("snd_una", "Q"),
    ("rcv_nxt", "Q"),
    ("local_addr_used", "B"),
    ("local_addr_max", "B"),
    ("csum_enabled", "Bx"),
    ("retransmits", "I"),
    ("bytes_retrans", "Q"),
    ("bytes_sent", "Q"),
    ("bytes_received", "Q"),
    ("bytes_acked", "Q"),
    ("subflows_total", "B3x"),
    ("last_data_sent", "I"),
    ("last_data_recv", "I"),
    ("last_ack_recv", "I"),
)


def decode(raw: bytes) -> dict[str, int]:
    """The fields by the kernel's names without mptcpi_, as many as this kernel sent.

    token names the connection on this host; last_* are milliseconds. A listener's are all zero.
    """
    form = "="
    names: list[str] = []
    for name, code in _FIELDS:
        if struct.calcsize(form + code) > len(raw):
            break
        form += code
        names.append(name)
    return dict(zip(names, struct.unpack_from(form, raw)))
