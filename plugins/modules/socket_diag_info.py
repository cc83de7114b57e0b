#!/usr/bin/python

# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: socket_diag_info
short_description: Find sockets and return what the kernel reports about them
version_added: 0.1.0
description:
  - Finds the TCP, UDP, UDP-Lite, raw and MPTCP sockets that a selector matches, in one or all
    network namespaces of a host. Returns a record for each socket.
  - Queries the kernel directly through C(NETLINK_SOCK_DIAG). The host needs only Python.
  - Changes nothing. M(linuxnet.sockets.socket_destroy) with the same selector affects the same
    sockets.
author:
  - linuxnet.sockets contributors (!UNKNOWN)
extends_documentation_fragment:
  - linuxnet.sockets._attributes
  - linuxnet.sockets._attributes.info
  - linuxnet.sockets._attributes.actiongroup_sockets
  - linuxnet.sockets.selector
  - linuxnet.sockets.namespaces
  - linuxnet.sockets.limit
options:
  match:
    default: {}
  details:
    description:
      - The additional information to return for each socket.
      - V(info) adds RV(sockets[].tcp_info), RV(sockets[].congestion_info), RV(sockets[].mptcp_info)
        and RV(sockets[].ulp_info).
      - V(memory) adds RV(sockets[].memory).
      - V(process) adds RV(sockets[].processes). To see processes of other users, run the module as
        root with C(CAP_SYS_PTRACE).
      - V(verdicts) adds RV(sockets[].stuck), RV(sockets[].stranded) and RV(sockets[].superseded).
        It looks up the routes of the listed sockets, and each route only once.
    type: list
    elements: str
    choices:
      - info
      - memory
      - process
      - verdicts
    default: []
  group_by:
    description:
      - A key of the record. RV(summary) then also counts the sockets by the values of this key.
      - V(processes) counts by the commands of the processes that hold the socket.
      - V(stuck) and V(stranded) count by the combination of verdicts, or by V(none).
    type: str
    choices:
      - protocol
      - family
      - mapped
      - state
      - local
      - local_port
      - remote
      - remote_port
      - device
      - uid
      - user
      - mark
      - cgroup
      - timer
      - retransmits
      - congestion
      - ulp
      - namespace
      - processes
      - stuck
      - stranded
      - superseded
requirements:
  - Linux 5.4 or later, with the diag module of each selected protocol (C(tcp_diag), C(udp_diag),
    C(raw_diag), C(mptcp_diag)). The kernel loads these modules automatically where it is allowed to
    load modules.
  - Python 3.9 or later
seealso:
  - module: linuxnet.sockets.socket_destroy
  - module: linuxnet.sockets.socket_diag_facts
  - name: ss(8)
    description: The names of states, and the filter language of C(expression).
    link: https://man7.org/linux/man-pages/man8/ss.8.html
"""

EXAMPLES = r"""
- name: List listening sockets and their processes
  linuxnet.sockets.socket_diag_info:
    match:
      protocol: [tcp, udp]
      state: [listening, closed]
    details: [process]
  register: listeners

- name: Count the connections to the database by client
  linuxnet.sockets.socket_diag_info:
    match:
      local_port: 5432
    group_by: remote
    limit: 0
  register: clients

- name: Show the ten clients with the most connections
  ansible.builtin.debug:
    msg: "{{ (clients.summary.remote | dict2items | sort(attribute='value', reverse=true))[:10] }}"

- name: Find connections that make no progress, with the reason and the owner
  linuxnet.sockets.socket_diag_info:
    match:
      any:
        - stuck: [zero_window, retransmitting, orphaned]
        - stuck:
            verdict: close_wait
            for: 10m
        - stranded: [address_gone, unroutable]
    details: [verdicts, process]
  register: stalled

- name: Count the connections by verdict
  linuxnet.sockets.socket_diag_info:
    group_by: stuck
    limit: 0
  register: verdicts

- name: Find connections that bypass the VPN
  linuxnet.sockets.socket_diag_info:
    match:
      user: 1000-60000
      not:
        any:
          - local: interface:wg0
          - remote: [127.0.0.0/8, "::1", 10.0.0.0/8]
  register: bypassing

