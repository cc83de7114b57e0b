# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: table
short_description: Socket records as a table for people
version_added: 0.1.0
description:
  - Makes of a list of socket records a text of one line for each, to be shown with
    M(ansible.builtin.debug) or written into a report.
  - Addresses stand with their ports, IPv6 addresses in brackets. Queues and durations have units.
    What the kernel did not tell is V(-).
author:
  - linuxnet.sockets contributors (!UNKNOWN)
positional: columns
options:
  _input:
    description:
      - A list of records, such as RV(linuxnet.sockets.socket_diag_info#module:sockets),
        RV(linuxnet.sockets.socket_destroy#module:destroyed),
        RV(linuxnet.sockets.socket_destroy#module:protected) or
        RV(linuxnet.sockets.socket_destroy#module:survivors).
      - Or RV(linuxnet.sockets.socket_policy#module:violations). Each is shown as its socket, with
        the keys that stand beside it, such as V(rule).
    type: list
    elements: dict
    required: true
  columns:
    description:
      - What to show, in this order. Each is a key of the records, or a path into them with dots,
        such as V(tcp_info.rtt).
      - V(local) and V(remote) are shown with their ports. V(timer) is shown with how often it has
        fired in vain, and that of retransmission, which the kernel calls V(on), as V(retransmit).
      - V(owner) is the process, with C(+1) and so on for the others that hold the same socket, its
        systemd unit and the user. V(unit) is the systemd unit alone. Processes are in the records
        only where O(linuxnet.sockets.socket_diag_info#module:details=process) asked for them.
      - Without this, it shows those of V(namespace), V(protocol), V(state), V(local), V(remote),
        V(send_queue), V(recv_queue), V(timer), V(idle_ms), V(owner), V(outcome) and V(reason) in
        which some record says something, and V(namespace) only if there is more than one.
      - Of violations it shows V(namespace), V(rule), V(status), V(protocol), V(local), V(remote),
        V(owner), V(reason) and V(protected_by) in the same way.
    type: list
    elements: str
  width:
    description:
      - The most characters on a line, at least 20.
      - Where it is too little, the longest texts are cut, and what is cut has C(…) in it. Addresses
        keep their ports, and numbers are not cut.
    type: int
    default: 100
  header:
    description: Whether a title row and a rule come first.
    type: bool
    default: true
seealso:
  - module: linuxnet.sockets.socket_diag_info
  - module: linuxnet.sockets.socket_destroy
  - module: linuxnet.sockets.socket_policy
"""

EXAMPLES = r"""
- name: Find connections that make no progress
  linuxnet.sockets.socket_diag_info:
    match:
      state: established
      send_queue: ">0"
      idle: 2m
    details: [process]
  register: stalled

- name: Show them
  ansible.builtin.debug:
    msg: "{{ stalled.sockets | linuxnet.sockets.table }}"
# STATE        LOCAL              REMOTE              SEND-Q  TIMER          IDLE  OWNER
# ────────────────────────────────────────────────────────────────────────────────────────────
# established  192.0.2.10:48134   10.20.3.4:443     18.0 KiB  retransmit x6  5m01s  php-fpm[912]

- name: Show other columns, on narrow paper
  ansible.builtin.debug:
    msg: "{{ stalled.sockets | linuxnet.sockets.table(['remote', 'cookie', 'mark'], width=80) }}"
"""

RETURN = r"""
_value:
  description:
    - The lines, joined by newlines, without one at the end.
    - An empty list gives the title row and the rule alone.
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
        return _text_table.table(records, columns=columns, width=width, header=header)
    except _text_table.TableError as error:
        raise AnsibleFilterError(f"linuxnet.sockets.table: {error}") from error


class FilterModule:
    """Jinja2 filters of the collection."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"table": table}
