#!/usr/bin/python

# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: socket_drain
short_description: Wait for connections to close, then destroy those that are left
version_added: 0.1.0
description:
  - Waits up to O(grace) for the connections that a selector matches to close. Then it destroys
    those that are left. With O(destroy=false) it only reports them.
  - A connection has closed when it no longer exists or is in TIME_WAIT. CLOSE_WAIT, LAST_ACK,
    CLOSING and FIN_WAIT do not count as closed. The module continues to wait for a connection that
    no longer matches, for example after a change of its state.
  - Sockets that O(protect) covers are neither waited for nor destroyed. By default these are the
    connection of Ansible itself, SSH sessions, loopback connections, listeners, UDP sockets without
    a remote address, and sockets that the kernel itself uses.
  - The module does not prevent new connections. Do that first, for example in the load balancer or
    with a firewall rule.
  - While it waits, Ansible shows a progress line for each host with the number of connections that
    are left.
  - Run it with C(--check --diff) first to see the connections. Check mode does not wait.
author:
  - linuxnet.sockets contributors (!UNKNOWN)
extends_documentation_fragment:
  - linuxnet.sockets._attributes
  - linuxnet.sockets._attributes.actiongroup_sockets
  - linuxnet.sockets.selector
  - linuxnet.sockets.namespaces
  - linuxnet.sockets.guard
  - linuxnet.sockets.limit
attributes:
  action:
    description: Has a corresponding action plugin, so that a part of it runs on the controller.
    support: full
    details:
      - The action plugin runs the module in steps. After each step it writes a progress line to
        standard error. The line shows the connections that are left and their states, those that
        ended or arrived, and the rest of O(grace).
      - Tasks with C(no_log), C(async) or O(step) show no progress.
      - If the play is interrupted, the current step on the host completes, within ten seconds. No
        further step starts.
  async:
    description: Supports being used with the C(async) keyword.
    support: full
  check_mode:
    support: full
    details:
      - Does not wait. RV(destroyed) lists the sockets that would be destroyed if none of them
        closed.
  diff_mode:
    support: full
    details:
      - Shows each socket that changes, one per line.
  idempotent:
    support: partial
    details:
      - A second run finds no connections and changes nothing, unless clients have reconnected in
        the meantime. Their connections are new sockets, and the second run drains them.
