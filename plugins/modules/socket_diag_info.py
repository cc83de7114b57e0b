#!/usr/bin/python

# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: socket_diag_info
short_description: Find sockets, and say what the kernel knows of them
version_added: 0.1.0
description:
  - Finds the TCP, UDP, UDP-Lite, raw and MPTCP sockets that a selector means, in one or in all
    network namespaces of a host, and returns a record of each.
  - It asks the kernel itself, through C(NETLINK_SOCK_DIAG). The target needs nothing but Python.
  - It changes nothing. The same selector given to M(linuxnet.sockets.socket_destroy) means the same
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
      - What to tell of each socket beside what is always told.
      - V(info) fills RV(sockets[].tcp_info), RV(sockets[].congestion_info),
        RV(sockets[].mptcp_info) and RV(sockets[].ulp_info).
      - V(memory) fills RV(sockets[].memory).
      - V(process) fills RV(sockets[].processes). Processes of other users show only to root with
        C(CAP_SYS_PTRACE).
      - V(verdicts) fills RV(sockets[].stuck), RV(sockets[].stranded) and RV(sockets[].superseded).
        It asks for the routes of the sockets that are listed, each way once.
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
      - A key of the record. RV(summary) then also counts the sockets by its value.
      - With V(processes), by the commands that hold the socket.
      - With V(stuck) and V(stranded), by the verdicts upon it together, or V(none).
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
  - Linux 5.4 or later, with the diag module of each protocol that is looked at (C(tcp_diag),
    C(udp_diag), C(raw_diag), C(mptcp_diag)). The kernel loads it by itself where modules may be
    loaded.
  - Python 3.9 or later
seealso:
  - module: linuxnet.sockets.socket_destroy
  - module: linuxnet.sockets.socket_diag_facts
  - name: ss(8)
    description: The words for states, and the language of C(expression).
    link: https://man7.org/linux/man-pages/man8/ss.8.html
"""

EXAMPLES = r"""
- name: What listens, and which process
  linuxnet.sockets.socket_diag_info:
    match:
      protocol: [tcp, udp]
      state: [listening, closed]
    details: [process]
  register: listeners

- name: Who is connected to the database, counted by client
  linuxnet.sockets.socket_diag_info:
    match:
      local_port: 5432
    group_by: remote
    limit: 0
  register: clients

- name: Show the ten busiest clients
  ansible.builtin.debug:
    msg: "{{ (clients.summary.remote | dict2items | sort(attribute='value', reverse=true))[:10] }}"

- name: Connections that make no progress, why, and who holds them
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

- name: How many connections have which verdict
  linuxnet.sockets.socket_diag_info:
    group_by: stuck
    limit: 0
  register: verdicts

- name: What still leaves past the VPN
  linuxnet.sockets.socket_diag_info:
    match:
      user: 1000-60000
      not:
        any:
          - local: interface:wg0
          - remote: [127.0.0.0/8, "::1", 10.0.0.0/8]
  register: bypassing

- name: The same as `ss 'dport = :443 or sport = :443'`, in every network namespace of the host
  linuxnet.sockets.socket_diag_info:
    match:
      expression: "dport = :443 or sport = :443"
    namespaces: [all]
  register: https
