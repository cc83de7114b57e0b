#!/usr/bin/python

# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: socket_diag_facts
short_description: Gather facts about the sockets of a host and what its kernel can do with them
version_added: 0.1.0
description:
  - Reports for each protocol whether the kernel can list and destroy its sockets. Also counts
    sockets by state, and stuck, stranded and superseded connections. Lists the listening sockets,
    and the remote addresses with the most connections.
  - The size of the facts is bounded, so they are suitable for caching.
  - To get single sockets, use M(linuxnet.sockets.socket_diag_info).
author:
  - linuxnet.sockets contributors (!UNKNOWN)
extends_documentation_fragment:
  - linuxnet.sockets._attributes
  - linuxnet.sockets._attributes.info
  - linuxnet.sockets._attributes.facts
  - linuxnet.sockets._attributes.actiongroup_sockets
  - linuxnet.sockets.namespaces
attributes:
  facts:
    support: full
options:
  limit:
    description:
      - The maximum number of entries in each list of the facts, at most 200. Counts always cover
        all sockets.
    type: int
    default: 50
requirements:
  - Linux 5.4 or later
  - Python 3.9 or later
seealso:
  - module: linuxnet.sockets.socket_diag_info
  - module: linuxnet.sockets.socket_destroy
"""

EXAMPLES = r"""
- name: Gather facts about sockets
  linuxnet.sockets.socket_diag_facts:

- name: Fail early if the kernel or the user cannot destroy TCP sockets
  ansible.builtin.assert:
    that:
      - ansible_facts.socket_diag.support.tcp.verdict == 'supported'
      - ansible_facts.socket_diag.may_destroy
    fail_msg: "{{ ansible_facts.socket_diag.support.tcp.how }}"

- name: Group hosts where an application leaks many connections in CLOSE_WAIT
  ansible.builtin.group_by:
    key: "leaking_{{ ansible_facts.socket_diag.verdicts.stuck.close_wait > 100 }}"

- name: Include the sockets of containers
  linuxnet.sockets.socket_diag_facts:
    namespaces: [all]