- name: Run the equivalent of `ss 'dport = :443 or sport = :443'` in every network namespace
  linuxnet.sockets.socket_diag_info:
    match:
      expression: "dport = :443 or sport = :443"
    namespaces: [all]
  register: https
"""

RETURN = r"""
sockets:
  description:
    - One record for each matching socket, at most O(limit). The order is by namespace, protocol,
      local address and remote address.
    - Every record has all keys. A value is null when the kernel does not report it, when this user
      may not see it, or when it was not requested.
  returned: success
  type: list
  elements: dict
  sample:
    - protocol: tcp
      family: inet
      mapped: false
      state: established
      local: 192.0.2.10
      local_port: 5432
      remote: 198.51.100.7
      remote_port: 51844
      device: null
      uid: 104
      user: postgres
      inode: 48213
      cookie: "3e9"
      mark: 0
      cgroup: /system.slice/postgresql.service
      timer: "on"
      timer_ms: 4120
      retransmits: 6
      send_queue: 18432
      recv_queue: 0
      idle_ms: 93500
      namespace: current
      processes:
        - pid: 912
          comm: postgres
          unit: postgresql.service
      stuck:
        - verdict: retransmitting
          for_ms: 90410
          evidence:
            send_queue_bytes: 18432
            unacknowledged_segments: 9
            retransmits: 6
            backoff: 6
            rto_ms: 13056
            next_try_ms: 4120
            last_received_ms: 93500
            last_ack_ms: 93500
            timeouts_ms: 90206
      stranded: []
      superseded: false
      congestion: cubic
      congestion_info: null
      tos: 0
      tclass: null
      class_id: 0
      shutdown: none
      ulp: null
      v6only: null
      options: [is_icsk, mc_loop, mc_all]
      memory: null
      tcp_info:
        state: 1
        ca_state: 4
        unacked: 9
        last_data_recv: 93500
      mptcp_info: null
      ulp_info: null
  contains:
    protocol:
      description: V(tcp), V(udp), V(udplite), V(raw) or V(mptcp).
      type: str
    family:
      description: V(inet) or V(inet6).
      type: str
    mapped:
      description: Whether this is an IPv6 socket that carries IPv4. Its addresses are then shown as
        IPv4 addresses.
      type: bool
    state:
      description: The state, with the name that C(ss) uses to select it.
      type: str
    local:
      description: Local address.
      type: str
    local_port:
      description: Local port. For a raw socket, the number of the IP protocol that it receives.
      type: int
    remote:
      description: Remote address. V(0.0.0.0) or V(::) if there is none.
      type: str
    remote_port:
      description: Remote port. V(0) if there is none.
      type: int
    device:
      description: Interface that the socket is bound to.
      type: str
    uid:
      description: ID of the user that created the socket.
      type: int
    user:
      description: Name of that user on the host.
      type: str
    inode:
      description: Inode of the socket. V(0) if no process holds it.
      type: int
    cookie:
      description: Unique identifier of the socket in lower-case hexadecimal, as C(ss) shows it
        after C(sk:).
      type: str
    mark:
      description: Mark of the socket. The kernel reports it only to users with C(CAP_NET_ADMIN).
      type: int
    cgroup:
      description: Path of the cgroup v2 in which the socket was created.
      type: str
    timer:
      description: The active timer. V(on) is the retransmission timer. The others are
        V(keepalive), V(timewait) and V(persist).
      type: str
    timer_ms:
      description: Milliseconds until the timer expires.
      type: int
    retransmits:
      description: How often the timer has expired without an answer from the peer.
      type: int
    send_queue:
      description: Bytes that were not sent or not acknowledged. For a listening socket, the maximum
        number of connections that can wait to be accepted.
      type: int
    recv_queue:
      description: Bytes that the application has not read. For a listening socket, the number of
        connections that wait to be accepted.
      type: int
    idle_ms:
      description:
        - Milliseconds since data was last transferred in either direction. While sent data is
          unacknowledged, milliseconds since data was last received.
      type: int
    namespace:
      description: The network namespace, as named in O(namespaces).
      type: str
    processes:
      description: The processes that hold the socket. Requires O(details=process).
      type: list
      elements: dict
      contains:
        pid:
          description: Process ID.
          type: int
        comm:
          description: Command name.
          type: str
        unit:
          description: The systemd unit of the process.
          type: str
    stuck:
      description:
        - Why the connection makes no progress. The list is empty if it makes progress. Requires
          O(details=verdicts), or a verdict in O(match).
      type: list
      elements: dict
      contains:
        verdict:
          description: V(zero_window), V(retransmitting), V(silent), V(close_wait), V(fin_wait),
            V(syn_sent) or V(orphaned).
          type: str
        for_ms:
          description: How many milliseconds the verdict has held at least, as proven by the
            kernel's clocks.
          type: int
        evidence:
          description: The values from the kernel that prove the verdict. The unit is part of each
            name.
          type: dict
    stranded:
      description:
        - Why the network of the socket is gone. The list is empty if it is not. Requires
          O(details=verdicts), or a verdict in O(match).
      type: list
      elements: dict
      contains:
        verdict:
          description: V(address_gone), V(unroutable), V(no_carrier) or V(rerouted).
          type: str
        for_ms:
          description: Always null, because the kernel does not report since when.
          type: int
        evidence:
          description: What the kernel reports about the address, the route and the interfaces.
          type: dict
    superseded:
      description:
        - The connection that has replaced this one. This one has received nothing for at least 30
          seconds, while the same peer sent data on the other one. V(false) if there is none, or if
          the local port is not the port of a service. Requires O(details=verdicts), or the verdict
          in O(match).
      type: raw
      contains:
        silent_ms:
          description: Milliseconds since this connection received anything.
          type: int
        by:
          description: The C(remote_port) and C(cookie) of the other connection.
            C(last_received_ms) is the number of milliseconds since it received data.
          type: dict
    congestion:
      description: Name of the congestion control algorithm.
      type: str
    congestion_info:
      description: Values that the algorithm reports, if any. Requires O(details=info).
      type: dict
    tos:
      description: IPv4 type of service.
      type: int
    tclass:
      description: IPv6 traffic class.
      type: int
    class_id:
      description: Traffic control class ID.
      type: int
    shutdown:
      description: The directions that are shut down, V(none), V(receive), V(send) or V(both).
      type: str
    ulp:
      description: Upper layer protocol, such as V(tls) or V(mptcp).
      type: str
    v6only:
      description: Whether an IPv6 socket accepts only IPv6.
      type: bool
    options:
      description: The socket options that are set, with the names that the kernel uses.
      type: list
      elements: str
    memory:
      description: Memory use in bytes, and counters, with the names of C(SK_MEMINFO). Requires
        O(details=memory).
      type: dict
    tcp_info:
      description:
        - The fields of C(struct tcp_info) that this kernel reports, with the names of the kernel
          without their prefix, in the units of the kernel. Requires O(details=info).
      type: dict
    mptcp_info:
      description: The fields of C(struct mptcp_info), for MPTCP sockets. Requires O(details=info).
      type: dict
    ulp_info:
      description:
        - What TLS or MPTCP reports, with the names of the kernel. Requires O(details=info).
        - For an MPTCP subflow, C(token_loc) is the C(token) in RV(sockets[].mptcp_info) of its
          connection.
      type: dict