"""

RETURN = r"""
sockets:
  description:
    - One record for each socket that matched, in the order of namespace, protocol, local and remote
      address, at most O(limit).
    - Every key is always there. It is null where the kernel does not say, where it does not say to
      this user, or where it was not asked for.
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
      description: An IPv6 socket that carries IPv4. Its addresses are then written as IPv4
        addresses.
      type: bool
    state:
      description: The state by the name that C(ss) selects it by.
      type: str
    local:
      description: Local address.
      type: str
    local_port:
      description: Local port. Of a raw socket, the number of the protocol that it receives.
      type: int
    remote:
      description: Remote address. V(0.0.0.0) or V(::) where there is none.
      type: str
    remote_port:
      description: Remote port. V(0) where there is none.
      type: int
    device:
      description: Interface that the socket is bound to.
      type: str
    uid:
      description: Number of the user that made the socket.
      type: int
    user:
      description: Name of that user on the target.
      type: str
    inode:
      description: Inode of the socket. V(0) where no process has it.
      type: int
    cookie:
      description: What names this one socket, in lower-case hexadecimal, as C(ss) prints behind
        C(sk:).
      type: str
    mark:
      description: The socket's mark. The kernel tells it to users with C(CAP_NET_ADMIN) only.
      type: int
    cgroup:
      description: Path of the cgroup v2 that the socket was made in.
      type: str
    timer:
      description: Which timer runs, V(on) for retransmission, V(keepalive), V(timewait) or
        V(persist).
      type: str
    timer_ms:
      description: Milliseconds until that timer fires.
      type: int
    retransmits:
      description: How often that timer has fired without an answer.
      type: int
    send_queue:
      description: Bytes not sent or not acknowledged. Of a listener, the most connections that may
        wait.
      type: int
    recv_queue:
      description: Bytes that the application has not read. Of a listener, the connections that
        wait.
      type: int
    idle_ms:
      description:
        - Milliseconds without data in either direction. While data is unacknowledged, since data
          was received.
      type: int
    namespace:
      description: The network namespace, as O(namespaces) calls it.
      type: str
    processes:
      description: The processes that hold the socket, with O(details=process).
      type: list
      elements: dict
      contains:
        pid:
          description: Number of the process.
          type: int
        comm:
          description: Its command.
          type: str
        unit:
          description: The systemd unit that it runs in.
          type: str
    stuck:
      description:
        - Why the connection makes no progress, with O(details=verdicts) or where O(match) asks for
          verdicts. Empty where it makes some.
      type: list
      elements: dict
      contains:
        verdict:
          description: V(zero_window), V(retransmitting), V(silent), V(close_wait), V(fin_wait),
            V(syn_sent) or V(orphaned).
          type: str
        for_ms:
          description: For how many milliseconds it has held at the least, as the kernel's clocks
            prove.
          type: int
        evidence:
          description: The kernel's numbers that it rests on, with their unit in the name.
          type: dict
    stranded:
      description:
        - Why the network under the connection is gone, with O(details=verdicts) or where O(match)
          asks for it. Empty where it is there.
      type: list
      elements: dict
      contains:
        verdict:
          description: V(address_gone), V(unroutable), V(no_carrier) or V(rerouted).
          type: str
        for_ms:
          description: Always null. The kernel does not tell since when.
          type: int
        evidence:
          description: What the kernel says of address, route and interfaces.
          type: dict
    superseded:
      description:
        - The connection by which the peer goes on instead of this one, which has been silent for 30
          seconds at the least, with O(details=verdicts) or where O(match) asks for it. V(false)
          where there is none, or where the local port is not that of a service.
      type: raw
      contains:
        silent_ms:
          description: For how many milliseconds nothing was received.
          type: int
        by:
          description: The C(remote_port) and C(cookie) of the other connection, and C(heard_ms),
            how many milliseconds ago it received data.
          type: dict
    congestion:
      description: Name of the congestion control algorithm.
      type: str
    congestion_info:
      description: That algorithm's own numbers, where it has any, with O(details=info).
      type: dict
    tos:
      description: Type of service of IPv4.
      type: int
    tclass:
      description: Traffic class of IPv6.
      type: int
    class_id:
      description: Class of traffic control.
      type: int
    shutdown:
      description: Which directions are shut down, V(none), V(receive), V(send) or V(both).
      type: str
    ulp:
      description: Upper layer protocol, such as V(tls) or V(mptcp).
      type: str
    v6only:
      description: Whether an IPv6 socket is for IPv6 alone.
      type: bool
    options:
      description: Socket options that are set, by the kernel's names.
      type: list
      elements: str
    memory:
      description: Bytes of memory and counts by the kernel's names (C(SK_MEMINFO)), with
        O(details=memory).
      type: dict
    tcp_info:
      description:
        - The kernel's C(struct tcp_info) by its own names without their prefix, as much as this
          kernel sends, with O(details=info). The units are the kernel's.
      type: dict
    mptcp_info:
      description: The kernel's C(struct mptcp_info) of an MPTCP socket, with O(details=info).
      type: dict
    ulp_info:
      description:
        - What TLS or MPTCP tells of itself, by the kernel's names, with O(details=info).
        - Of an MPTCP subflow C(token_loc) is the RV(sockets[].mptcp_info) C(token) of its
          connection.
      type: dict
matched:
  description: How many sockets matched.
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
    - How many of all that matched have which value. A value that is not known counts as V(unknown).
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
        - With O(group_by), which adds a key of that name, the sockets that have none of its 1000
          most frequent values.
      type: int
"""

from ansible_collections.linuxnet.sockets.plugins.module_utils._module import arguments
from ansible_collections.linuxnet.sockets.plugins.module_utils._module.info import look
from ansible_collections.linuxnet.sockets.plugins.module_utils._module.run import run_module


def main() -> None:
    argument_spec = {
        **arguments.selector(required=False),
        **arguments.namespaces(),
        **arguments.details(),
        **arguments.group_by(),
        **arguments.limit(),
    }
    run_module(argument_spec, look)


if __name__ == "__main__":
    main()
