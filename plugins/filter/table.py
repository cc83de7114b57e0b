# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: table
short_description: Format socket records as a text table
version_added: 0.1.0
description:
  - Formats a list of socket records as text with one line per record. You can print it with
    M(ansible.builtin.debug) or write it to a file.
  - Addresses include their ports, and IPv6 addresses are in brackets. Queues and durations have
    units. Unknown values are V(-).
author:
  - linuxnet.sockets contributors (!UNKNOWN)
positional: columns
options:
  _input:
    description:
      - A whole result of M(linuxnet.sockets.socket_diag_info), M(linuxnet.sockets.socket_destroy),
        M(linuxnet.sockets.socket_drain) or M(linuxnet.sockets.socket_policy).
      - Or a list of records, such as RV(linuxnet.sockets.socket_diag_info#module:sockets),
        RV(linuxnet.sockets.socket_destroy#module:destroyed),
        RV(linuxnet.sockets.socket_destroy#module:protected) or
        RV(linuxnet.sockets.socket_destroy#module:survivors).
      - Also accepts RV(linuxnet.sockets.socket_policy#module:violations). Each line then shows the
        socket with keys of the violation, such as V(rule).
    type: raw
    required: true
  columns:
    description:
      - Columns to show, in this order. A column is a key of the records or a dotted path into them,
        such as V(tcp_info.rtt).
      - V(local) and V(remote) include the port. V(timer) includes the number of unanswered
        expirations; the retransmission timer, which the kernel calls V(on), is V(retransmit).
      - V(owner) is the process, its systemd unit and the user. C(+1) counts the other processes
        that hold the same socket. V(unit) is the systemd unit alone. Records include processes only
        with O(linuxnet.sockets.socket_diag_info#module:details=process).
      - By default, the table shows V(namespace), V(protocol), V(state), V(local), V(remote),
        V(send_queue), V(recv_queue), V(timer), V(idle_ms), V(owner), V(outcome) and V(reason). It
        omits columns without a known value, and V(namespace) if all records share one.
      - For violations, the default is V(namespace), V(rule), V(status), V(protocol), V(local),
        V(remote), V(owner), V(reason) and V(protected_by).
    type: list
    elements: str
  width:
    description:
      - Maximum number of characters per line, at least 20.
      - If a line is too long, the table shortens the longest texts and marks the cut with C(…).
        Addresses keep their ports, and numbers are never cut.
    type: int
    default: 100
  header:
    description: Whether to start with a title row and a rule.
    type: bool
    default: true
seealso:
  - module: linuxnet.sockets.socket_diag_info
  - module: linuxnet.sockets.socket_destroy
  - module: linuxnet.sockets.socket_policy
"""

EXAMPLES = r"""
- name: Find stalled connections
  linuxnet.sockets.socket_diag_info:
    match:
      state: established
      send_queue: ">0"
      idle: 2m
    details: [process]
  register: stalled

- name: Show them as a table
  ansible.builtin.debug:
    msg: "{{ (stalled | linuxnet.sockets.table).splitlines() }}"
# STATE        LOCAL              REMOTE              SEND-Q  TIMER          IDLE  OWNER
# ────────────────────────────────────────────────────────────────────────────────────────────
# established  192.0.2.10:48134   10.20.3.4:443     18.0 KiB  retransmit x6  5m01s  php-fpm[912]

- name: Show selected columns in 80 characters
  ansible.builtin.debug:
    msg: "{{ text.splitlines() }}"
  vars:
    text: "{{ stalled.sockets | linuxnet.sockets.table(['remote', 'cookie', 'mark'], width=80) }}"
"""

RETURN = r"""
_value:
  description:
    - The lines, joined by newlines, without a trailing newline.
    - Without records, C(no sockets).
  type: str
"""

from collections.abc import Callable, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.linuxnet.sockets.plugins.plugin_utils import _text_table


def table(
    records: Any, columns: Sequence[str] | None = None, width: int = 100, header: bool = True
) -> str:
    try:
        return _text_table.format_table(records, columns=columns, width=width, header=header)
    except _text_table.TableError as error:
        raise AnsibleFilterError(f"linuxnet.sockets.table: {error}") from error


class FilterModule:
    """Jinja2 filters of the collection."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"table": table}