matched:
  description: The number of sockets that matched.
  returned: success
  type: int
  sample: 1
truncated:
  description: Whether RV(sockets) was cut at O(limit).
  returned: success
  type: bool
  sample: false
summary:
  description:
    - Counts of all matching sockets by the values of some keys. Unknown values are counted as
      V(unknown).
    - O(group_by) adds counts under the name of its key.
  returned: success
  type: dict
  sample:
    state:
      established: 1
    protocol:
      tcp: 1
    namespace:
      current: 1
    remote:
      198.51.100.7: 1
    other: 0
  contains:
    state:
      description: Counts by state.
      type: dict
    protocol:
      description: Counts by protocol.
      type: dict
    namespace:
      description: Counts by network namespace.
      type: dict
    other:
      description:
        - The number of sockets that have none of the 1000 most frequent values of O(group_by).
          Present only with O(group_by).
      type: int
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

from ansible_collections.linuxnet.sockets.plugins.module_utils._core.api.find_sockets import find
from ansible_collections.linuxnet.sockets.plugins.module_utils._module.arguments import (
    argument_spec,
)
from ansible_collections.linuxnet.sockets.plugins.module_utils._module.run import run_module


def main() -> None:
    run_module(argument_spec("find"), find)


if __name__ == "__main__":
    main()
