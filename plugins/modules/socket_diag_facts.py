#!/usr/bin/python

# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: socket_diag_facts
short_description: Facts of a host's sockets, and of what its kernel can do to them
version_added: 0.1.0
description:
  - Returns whether the kernel can list and destroy the sockets of each protocol, how many sockets
    there are in which state, how many are stuck, stranded or superseded, what listens, and which
    remote addresses have the most connections.
  - The facts stay small however many sockets there are, so they may be cached.
  - For single sockets there is M(linuxnet.sockets.socket_diag_info).
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
      - The most entries in each list of the facts, at most 200. Counts are always whole.
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
- name: Gather facts of sockets
  linuxnet.sockets.socket_diag_facts:

- name: Stop early where the kernel or the user cannot destroy TCP sockets
  ansible.builtin.assert:
    that:
      - ansible_facts.socket_diag.support.tcp.verdict == 'supported'
      - ansible_facts.socket_diag.may_destroy
    fail_msg: "{{ ansible_facts.socket_diag.support.tcp.how }}"

- name: Hosts with many connections that an application forgets to close
  ansible.builtin.group_by:
    key: "leaking_{{ ansible_facts.socket_diag.verdicts.stuck.close_wait > 100 }}"

- name: Count the containers' sockets too
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
      description: What the kernel says of its sockets.
      type: dict
      contains:
        kernel:
          description: Release of the kernel.
          type: str
          sample: 6.12.48
        support:
          description: What can be done to the sockets of each protocol.
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
              description: Of TCP. The keys V(udp), V(udplite), V(raw) and V(mptcp) are alike.
              type: dict
              contains:
                verdict:
                  description:
                    - V(supported), they can be destroyed.
                    - V(built_without), the kernel was built without C(CONFIG_INET_DIAG_DESTROY).
                    - V(no_destroy_handler), no kernel like this one can destroy sockets of the
                      protocol.
                    - V(no_cookie_check), the kernel can destroy sockets of the protocol, but not
                      be told which one is meant, so M(linuxnet.sockets.socket_destroy) leaves them
                      alone. Raw sockets, where there is a handler.
                    - V(handler_missing), they cannot be listed either. A kernel module would bring
                      the handler.
                    - V(protocol_missing), nor can they, and that module is at work already. This
                      kernel has no such protocol.
                    - V(not_permitted), the kernel can, but not for this user.
                  type: str
                how:
                  description: The kernel's answers that say so.
                  type: str
                module:
                  description: The kernel module to load, where one is missing.
                  type: str
                module_available:
                  description: Whether that module is among those of this kernel. Null where nothing
                    is missing, and where it is not known, as in a container.
                  type: bool
                reason:
                  description:
                    - Why it is V(not_permitted), else null.
                    - V(no_capability), the module ran without C(CAP_NET_ADMIN), as it does without
                      C(become).
                    - V(foreign_user_namespace), it ran as root of a user namespace that does not
                      own the network namespace, as in a rootless container in the host's network.
                  type: str
        kernel_config:
          description: What the kernel was built with, where its configuration can be read.
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
              description: The file that was read. Null where there is none.
              type: str
            options:
              description: V(y), built in, V(m), a module, V(n), left out, or null, not known.
              type: dict
        may_destroy:
          description:
            - Whether the user that the module ran as may destroy sockets in every namespace that
              was looked at, which takes C(CAP_NET_ADMIN).
          type: bool
          sample: true
        namespaces:
          description: The network namespaces that were looked at.
          type: list
          elements: dict
          sample:
            - name: current
              may_destroy: true
              sockets: 41
          contains:
            name:
              description: As O(namespaces) calls it.
              type: str
            may_destroy:
              description: Whether this user may destroy sockets in it.
              type: bool
            sockets:
              description: How many sockets are in it.
              type: int
        namespaces_total:
          description: How many were looked at.
          type: int
          sample: 1
        totals:
          description: How many sockets of each protocol are in each state. What there is none of is
            left out.
          type: dict
          sample:
            tcp:
              established: 31
              listening: 6
            udp:
              closed: 4
        verdicts:
          description: How many sockets have each verdict. One socket may have several.
          type: dict
          contains:
            stuck:
              description: Connections that make no progress, for the default time of each verdict.
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
              description: Sockets with a peer whose network is gone.
              type: dict
              sample:
                address_gone: 1
                unroutable: 0
                no_carrier: 0
                rerouted: 0
            superseded:
              description:
                - Connections to a service that have been silent for 30 seconds, while their peer
                  was heard of on another one.
              type: int
              sample: 0
        listeners:
          description:
            - Listening sockets, and UDP and UDP-Lite sockets without a remote address, in the order
              of namespace, protocol and local address.
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
              description: As O(namespaces) calls it.
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
              description: Number of the user that made the socket.
              type: int
            user:
              description: Name of that user.
              type: str
            processes:
              description: Commands of the processes that hold it, at most five. Null where none can
                be seen.
              type: list
              elements: str
        listeners_total:
          description: How many there are.
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
              description: How many sockets have it.
              type: int
        peers_total:
          description: How many different remote addresses there are.
          type: int
          sample: 9
"""

from ansible_collections.linuxnet.sockets.plugins.module_utils._module import arguments
from ansible_collections.linuxnet.sockets.plugins.module_utils._module.facts import gather
from ansible_collections.linuxnet.sockets.plugins.module_utils._module.run import run_module


def main() -> None:
    argument_spec = {
        **arguments.namespaces(),
        **arguments.limit(default=50),
    }
    run_module(argument_spec, gather)


if __name__ == "__main__":
    main()
