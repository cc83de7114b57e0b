# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: stuck_text
short_description: Format a report of stuck connections as text
version_added: 0.1.0
description:
  - Formats a report for the terminal. It starts with a one-sentence summary and a bar per verdict.
    Then it lists each connection with its verdicts, their proven minimum duration and the evidence.
author:
  - linuxnet.sockets contributors (!UNKNOWN)
options:
  _input:
    description:
      - Socket records of one host with verdicts, such as
        RV(linuxnet.sockets.socket_diag_info#module:sockets), or the whole result of that module.
      - Also accepts a report of several hosts from P(linuxnet.sockets.stuck_report#filter).
    type: raw
    required: true
  width:
    description: Maximum number of characters per line, at least 40. Long addresses are not broken.
    type: int
    default: 100
  limit:
    description: Maximum number of connections to list. The text states how many it omits.
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
- name: Find stuck connections
  linuxnet.sockets.socket_diag_info:
    match:
      stuck: [zero_window, retransmitting, close_wait]
    details: [verdicts, process]
  register: found

- name: Show them
  ansible.builtin.debug:
    msg: "{{ (found | linuxnet.sockets.stuck_text).splitlines() }}"
"""

RETURN = r"""
_value:
  description: The lines, joined by newlines, without a trailing newline.
  type: str
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.linuxnet.sockets.plugins.plugin_utils._report import document, text


def stuck_text(data: Any, width: int = 100, limit: int = 20) -> str:
    try:
        report = data if _is_report(data) else document.build_host_report(data)
        return text.render_text(report, width=width, limit=limit)
    except document.ReportError as error:
        raise AnsibleFilterError(f"linuxnet.sockets.stuck_text: {error}") from error
    except Exception as error:
        raise AnsibleFilterError(
            f"linuxnet.sockets.stuck_text: not a report of linuxnet.sockets.stuck_report: "
            f"{type(error).__name__}: {error}"
        ) from error


def _is_report(data: object) -> bool:
    return isinstance(data, Mapping) and data.get("version") == document.VERSION


class FilterModule:
    """Jinja2 filters of the collection."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"stuck_text": stuck_text}
