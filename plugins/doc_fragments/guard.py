# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  protect:
    description:
      - The guard. It protects sockets from being destroyed, even when O(match) selects them. Every
        rule is on unless you set it to V(false).
      - When it is unknown whether a rule covers a socket, the socket is protected.
      - RV(protected) lists the protected sockets and the rule that protected each of them.
      - JSON files in C(/etc/linuxnet-sockets/protect.d) on the host add selectors. Each file
        contains one selector, a list of selectors, or an object with a list under C(selectors). If
        a file is invalid or cannot be read, or if users other than root may change it or a
        directory above it, nothing is destroyed.
    type: dict
    suboptions:
      control_connection:
        description:
          - Protect the connection that this task uses. These are the connection in
            C(SSH_CONNECTION), the sockets of all ancestor processes of the module, and the
            connections of a Salt minion or master.
          - A connection counts as Salt's if it uses a Salt port and belongs to root or to the user
            C(salt).
        type: bool
        default: true
      ssh_sessions:
        description:
          - Protect the sockets on which an SSH server listens, and the connections that it
            accepted.
          - A process is an SSH server if its program is that of the system and the process is that
            of root, or was forked by such a process. The name of a process proves nothing.
          - This rule also protects a socket of root whose owner cannot be read.
        type: bool
        default: true
      ssh_forwards:
        description:
          - Protect all other sockets of SSH servers. These are the ones that a session opens for
            its user, such as the far ends of forwarded ports.
          - This rule also protects a user's socket whose owner cannot be read.
          - In a policy, this rule is off by default.
        type: bool
        default: true
      loopback:
        description:
          - Protect sockets with a loopback address on either end, and sockets with addresses of the
            host on both ends.
        type: bool
        default: true
      listeners:
        description:
          - Protect listening sockets, and sockets that are bound but not yet connected. A daemon
            may loop without pause when its listening socket is destroyed.
        type: bool
        default: true
      unconnected:
        description:
          - Protect UDP, UDP-Lite and raw sockets without a remote address.
        type: bool
        default: true
      shared_port:
        description:
          - Protect connected UDP and UDP-Lite sockets whose local port another socket shares, such
            as the socket of one client beside the listener of a DTLS or QUIC server.
          - Destroying such a socket removes only its remote. It stays bound to the port, and then
            receives datagrams that are meant for the other sockets.
        type: bool
        default: true
      kernel:
        description:
          - Protect sockets that the kernel itself uses, such as those of NFS, iSCSI, NVMe over TCP
            and VXLAN. They belong to root, and no process holds them.
        type: bool
        default: true
      selectors:
        description:
          - Protect every socket that one of these selectors matches. The syntax is that of
            O(match), without its defaults. A selector here covers all protocols and states that it
            does not exclude.
        type: list
        elements: raw
        default: []
  max_sockets:
    description:
      - The maximum number of sockets to destroy. If more sockets would be destroyed, the module
        destroys none, returns the plan, and fails.
      - The value is a number, or a percentage such as V(25%). A percentage refers to the
        unprotected sockets of the selected protocols in the selected namespaces.
      - By default, there is no maximum.
    type: str
"""
