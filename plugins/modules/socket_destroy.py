#!/usr/bin/python

# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: socket_destroy
short_description: Destroy selected sockets and report the outcome of each
version_added: 0.1.0
description:
  - Destroys the sockets that a selector matches, with the kernel's C(SOCK_DESTROY). The application
    on this host receives C(ECONNABORTED). The peer of a TCP connection receives a reset. No process
    is ended.
  - Only the sockets that the module found are destroyed. It addresses each one by its kernel
    cookie, so it never destroys a new socket that reuses the same addresses and ports.
  - The module verifies each result. A socket counts as destroyed only when a new dump no longer
    contains it.
  - Sockets that O(protect) covers are not destroyed. By default these are the connection of Ansible
    itself, SSH sessions, loopback connections, listeners, UDP sockets without a remote address, and
    sockets that the kernel itself uses.
  - Run it with C(--check --diff) first to see which sockets it would destroy.
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
  check_mode:
    support: full
    details:
      - RV(destroyed) lists the sockets that would be destroyed. The task fails in the same cases as
        without check mode.
  diff_mode:
    support: full
    details:
      - Shows each socket that changes, one per line.
  idempotent:
    support: partial
    details:
      - A second run finds no sockets and changes nothing, unless clients have reconnected in the
        meantime. Their connections are new sockets, and the second run destroys them.
options:
  match:
    required: true
  pace:
    description:
      - The maximum rate at which sockets are destroyed, such as V(100/s), V(600/m) or V(1000/h). A
        plain number is per second. Use it to prevent all clients from reconnecting at once.
      - A socket that waits for more than one second is evaluated again before it is destroyed,
        against O(match) and O(protect).
      - By default, the rate is not limited.
    type: str
  engine:
    description:
      - The mechanism that destroys sockets.
      - V(netlink) sends C(SOCK_DESTROY) requests to the kernel. It requires a kernel with
        C(CONFIG_INET_DIAG_DESTROY).
      - V(bpf) runs a BPF program that calls C(bpf_sock_destroy). It works without
        C(CONFIG_INET_DIAG_DESTROY), for TCP and UDP. It requires Linux 6.5 with
        C(CONFIG_DEBUG_INFO_BTF), and C(CAP_BPF) and C(CAP_PERFMON), or C(CAP_SYS_ADMIN). It cannot
        destroy connections in TIME_WAIT and half-open connections.
      - V(pidfd) duplicates the file descriptor of a process that holds the socket, and disconnects
        the socket through it (C(pidfd_getfd), Linux 5.6 or later). It works without
        C(CONFIG_INET_DIAG_DESTROY), and for MPTCP. It requires the right to trace the process
        (C(CAP_SYS_PTRACE)). It cannot destroy a socket that no process holds.
      - V(auto) uses V(netlink), or else V(bpf), or else V(pidfd), for each socket.
    type: str
    choices:
      - auto
      - netlink
      - bpf
      - pidfd
    default: netlink
requirements:
  - Linux 5.4 or later, with C(CONFIG_INET_DIAG_DESTROY), or with O(engine=bpf) or O(engine=pidfd).
    Use M(linuxnet.sockets.socket_diag_facts) to find out what a kernel supports.
  - C(CAP_NET_ADMIN) in the user namespace that owns the network namespace
  - Python 3.9 or later
notes:
  - A UDP socket that the application bound to a port explicitly is only disconnected. It loses its
    remote address, but stays bound and continues to receive datagrams. Its outcome is
    V(disconnected).
  - A subflow of an MPTCP connection is never destroyed alone, because the connection would continue
    over its other subflows. The engines V(netlink) and V(bpf) report V(unsupported_protocol)
    for it. The V(pidfd) engine ends the whole connection.
seealso:
  - module: linuxnet.sockets.socket_diag_info
  - module: linuxnet.sockets.socket_diag_facts
  - name: ss(8)
    description: The names of states, and the filter language of C(expression).
    link: https://man7.org/linux/man-pages/man8/ss.8.html
"""

EXAMPLES = r"""
- name: Preview which connections would be destroyed
  linuxnet.sockets.socket_destroy:
    match:
      remote: 10.20.0.0/16
  check_mode: true
  register: plan

- name: Destroy the connections of a proxy to backends that are being removed
  linuxnet.sockets.socket_destroy:
    match:
      remote: 10.20.0.0/16
      remote_port: [80, 443, 8000-8100]

- name: Destroy connections from an address that this host no longer has
  linuxnet.sockets.socket_destroy:
    match:
      local: 192.0.2.10
      protocol: [tcp, udp]

- name: Destroy the connections of a former user, but at most a quarter of all connections
  linuxnet.sockets.socket_destroy:
    match:
      user: alice
    max_sockets: 25%

