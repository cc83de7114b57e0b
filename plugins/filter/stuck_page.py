# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: stuck_page
short_description: Render a report of stuck connections as an HTML page
version_added: 0.1.0
description:
  - Renders a report from P(linuxnet.sockets.stuck_report#filter) as one HTML page with charts and
    tables. The page needs no other file and no network access.
  - JavaScript groups, sorts, filters and exports the connections, and offers the next step for
    each. Without it, the page shows all connections with their evidence.
  - Names of hosts, programs and users are always escaped and shown as text.
  - The page lists at most 1000 connections, the longest stuck first, and states how many it omits.
  - The same report gives the same bytes.
author:
  - linuxnet.sockets contributors (!UNKNOWN)
options:
  _input:
    description: The report.
    type: dict
    required: true
  json:
    description: Name of a JSON file with the same report in the directory of the page. The page
      links to it.
    type: str
seealso:
  - plugin: linuxnet.sockets.stuck_report
    plugin_type: filter
  - plugin: linuxnet.sockets.stuck_text
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Write the page
  ansible.builtin.copy:
    content: "{{ results | linuxnet.sockets.stuck_report(now) | linuxnet.sockets.stuck_page }}"
    dest: ./stuck-report.html
    mode: "0644"
  vars:
    results: "{{ {inventory_hostname: found} }}"
    now: "{{ now(utc=true, fmt='%Y-%m-%dT%H:%M:%SZ') }}"
"""

RETURN = r"""
_value:
  description: The HTML of the page.
  type: str
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.linuxnet.sockets.plugins.plugin_utils._report import document, page


def stuck_page(report: Mapping[str, Any], json: str | None = None) -> str:
    try:
        return page.render_page(report, json_path=json)
    except document.ReportError as error:
        raise AnsibleFilterError(f"linuxnet.sockets.stuck_page: {error}") from error
    except Exception as error:
        raise AnsibleFilterError(
            f"linuxnet.sockets.stuck_page: not a report of linuxnet.sockets.stuck_report: "
            f"{type(error).__name__}: {error}"
        ) from error


class FilterModule:
    """Jinja2 filters of the collection."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"stuck_page": stuck_page}
