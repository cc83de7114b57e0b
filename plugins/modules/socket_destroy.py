#!/usr/bin/python

# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: socket_destroy
short_description: Destroy the sockets that a selector means, and say what became of each
version_added: 0.1.0
description:
  - Has the kernel abort sockets (C(SOCK_DESTROY)). The application on this host gets
    C(ECONNABORTED), and the peer of a TCP connection a reset. Neither process is ended.
  - Just those sockets that were found are meant. Each is known by its cookie, so another that has
    taken over its addresses and ports in the meantime is not touched.
  - An acknowledgement of the kernel is not taken for success. A fresh look must no longer find the
    socket.
  - What O(protect) covers is protected. That is by default the connection of Ansible itself, SSH
    sessions, loopback, listeners, UDP sockets without remote address, and sockets of the kernel's
    own.
  - Try it with C(--check --diff) first. It names the very sockets.
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
      - RV(destroyed) names the very sockets that would be destroyed, and the task fails where it
        would fail.
  diff_mode:
    support: full
    details:
      - The sockets that change, one on a line.
  idempotent:
    support: partial
    details:
      - A second run finds nothing left and changes nothing, unless clients have connected again in
        the meantime. Those are other sockets, and they are destroyed.
options:
  match:
    required: true
  pace:
    description:
      - Destroy no more sockets than this in a time, such as V(100/s), V(600/m) or V(1000/h), so
        that not all clients come back in one moment. A bare number is per second.
      - A socket whose turn comes later than a second after the look is judged anew, by the selector
        and by O(protect).
    type: str
  engine:
    description:
      - How sockets are destroyed.
      - V(netlink) asks the kernel by C(SOCK_DESTROY). It needs a kernel that was built with
        C(CONFIG_INET_DIAG_DESTROY).
      - V(pidfd) borrows the descriptor of a process that holds the socket, and disconnects it
        (C(pidfd_getfd), Linux 5.6 or later). It works on kernels that were built without that, and
        on MPTCP. It needs the right to trace that process (C(CAP_SYS_PTRACE)), and cannot reach a
        socket that no process holds.
      - V(auto) takes V(netlink), and V(pidfd) for each socket that the former cannot destroy.
    type: str
    choices:
      - auto
      - netlink
      - pidfd
    default: netlink
requirements:
  - Linux 5.4 or later that was built with C(CONFIG_INET_DIAG_DESTROY), or O(engine=pidfd).
    M(linuxnet.sockets.socket_diag_facts) tells.
  - C(CAP_NET_ADMIN) in the user namespace that owns the network namespace
  - Python 3.9 or later
notes:
  - A UDP socket on a port that its application chose loses its remote address, but stays bound and
    goes on receiving. Its outcome is V(disconnected).
  - The subflow of an MPTCP connection is not destroyed alone, because the connection would live on.
    With V(netlink) its outcome is V(unsupported_protocol); V(pidfd) ends the whole connection.
seealso:
  - module: linuxnet.sockets.socket_diag_info
  - module: linuxnet.sockets.socket_diag_facts
  - name: ss(8)
    description: The words for states, and the language of C(expression).
    link: https://man7.org/linux/man-pages/man8/ss.8.html
"""

EXAMPLES = r"""
- name: See what would go (also with --check --diff on the command line)
  linuxnet.sockets.socket_destroy:
    match:
      remote: 10.20.0.0/16
  check_mode: true
  register: plan

- name: Cut this proxy's connections to the backends that are taken away
  linuxnet.sockets.socket_destroy:
    match:
      remote: 10.20.0.0/16
      remote_port: [80, 443, 8000-8100]

- name: Get rid of the connections of an address that this host no longer has
  linuxnet.sockets.socket_destroy:
    match:
      local: 192.0.2.10
      protocol: [tcp, udp]

- name: End the connections of a user who has left, but not more than a quarter of all
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

