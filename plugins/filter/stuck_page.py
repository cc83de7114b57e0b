# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: stuck_page
short_description: A report of stuck connections as a page for the browser
version_added: 0.1.0
description:
  - Makes of a document of P(linuxnet.sockets.stuck_report#filter) one page of HTML with pictures
    and tables. It needs no other file and asks for nothing over the network.
  - It can be read without JavaScript, which only sorts and filters.
  - Whatever the hosts call themselves, their programs and their users is shown as text.
  - At most 1000 connections are described on it, those that are stuck for longest. The page says
    how many were left out.
  - The same document gives the same bytes.
author:
  - linuxnet.sockets contributors (!UNKNOWN)
options:
  _input:
    description: The document.
    type: dict
    required: true
  json:
    description: Name of the file beside the page that holds the same document as JSON, for a link.
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
    content: "{{ answers | linuxnet.sockets.stuck_report(now) | linuxnet.sockets.stuck_page }}"
    dest: ./stuck-report.html
    mode: "0644"
  vars:
    answers: "{{ {inventory_hostname: found} }}"
    now: "{{ now(utc=true, fmt='%Y-%m-%dT%H:%M:%SZ') }}"
"""

RETURN = r"""
_value:
  description: The page.
  type: str
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.linuxnet.sockets.plugins.plugin_utils._report import document, page


def stuck_page(report: Mapping[str, Any], json: str | None = None) -> str:
    try:
        return page.page(report, json=json)
    except document.ReportError as error:
        raise AnsibleFilterError(f"linuxnet.sockets.stuck_page: {error}") from error


class FilterModule:
    """Jinja2 filters of the collection."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"stuck_page": stuck_page}
