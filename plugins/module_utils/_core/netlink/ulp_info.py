# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what a TCP socket's upper layer protocol tells of itself.

INET_ULP_INFO_* (include/uapi/linux/inet_diag.h), and nested in it TLS_INFO_*
(include/uapi/linux/tls.h) or MPTCP_SUBFLOW_ATTR_* (include/uapi/linux/mptcp.h).
"""

from __future__ import annotations

import sys

from . import attributes

_NAME = 1
_TLS = 2
_MPTCP = 3

_TLS_FIELDS = {1: "version", 2: "cipher", 3: "txconf", 4: "rxconf"}
_MPTCP_FIELDS = {
    1: "token_rem",
    2: "token_loc",
    3: "relwrite_seq",
    4: "map_seq",
    5: "map_sfseq",
    6: "ssn_offset",
    7: "map_datalen",
    8: "flags",
    9: "id_rem",
    10: "id_loc",
}
_FIELDS = {_TLS: _TLS_FIELDS, _MPTCP: _MPTCP_FIELDS}


def name(raw: bytes) -> str | None:
    """The protocol's name: tls, mptcp, ... Raises MalformedMessage."""
    text = attributes.parse(raw).get(_NAME, b"").rstrip(b"\0")
    return text.decode("ascii", "replace") or None


def decode(raw: bytes) -> dict[str, int]:
    """The numbers that TLS or MPTCP tell, by the kernel's names. Raises MalformedMessage."""
    found: dict[str, int] = {}
    for number, value in attributes.parse(raw).items():
        fields = _FIELDS.get(number)
        if fields is None:
            continue
        for kind, inner in attributes.parse(value).items():
            if kind in fields:
                found[fields[kind]] = int.from_bytes(inner, sys.byteorder)
    return found