- name: Let a service drop its database connections, slowly, so that it spreads over the replicas
  linuxnet.sockets.socket_destroy:
    match:
      cgroup: /system.slice/app.service
      remote_port: 5432
    pace: 20/s

- name: Let no container keep a connection to a host that is being replaced
  linuxnet.sockets.socket_destroy:
    match:
      remote: 10.0.0.53
    namespaces: [all]

- name: Connections between local processes too
  linuxnet.sockets.socket_destroy:
    match:
      local_port: 6379
      state: connected
    protect:
      loopback: false

- name: Everything that connects from outside, but not from the monitoring network
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
  description: Whether at least one socket was destroyed or disconnected, or would be in check mode.
  returned: always
  type: bool
  sample: true
matched:
  description: How many sockets the selector matched, protected ones included.
  returned: always, unless the task could not be understood or the kernel not be asked
  type: int
  sample: 13
outcomes:
  description:
    - How many of them ended how. What did not occur is left out.
    - V(destroyed), and a fresh look no longer finds it.
    - V(disconnected), a UDP socket that has lost its remote address and stays.
    - V(already_gone), it went by itself in the meantime.
    - V(protected), protected by O(protect).
    - V(kernel_defect), left alone, because this kernel might turn such a socket into one that never
      ends.
    - V(survived), it is still there though the kernel was asked.
    - V(unsupported_protocol), the kernel cannot destroy sockets of this kind.
    - V(kernel_without_destroy), the kernel was built without the feature, or is too old for this
      state.
    - V(busy), the kernel does not let go of it while a thread waits on it.
    - V(not_permitted), the user that the module ran as may not destroy it.
    - V(limit), more than O(max_sockets) would have been destroyed, so none was.
    - The task fails where any of the last six occurs.
  returned: always, unless the task could not be understood or the kernel not be asked
  type: dict
  sample:
    destroyed: 12
    protected: 1
destroyed:
  description:
    - The sockets that were destroyed or disconnected, or would be in check mode, at most O(limit).
    - Each is a record as RV(linuxnet.sockets.socket_diag_info#module:sockets) has them, taken
      before, with four keys more.
  returned: always, unless the task could not be understood or the kernel not be asked
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
      description: What became of it, as in RV(outcomes).
      type: str
    engine:
      description: The engine that took it on.
      type: str
    reason:
      description: Why it was left alone, such as the rule of O(protect) that protected it.
      type: str
    reason_detail:
      description: What that reason rests on, where it is not plain.
      type: str
protected:
  description: Sockets that were protected or already gone, at most O(limit), with the same keys.
  returned: always, unless the task could not be understood or the kernel not be asked
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
    - The sockets for which the task failed, at most O(limit), with the same keys. Where
      O(max_sockets) refused, this is the plan.
  returned: always, unless the task could not be understood or the kernel not be asked
  type: list
  elements: dict
  sample: []
truncated:
  description: Whether any of these lists was cut at O(limit).
  returned: always, unless the task could not be understood or the kernel not be asked
  type: bool
  sample: false
engine:
  description: The engine that was asked for. Each entry of the lists names the one that took it on.
  returned: always, unless the task could not be understood or the kernel not be asked
  type: str
  sample: netlink
msg:
  description: What failed, and what to do.
  returned: on failure
  type: str
  sample: >-
    2 of the 14 selected sockets could not be destroyed: 2 unsupported_protocol (the kernel cannot
    destroy sockets of this kind: leave their protocol out, try engine: auto, or end the process
    that holds them). They are listed in survivors.
"""

from ansible_collections.linuxnet.sockets.plugins.module_utils._module import arguments
from ansible_collections.linuxnet.sockets.plugins.module_utils._module.destroy import work
from ansible_collections.linuxnet.sockets.plugins.module_utils._module.run import run_module


def main() -> None:
    argument_spec = {
        **arguments.selector(required=True),
        **arguments.namespaces(),
        **arguments.guard(),
        **arguments.engine(),
        **arguments.limit(),
    }
    run_module(argument_spec, work)


if __name__ == "__main__":
    main()
