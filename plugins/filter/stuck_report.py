# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: stuck_report
short_description: What several hosts know of their stuck connections, as one document
version_added: 0.1.0
description:
  - Makes one document of what M(linuxnet.sockets.socket_diag_info) found on several hosts. It has
    totals, counts by host, by age, by peer and by program, and each connection with its evidence.
  - The playbook C(linuxnet.sockets.stuck_report) uses it. The document is what it writes as JSON,
    and P(linuxnet.sockets.stuck_page#filter) makes a page of it.
  - Hosts that failed or were not reached are in it, with the reason.
  - The same input gives the same document.
author:
  - linuxnet.sockets contributors (!UNKNOWN)
positional: _input, time
options:
  _input:
    description:
      - For each host what M(linuxnet.sockets.socket_diag_info) returned to a task that registered
        it, with O(linuxnet.sockets.socket_diag_info#module:details=verdicts).
    type: dict
    required: true
  time:
    description: When the hosts were asked. It is only shown, best written as in the example.
    type: str
    required: true
  facts:
    description:
      - For each host what M(linuxnet.sockets.socket_diag_facts) returned to a task that registered
        it. Without it, the numbers of all connections and the kernels are not known.
    type: dict
seealso:
  - plugin: linuxnet.sockets.stuck_page
    plugin_type: filter
  - plugin: linuxnet.sockets.stuck_text
    plugin_type: filter
  - module: linuxnet.sockets.socket_diag_info
"""

EXAMPLES = r"""
- name: Look
  linuxnet.sockets.socket_diag_info:
    match:
      stuck: [zero_window, retransmitting, close_wait]
    details: [verdicts, process, info]
  register: found
  ignore_errors: true

- name: Say what is wrong, in one sentence
  ansible.builtin.debug:
    msg: "{{ (answers | linuxnet.sockets.stuck_report('2026-11-21T06:41:52Z')).headline }}"
  vars:
    answers: "{{ {inventory_hostname: found} }}"
"""

RETURN = r"""
_value:
  description:
    - The document. Durations are in milliseconds, and sizes in bytes. What is not known is null.
    - A change that a reader of version 1 would stumble over gets another RV(_value.version).
  type: dict
  contains:
    version:
      description: Of the shape of this document, V(1).
      type: int
    time:
      description: O(time).
      type: str
    headline:
      description: What is wrong, in one sentence.
      type: str
    remarks:
      description: What has to be known beside it, such as hosts that are missing.
      type: list
      elements: str
    totals:
      description:
        - Of hosts, C(hosts), C(looked), C(unreachable), C(failed), C(not_asked) and C(affected),
          which are those with a connection that is stuck for certain.
        - Of connections, C(connections), C(found), C(certain), C(listed), C(left_out), which are
          those that were found but not described, C(owners_unknown), and C(verdicts) by name.
        - C(longest_ms) and C(waiting_bytes).
      type: dict
    ages:
      description:
        - How many there are of which age, in steps from C(from_ms) to below C(to_ms), each with
          C(verdicts). Of the last step C(from_ms) is null, it counts those of unknown age.
      type: list
      elements: dict
    peers:
      description: The ten remote addresses with the most, each with C(name), C(found), C(hosts) and
        C(verdicts).
      type: list
      elements: dict
    programs:
      description: The same of the systemd units or commands that hold them.
      type: list
      elements: dict
    hosts:
      description:
        - Every host, in the order of names. C(status) is V(looked), V(unreachable), V(failed) or
          V(not_asked), and C(message) says why it was not looked at.
        - Its counts are named as those in RV(_value.totals).
      type: list
      elements: dict
    findings:
      description:
        - Each connection, those that are stuck for certain first, and of them those that are so for
          longest.
        - C(verdicts) are all that it has, each with C(verdict), C(for_ms) and C(evidence), the most
          telling first. C(leading) is the name of the first, under which it is counted. C(for_ms)
          is the time that the kernel's clocks prove.
        - The other keys are those of a record,
          RV(linuxnet.sockets.socket_diag_info#module:sockets).
      type: list
      elements: dict
    not_shown:
      description: What a look at sockets cannot show, in sentences.
      type: list
      elements: str
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.linuxnet.sockets.plugins.plugin_utils._report import document


def stuck_report(
    answers: Mapping[str, Any], time: str, facts: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    try:
        return document.document(answers, facts, time=time)
    except document.ReportError as error:
        raise AnsibleFilterError(f"linuxnet.sockets.stuck_report: {error}") from error


class FilterModule:
    """Jinja2 filters of the collection."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"stuck_report": stuck_report}
