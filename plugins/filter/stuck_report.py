# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: stuck_report
short_description: Combine the stuck connections of several hosts into one report
version_added: 0.1.0
description:
  - Combines the results of M(linuxnet.sockets.socket_diag_info) from several hosts into one report.
    The report contains totals, counts by host, age, peer and program, and the evidence of each
    connection.
  - The playbook C(linuxnet.sockets.stuck_report) writes this report as JSON, and uses
    P(linuxnet.sockets.stuck_page#filter) to render it as a page.
  - The report includes failed and unreachable hosts with the reason.
  - The same input gives the same report.
author:
  - linuxnet.sockets contributors (!UNKNOWN)
positional: _input, time
options:
  _input:
    description:
      - The registered result of M(linuxnet.sockets.socket_diag_info) for each host name. The task
        must set O(linuxnet.sockets.socket_diag_info#module:details=verdicts).
    type: dict
    required: true
  time:
    description: Time of the report, as text. Use the format of the example.
    type: str
    required: true
  facts:
    description:
      - The registered result of M(linuxnet.sockets.socket_diag_facts) for each host name. Without
        it, the report does not contain the kernel releases and the number of all connections.
    type: dict
  previous:
    description:
      - An earlier report, or its JSON as text. The report then says which connections are new,
        still there and gone.
      - A connection is gone if the report no longer finds it. It is closed, or it makes progress
        again.
    type: raw
  selection:
    description: What the tasks asked the hosts for, as plain data. The report contains it. A
      comparison warns if the earlier report has another selection.
    type: raw
seealso:
  - plugin: linuxnet.sockets.stuck_page
    plugin_type: filter
  - plugin: linuxnet.sockets.stuck_text
    plugin_type: filter
  - module: linuxnet.sockets.socket_diag_info
"""

EXAMPLES = r"""
- name: Find stuck connections
  linuxnet.sockets.socket_diag_info:
    match:
      stuck: [zero_window, retransmitting, close_wait]
    details: [verdicts, process, info]
  register: found
  ignore_errors: true

- name: Show the headline
  ansible.builtin.debug:
    msg: "{{ (results | linuxnet.sockets.stuck_report('2026-11-21T06:41:52Z')).headline }}"
  vars:
    results: "{{ {inventory_hostname: found} }}"
"""

RETURN = r"""
_value:
  description:
    - The report. Durations are in milliseconds and sizes in bytes. Unknown values are null.
    - An incompatible change of the format increments RV(_value.version).
  type: dict
  contains:
    version:
      description: Version of the format, V(1).
      type: int
    time:
      description: O(time).
      type: str
    headline:
      description: The result in one sentence.
      type: str
    remarks:
      description: Gaps in the data, such as missing hosts, as sentences.
      type: list
      elements: str
    totals:
      description:
        - Numbers of hosts are C(hosts), C(answered) (returned a result), C(unreachable), C(failed),
          C(no_result) and C(affected) (at least one connection is certainly stuck).
        - Numbers of connections are C(connections) (all open TCP connections), C(found),
          C(certain), C(listed), C(left_out) (found but not listed), C(owners_unknown), and
          C(verdicts) by name.
        - C(longest_ms) is the longest proven duration. C(waiting_bytes) are unsent or
          unacknowledged.
      type: dict
    ages:
      description:
        - A histogram of durations. Each bar has C(verdicts) and covers C(from_ms) up to but not
          including C(to_ms). The last bar has C(from_ms) null and counts unknown durations.
      type: list
      elements: dict
    peers:
      description: The ten remote addresses with the most connections, each with C(name), C(found),
        C(hosts) and C(verdicts).
      type: list
      elements: dict
    programs:
      description: The ten systemd units or commands with the most connections, with the same keys.
      type: list
      elements: dict
    hosts:
      description:
        - Every host, sorted by name. C(status) is V(answered), V(unreachable), V(failed) or
          V(no_result). C(message) is the error of a host without a result.
        - The counts have the same names as in RV(_value.totals).
      type: list
      elements: dict
    selection:
      description: O(selection), or null.
      type: raw
    findings:
      description:
        - Each connection. Certainly stuck connections come first, then the longest duration.
        - C(verdicts) lists all verdicts of the connection in order of precedence, each with
          C(verdict), C(for_ms) and C(evidence). C(leading) is the first verdict, under which the
          connection counts. C(for_ms) is the duration that the kernel's clocks prove.
        - C(selector) selects just this connection while its first verdict lasts. It is null if the
          data of the host is not valid.
        - C(change) is V(new), V(still) or V(unknown) compared with O(previous). C(first_time) is
          the time of the first of the compared reports that contains the connection.
        - The other keys are those of a record,
          RV(linuxnet.sockets.socket_diag_info#module:sockets).
      type: list
      elements: dict
    comparison:
      description:
        - Null without O(previous). C(time) is the time of the earlier report. C(sentence) states
          the result.
        - Numbers of connections are C(new), C(still), C(gone), and C(unknown), for hosts that one
          of the reports does not cover completely. C(same_selection) is false if the earlier report
          has another RV(_value.selection).
      type: dict
    gone:
      description: The connections of the earlier report that this one no longer finds, with the
        keys of RV(_value.findings).
      type: list
      elements: dict
    not_shown:
      description: What the report cannot show, as sentences.
      type: list
      elements: str
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.linuxnet.sockets.plugins.plugin_utils._report import document


def stuck_report(
    results: Mapping[str, Any],
    time: str,
    facts: Mapping[str, Any] | None = None,
    previous: Any = None,
    selection: Any = None,
) -> dict[str, Any]:
    try:
        return document.build_report(
            results, facts, time=time, previous=previous, selection=selection
        )
    except document.ReportError as error:
        raise AnsibleFilterError(f"linuxnet.sockets.stuck_report: {error}") from error


class FilterModule:
    """Jinja2 filters of the collection."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"stuck_report": stuck_report}
