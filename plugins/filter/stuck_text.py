# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: stuck_text
short_description: A report of stuck connections as text for the terminal
version_added: 0.1.0
description:
  - Says what is wrong in one sentence, counts by verdict with bars, and lists each connection with
    its verdicts, how long they hold at least, and the evidence in numbers.
author:
  - linuxnet.sockets contributors (!UNKNOWN)
options:
  _input:
    description:
      - Records of one host with their verdicts, such as
        RV(linuxnet.sockets.socket_diag_info#module:sockets), or the whole result of that module.
      - Or a document of P(linuxnet.sockets.stuck_report#filter), of several hosts.
    type: raw
    required: true
  width:
    description: The most characters on a line, at least 40. A long address may need more.
    type: int
    default: 100
  limit:
    description: How many connections to list. The others are counted.
    type: int
    default: 20
seealso:
  - plugin: linuxnet.sockets.stuck_report
    plugin_type: filter
  - plugin: linuxnet.sockets.table
    plugin_type: filter
  - module: linuxnet.sockets.socket_diag_info
"""

EXAMPLES = r"""
- name: Look
  linuxnet.sockets.socket_diag_info:
    match:
      stuck: [zero_window, retransmitting, close_wait]
    details: [verdicts, process]
  register: found

- name: Tell
  ansible.builtin.debug:
    msg: "{{ found | linuxnet.sockets.stuck_text }}"
"""

RETURN = r"""
_value:
  description: The lines, joined by newlines, without one at the end.
  type: str
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.linuxnet.sockets.plugins.plugin_utils._report import document, text


def stuck_text(told: Any, width: int = 100, limit: int = 20) -> str:
    try:
        report = told if _is_report(told) else document.of_one_host(told)
        return text.text(report, width=width, limit=limit)
    except document.ReportError as error:
        raise AnsibleFilterError(f"linuxnet.sockets.stuck_text: {error}") from error


def _is_report(told: object) -> bool:
    return isinstance(told, Mapping) and told.get("version") == document.VERSION


class FilterModule:
    """Jinja2 filters of the collection."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"stuck_text": stuck_text}