"""

RETURN = r"""
ansible_facts:
  description: The facts, under one key.
  returned: success
  type: dict
  contains:
    socket_diag:
      description: Facts about sockets and about the kernel.
      type: dict
      contains:
        kernel:
          description: Release of the kernel.
          type: str
          sample: 6.12.48
        support:
          description: What the kernel can do with the sockets of each protocol.
          type: dict
          sample:
            tcp:
              verdict: supported
              how: destroying no socket is answered with ENOENT
              module: null
              module_available: null
              reason: null
            raw:
              verdict: handler_missing
              how: a dump ends with ENOENT
              module: raw_diag
              module_available: true
              reason: null
          contains:
            tcp:
              description: Support for TCP. The keys V(udp), V(udplite), V(raw) and V(mptcp) have
                the same structure.
              type: dict
              contains:
                verdict:
                  description:
                    - "V(supported): sockets of the protocol can be destroyed."
                    - "V(built_without): the kernel was built without C(CONFIG_INET_DIAG_DESTROY)."
                    - "V(no_destroy_handler): this kernel cannot destroy sockets of the protocol,
                      whatever its configuration."
                    - "V(no_cookie_check): the kernel can destroy sockets of the protocol, but does
                      not check the cookie. It could destroy another socket than the selected one.
                      M(linuxnet.sockets.socket_destroy) therefore skips these sockets. This applies
                      to raw sockets."
                    - "V(handler_missing): sockets of the protocol cannot be listed or destroyed. A
                      kernel module provides the missing handler."
                    - "V(protocol_missing): sockets of the protocol cannot be listed or destroyed,
                      although that kernel module is in use. This kernel does not have the
                      protocol."
                    - "V(not_permitted): the kernel can destroy sockets of the protocol, but not for
                      this user."
                  type: str
                how:
                  description: The answers of the kernel that led to the verdict.
                  type: str
                module:
                  description: The kernel module to load. Null if none is missing.
                  type: str
                module_available:
                  description: Whether the kernel has that module. Null if none is missing, or if it
                    is unknown, as in a container.
                  type: bool
                reason:
                  description:
                    - The reason for V(not_permitted). Null for other verdicts.
                    - "V(no_capability): the module ran without C(CAP_NET_ADMIN), for example
                      without C(become)."
                    - "V(foreign_user_namespace): the module ran as root of a user namespace that
                      does not own the network namespace. An example is a rootless container that
                      uses the network of the host."
                  type: str
        bpf:
          description: Whether the engine V(bpf) can destroy the sockets of each protocol.
          type: dict
          sample:
            tcp:
              verdict: not_permitted
              reason: no_capability
              how: "the kernel does not permit BPF programs: the caller lacks CAP_BPF and
                CAP_PERFMON, or CAP_SYS_ADMIN"
            raw:
              verdict: no_iterator
              reason: null
              how: the kernel has no iterator for sockets of the protocol
          contains:
            tcp:
              description: Support for TCP. The keys V(udp), V(udplite), V(raw) and V(mptcp) have
                the same structure.
              type: dict
              contains:
                verdict:
                  description:
                    - "V(supported): the program can be loaded."
                    - "V(no_iterator): the kernel cannot run such programs for the protocol."
                    - "V(no_btf): the kernel was built without C(CONFIG_DEBUG_INFO_BTF)."
                    - "V(btf_unreadable): the types of the kernel cannot be read."
                    - "V(kernel_too_old): the kernel is older than Linux 6.5."
                    - "V(no_system_call): the kernel or the architecture has no system call C(bpf)."
                    - "V(not_permitted): this user may not load the program."
                    - "V(rejected): the kernel rejected the program."
                  type: str
                reason:
                  description:
                    - The reason for V(not_permitted). Null for other verdicts.
                    - "V(no_capability): the module ran without C(CAP_BPF) and C(CAP_PERFMON), or
                      C(CAP_SYS_ADMIN)."
                    - "V(foreign_user_namespace): the module ran as root of a user namespace."
                    - "V(lockdown): the kernel is locked down for confidentiality."
                    - "V(security_policy): a seccomp filter or a security module forbids it."
                  type: str
                how:
                  description: The verdict and the reason as text.
                  type: str
        kernel_config:
          description: The build configuration of the kernel, if it can be read.
          type: dict
          sample:
            source: /boot/config-6.12.48
            options:
              CONFIG_INET_DIAG: m
              CONFIG_INET_TCP_DIAG: m
              CONFIG_INET_UDP_DIAG: m
              CONFIG_INET_RAW_DIAG: m
              CONFIG_INET_MPTCP_DIAG: m
              CONFIG_INET_DIAG_DESTROY: y
          contains:
            source:
              description: The file that contains the configuration. Null if there is none.
              type: str
            options:
              description: V(y) if built in, V(m) if built as a module, V(n) if not built, or null
                if unknown.
              type: dict
        may_destroy:
          description:
            - Whether the user that runs the module may destroy sockets in all queried namespaces.
              This requires C(CAP_NET_ADMIN).
          type: bool
          sample: true
        namespaces:
          description: The network namespaces that were queried.
          type: list
          elements: dict
          sample:
            - name: current
              may_destroy: true
              sockets: 41
          contains:
            name:
              description: The name, as in O(namespaces).
              type: str
            may_destroy:
              description: Whether this user may destroy sockets in the namespace.
              type: bool
            sockets:
              description: The number of sockets in the namespace.
              type: int
        namespaces_total:
          description: The number of queried namespaces.
          type: int
          sample: 1
        totals:
          description: The number of sockets by protocol and state. States without sockets are
            omitted.
          type: dict
          sample:
            tcp:
              established: 31
              listening: 6
            udp:
              closed: 4
        verdicts:
          description: The number of sockets by verdict. A socket can have several verdicts.
          type: dict
          contains:
            stuck:
              description: Connections that make no progress, with the default time of each verdict.
              type: dict
              sample:
                zero_window: 0
                retransmitting: 2
                silent: 14
                close_wait: 0
                fin_wait: 0
                syn_sent: 0
                orphaned: 0
            stranded:
              description: Sockets with a remote address whose network is gone.
              type: dict
              sample:
                address_gone: 1
                unroutable: 0
                no_carrier: 0
                rerouted: 0
            superseded:
              description:
                - Connections to a service that have received nothing for 30 seconds, while the same
                  peer sent data on another connection.
              type: int
              sample: 0
        listeners:
          description:
            - Listening sockets, and UDP and UDP-Lite sockets without a remote address. The order is
              by namespace, protocol and local address.
          type: list
          elements: dict
          sample:
            - namespace: current
              protocol: tcp
              local: 0.0.0.0
              local_port: 22
              uid: 0
              user: root
              processes: [sshd]
          contains:
            namespace:
              description: The network namespace, as named in O(namespaces).
              type: str
            protocol:
              description: V(tcp), V(mptcp), V(udp) or V(udplite).
              type: str
            local:
              description: Local address.
              type: str
            local_port:
              description: Local port.
              type: int
            uid:
              description: ID of the user that created the socket.
              type: int
            user:
              description: Name of that user.
              type: str
            processes:
              description: Command names of the processes that hold the socket, at most five. Null
                if none of them can be read.
              type: list
              elements: str
        listeners_total:
          description: The number of all these sockets.
          type: int
          sample: 10
        peers:
          description: The remote addresses with the most sockets, at most 20.
          type: list
          elements: dict
          sample:
            - remote: 198.51.100.7
              sockets: 12
          contains:
            remote:
              description: Remote address.
              type: str
            sockets:
              description: The number of sockets with this remote address.
              type: int
        peers_total:
          description: The number of different remote addresses.
          type: int
          sample: 9
"""

from ansible_collections.linuxnet.sockets.plugins.module_utils._core.api.host_facts import facts
from ansible_collections.linuxnet.sockets.plugins.module_utils._module.arguments import (
    argument_spec,
)
from ansible_collections.linuxnet.sockets.plugins.module_utils._module.run import run_module


def main() -> None:
    run_module(argument_spec("facts"), facts, fact="socket_diag")


if __name__ == "__main__":
    main()