- name: Destroy connections that make no progress
  linuxnet.sockets.socket_destroy:
    match:
      state: established
      any:
        - send_queue: ">0"
          idle: 5m
        - retransmits: ">= 6"
    max_sockets: 50

- name: Destroy the database connections of a service slowly, so that it rebalances over replicas
  linuxnet.sockets.socket_destroy:
    match:
      cgroup: /system.slice/app.service
      remote_port: 5432
    pace: 20/s

- name: Destroy the connections to a replaced host in all containers
  linuxnet.sockets.socket_destroy:
    match:
      remote: 10.0.0.53
    namespaces: [all]

- name: Destroy connections between local processes too
  linuxnet.sockets.socket_destroy:
    match:
      local_port: 6379
      state: connected
    protect:
      loopback: false

- name: Destroy all connections from outside, except those of the monitoring network
  linuxnet.sockets.socket_destroy:
    match:
      state: established
      not:
        remote: [10.0.0.0/8, "fd00::/8"]
    protect:
      selectors:
        - remote: 203.0.113.0/24
"""

RETURN = r"""
changed:
  description: Whether at least one socket was destroyed or disconnected. In check mode, whether one
    would be.
  returned: always
  type: bool
  sample: true
matched:
  description: The number of sockets that the selector matched, including protected ones.
  returned: when the options are valid and the kernel can be queried
  type: int
  sample: 13
outcomes:
  description:
    - The number of matched sockets for each outcome. Outcomes without sockets are omitted.
    - "V(destroyed): the socket was destroyed, and a new dump no longer contains it."
    - "V(disconnected): the UDP socket lost its remote address and still exists."
    - "V(already_gone): the socket closed on its own before it could be destroyed."
    - "V(protected): O(protect) protected the socket."
    - "V(kernel_defect): the socket was skipped because of a kernel bug. It could exist forever
      after it was destroyed."
    - "V(survived): the module tried to destroy the socket, and it still exists or its state is
      unknown."
    - "V(unsupported_protocol): the kernel cannot destroy sockets of this kind."
    - "V(kernel_without_destroy): the kernel was built without C(CONFIG_INET_DIAG_DESTROY), or is
      too old to destroy sockets in this state."
    - "V(busy): a thread waits on the socket, and the kernel does not release it."
    - "V(not_permitted): the user that runs the module may not destroy the socket."
    - "V(limit): more than O(max_sockets) sockets would have been destroyed, so none was."
    - The task fails if any of the last six outcomes occurs.
  returned: when the options are valid and the kernel can be queried
  type: dict
  sample:
    destroyed: 12
    protected: 1
destroyed:
  description:
    - The sockets that were destroyed or disconnected, at most O(limit). In check mode, those that
      would be.
    - Each entry is the record of the socket before it was destroyed, as in
      RV(linuxnet.sockets.socket_diag_info#module:sockets), with four additional keys.
  returned: when the options are valid and the kernel can be queried
  type: list
  elements: dict
  sample:
    - protocol: tcp
      family: inet
      mapped: false
      state: established
      local: 192.0.2.10
      local_port: 48134
      remote: 10.20.3.4
      remote_port: 443
      device: null
      uid: 33
      user: www-data
      inode: 48213
      cookie: "3e9"
      send_queue: 18432
      recv_queue: 0
      idle_ms: 301500
      namespace: current
      outcome: destroyed
      engine: netlink
      reason: null
      reason_detail: null
  contains:
    outcome:
      description: The outcome, as in RV(outcomes).
      type: str
    engine:
      description: The engine that handled the socket.
      type: str
    reason:
      description: Why the socket was not destroyed, for example the rule of O(protect) that
        protected it. V(shared_port) for a disconnected socket whose port other sockets share.
      type: str
    reason_detail:
      description: More about the reason, for example the selector that matched.
      type: str
protected:
  description: The sockets that were protected or already gone, at most O(limit). The keys are those
    of RV(destroyed).
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
survivors:
  description:
    - The sockets for which the task failed, at most O(limit). The keys are those of RV(destroyed).
    - When more than O(max_sockets) sockets would be destroyed, this list is the plan.
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
    2 of the 14 selected sockets could not be destroyed: 2 unsupported_protocol (the kernel
    cannot destroy sockets of this kind: leave their protocol out, try engine: auto, or end the
    process that holds them). They are listed in survivors.
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

from ansible_collections.linuxnet.sockets.plugins.module_utils._core.api.destroy_sockets import (
    destroy,
)
from ansible_collections.linuxnet.sockets.plugins.module_utils._module.arguments import (
    argument_spec,
)
from ansible_collections.linuxnet.sockets.plugins.module_utils._module.run import run_module


def main() -> None:
    run_module(argument_spec("destroy"), destroy, modes=True)


if __name__ == "__main__":
    main()