options:
  match:
    required: true
  until:
    description:
      - What to wait for.
      - V(closed) waits until the connection has closed.
      - V(sent) waits until the connection has closed, or until destroying it loses no data. That is
        the case when all sent data is acknowledged, all received data is read, and no data was
        transferred in either direction for O(settle).
      - With O(until=sent) and O(destroy=true), each connection is destroyed as soon as this is the
        case for it. With O(destroy=false), the task ends as soon as this is the case for all
        connections that are left.
      - The kernel's clocks prove this for TCP, and for MPTCP on Linux 6.10 or later. UDP has no
        such clocks. The queues of a UDP socket must be empty in every snapshot for O(settle).
    type: str
    choices:
      - closed
      - sent
    default: closed
  settle:
    description:
      - How long a connection must have transferred no data, for O(until=sent).
      - Set it longer than the slowest request. While a server works on a request, the connection
        looks idle, and destroying it loses the answer.
    type: str
    default: 1s
  grace:
    description:
      - The maximum time to wait, such as V(90s), V(5m) or V(1h). A plain number is in seconds.
      - V(0) does not wait.
    type: str
    default: 60s
  destroy:
    description:
      - Whether to destroy the connections that are left.
      - With V(false), RV(remaining) lists them and the task does not fail. Check RV(drained) to see
        whether any are left.
    type: bool
    default: true
  arrivals:
    description:
      - How to handle connections that start to match while the module waits and that O(protect)
        does not cover. RV(arrived) counts them in any case.
      - V(include) waits for them too, and destroys them in the end.
      - V(ignore) neither waits for them nor destroys them.
      - V(fail) makes the task fail immediately. It destroys nothing more.
    type: str
    choices:
      - include
      - ignore
      - fail
    default: include
  pace:
    description:
      - The maximum rate at which sockets are destroyed, such as V(100/s), V(600/m) or V(1000/h). A
        plain number is per second. Use it to prevent all clients from reconnecting at once.
      - With O(until=closed), destroying starts when O(grace) is over.
      - By default, the rate is not limited.
    type: str
  engine:
    description:
      - The mechanism that destroys sockets, as in
        O(linuxnet.sockets.socket_destroy#module:engine).
    type: str
    choices:
      - auto
      - netlink
      - bpf
      - pidfd
    default: netlink
  step:
    description:
      - Return after this time even if the drain is not finished. RV(finished) is then V(false), and
        RV(resume) continues the drain. If destroying has started, it is completed first.
      - The action plugin sets this option to show progress.
    type: str
  resume:
    description:
      - The RV(resume) of the previous step, to continue the drain. All other options must be the
        same, except O(step) and O(limit). O(grace) counts from the start of the first step.
      - The value is rejected if it is from another host, from before a reboot, or from other
        options.
    type: dict
requirements:
  - Linux 5.4 or later. To destroy, a kernel with C(CONFIG_INET_DIAG_DESTROY), or O(engine=bpf) or
    O(engine=pidfd). Use M(linuxnet.sockets.socket_diag_facts) to find out what a kernel supports.
  - C(CAP_NET_ADMIN) in the user namespace that owns the network namespace, to destroy
  - Python 3.9 or later
notes:
  - The kernel sends a notification when it frees a TCP or UDP socket. The module then takes a new
    snapshot. Without notifications, it takes snapshots at growing intervals of at most one second,
    or longer if a snapshot takes long.
  - Run it as root, so that it can find the process that holds a socket. A connection whose owner
    cannot be read may be an SSH session, and is protected.
  - The module subscribes to these notifications in another network namespace as long as connections
    are left there. If the name of a namespace is removed, the module continues to drain it as long
    as a process is in it.
  - V(all) in O(namespaces) means the namespaces that exist when the task starts.
seealso:
  - module: linuxnet.sockets.socket_destroy
  - module: linuxnet.sockets.socket_diag_info
"""

EXAMPLES = r"""
- name: Wait up to five minutes for the connections of a web server, then destroy the rest
  linuxnet.sockets.socket_drain:
    match:
      local_port: [80, 443]
    grace: 5m

- name: Destroy each database connection as soon as it has no data in flight
  linuxnet.sockets.socket_drain:
    match:
      remote_port: 5432
    until: sent
    settle: 30s  # longer than the slowest query
    grace: 2m

- name: Protect the replicas of a database, and destroy at most 500 connections
  linuxnet.sockets.socket_drain:
    match:
      local_port: 5432
    protect:
      selectors:
        - remote: 10.0.0.0/28
    max_sockets: 500

- name: Wait, but destroy nothing
  linuxnet.sockets.socket_drain:
    match:
      local_port: 8080
    destroy: false
  register: drain
  failed_when: not drain.drained

- name: Fail if a client connects during the drain
  linuxnet.sockets.socket_drain:
    match:
      local_port: 8080
    arrivals: fail

- name: Drain connections in all containers, and limit the rate
  linuxnet.sockets.socket_drain:
    match:
      remote: 10.0.0.53
      protocol: [tcp, udp]
    namespaces: [all]
    pace: 20/s
"""

RETURN = r"""
changed:
  description: Whether at least one socket was destroyed or disconnected. In check mode, whether one
    would be.
  returned: always
  type: bool
  sample: true
finished:
  description:
    - Whether the drain is complete. It is V(false) after a O(step). It is also V(false) when the
      host was lost or the module crashed while the task waited. The result then shows what had been
      done before.
  returned: when the options are valid and the kernel can be queried
  type: bool
  sample: true
drained:
  description:
    - Whether no connection is left that the task waited for. With O(destroy=false) and
      O(until=sent), whether no connection with data in flight is left.
  returned: when the options are valid and the kernel can be queried
  type: bool
  sample: true
matched:
  description:
    - The total number of sockets that matched. It includes protected sockets. It also includes
      connections that arrived later, unless O(arrivals=ignore). RV(ended), RV(left) and
      RV(outcomes) add up to it.
  returned: when the options are valid and the kernel can be queried
  type: int
  sample: 200
ended:
  description: The number of connections that closed on their own.
  returned: when the options are valid and the kernel can be queried
  type: int
  sample: 187
arrived:
  description: The number of connections that started to match while the task waited, without
    protected ones.
  returned: when the options are valid and the kernel can be queried
  type: int
  sample: 2
left:
  description: The number of connections that have not closed and were not destroyed.
  returned: when the options are valid and the kernel can be queried
  type: int
  sample: 0
by_state:
  description: The number of connections in RV(left) by state, the most frequent state first.
  returned: when the options are valid and the kernel can be queried
  type: dict
  sample: {}
outcomes:
  description:
    - The number of other sockets for each outcome, as in
      RV(linuxnet.sockets.socket_destroy#module:outcomes). Outcomes without sockets are omitted.
  returned: when the options are valid and the kernel can be queried
  type: dict
  sample:
    destroyed: 12
    protected: 1
sent:
  description:
    - The number of destroyed sockets that had no data in flight and had transferred none for
      O(settle), whatever O(until) is.
  returned: when the options are valid and the kernel can be queried
  type: int
  sample: 11
lost:
  description: The bytes that were lost with all destroyed TCP connections.
  returned: when the options are valid and the kernel can be queried
  type: dict
  sample:
    unsent_bytes: 18432
    unacknowledged_bytes: 2896
    unread_bytes: 0
  contains:
    unsent_bytes:
      description: Bytes that local applications wrote and the kernel never sent.
      type: int
    unacknowledged_bytes:
      description: Bytes that were sent and not acknowledged. The peer may have received some of
        them.
      type: int
    unread_bytes:
      description: Bytes that were received and not read by local applications.
      type: int
elapsed:
  description: Seconds since the start of the first step.
  returned: when the options are valid and the kernel can be queried
  type: float
  sample: 60.013
grace_left:
  description: Seconds that remain of O(grace).
  returned: when the options are valid and the kernel can be queried
  type: float
  sample: 0.0
resume:
  description: The value for O(resume) to continue the drain. It is null when RV(finished) is
    V(true).
  returned: when the options are valid and the kernel can be queried
  type: dict
  sample: null
destroyed:
  description:
    - The sockets that were destroyed or disconnected, at most O(limit). In check mode, those that
      would be. With O(step), those of this step.
    - Each entry is the record of the socket just before it was destroyed, as in
      RV(linuxnet.sockets.socket_destroy#module:destroyed), with three additional keys.
  returned: when the options are valid and the kernel can be queried
  type: list
  elements: dict
  sample:
    - protocol: tcp
      state: established
      local: 192.0.2.10
      local_port: 443
      remote: 198.51.100.7
      remote_port: 51022
      cookie: "3e9"
      send_queue: 21328
      recv_queue: 0
      outcome: destroyed
      engine: netlink
      reason: null
      reason_detail: null
      arrived: false
      sent: false
      lost:
        unsent_bytes: 18432
        unacknowledged_bytes: 2896
        unread_bytes: 0
  contains:
    arrived:
      description: Whether the connection started to match while the task waited.
      type: bool
    sent:
      description: Whether the connection had no data in flight and had transferred none for
        O(settle).
      type: bool
    lost:
      description: The bytes that were lost with this connection, as in RV(lost). It is null when
        they are unknown, as for UDP.
      type: dict
protected:
  description:
    - The sockets that were protected and still exist, at most O(limit). The keys are those of
      RV(destroyed). The list is empty until RV(finished) is V(true).
    - If the list is cut, it keeps the connections that have data in flight.
  returned: when the options are valid and the kernel can be queried
  type: list
  elements: dict
  sample:
    - protocol: tcp
      state: established
      local: 192.0.2.10
      local_port: 22
      remote: 10.20.0.1
      remote_port: 51022
      cookie: "3ea"
      outcome: protected
      engine: null
      reason: control_connection
      reason_detail: null
      arrived: false
      sent: true
      lost:
        unsent_bytes: 0
        unacknowledged_bytes: 0
        unread_bytes: 0
survivors:
  description:
    - The sockets for which the task failed, at most O(limit). The keys are those of RV(destroyed).
    - When more than O(max_sockets) sockets would be destroyed, this list is the plan.
  returned: when the options are valid and the kernel can be queried
  type: list
  elements: dict
  sample: []
remaining:
  description:
    - The sockets that are left because of O(destroy) or O(arrivals), at most O(limit).
    - Each entry is a record with the keys RV(destroyed[].arrived), RV(destroyed[].sent) and
      RV(destroyed[].lost). Here, RV(destroyed[].lost) is what would be lost. The list is empty
      until RV(finished) is V(true).
  returned: when the options are valid and the kernel can be queried
  type: list
  elements: dict
  sample: []
truncated:
  description: Whether any of these lists was cut at O(limit).
  returned: when the options are valid and the kernel can be queried
  type: bool
  sample: false
engine:
  description: The value of O(engine). Each list entry names the engine that handled the socket.
  returned: when the options are valid and the kernel can be queried
  type: str
  sample: netlink
msg:
  description: What failed, and what to do.
  returned: on failure
  type: str
  sample: >-
    1 connections began to match during the drain, and arrivals is fail: tcp established
    192.0.2.10:8080 -> 198.51.100.7:51022 user root namespace current sk:3e9. Of those before
    them, none was destroyed. The others are listed in remaining. Keep new connections out
    first, or use arrivals: include or ignore.
warnings:
  description:
    - Problems that did not stop the task, such as a part of the selector that cannot match.
    - Since ansible-core 2.19, ansible-core leaves out an empty list. Write
      C(result.warnings | default([]\)) for every version.
  returned: when there are warnings
  type: list
  elements: str
  sample:
    - "match.device: 'wg00': unknown interface, so it matches nothing. Existing: eth0, lo."
"""

from ansible_collections.linuxnet.sockets.plugins.module_utils._core.api.drain_sockets import drain
from ansible_collections.linuxnet.sockets.plugins.module_utils._module.arguments import (
    argument_spec,
)
from ansible_collections.linuxnet.sockets.plugins.module_utils._module.run import run_module


def main() -> None:
    run_module(argument_spec("drain"), drain, modes=True)


if __name__ == "__main__":
    main()
