# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  protect:
    description:
      - What is never destroyed, even where O(match) selects it. Every rule holds unless it is set
        to V(false) here.
      - Where it is not known whether a rule covers a socket, it does.
      - What was protected comes back in RV(protected), with the rule.
      - The selectors in the JSON files of C(/etc/linuxnet-sockets/protect.d) on the target are
        obeyed too. A file there is one selector, a list of selectors, or an object with a list
        under C(selectors). Where one cannot be read, nothing is destroyed.
    type: dict
    suboptions:
      control_connection:
        description:
          - Spare the connection that this task came by, which is the one of C(SSH_CONNECTION), the
            sockets of every process above the module, and Salt's ports.
        type: bool
        default: true
      ssh_sessions:
        description:
          - Spare every socket of sshd and of its sessions, forwarded connections too.
          - A socket whose owner cannot be read is protected as well.
        type: bool
        default: true
      loopback:
        description:
          - Spare sockets with an end on the loopback network, and those whose two ends are both
            addresses of the target.
        type: bool
        default: true
      listeners:
        description:
          - Spare listening sockets. A daemon may spin on one that was destroyed.
        type: bool
        default: true
      unconnected:
        description:
          - Spare UDP sockets without a remote address.
        type: bool
        default: true
      kernel:
        description:
          - Spare sockets of the kernel's own, which no process holds, such as those of NFS, iSCSI,
            NVMe over TCP and VXLAN.
        type: bool
        default: true
      selectors:
        description:
          - Spare what any of these selectors matches. They are written like O(match), without its
            defaults. A selector here covers every protocol and state that it does not rule out.
        type: list
        elements: dict
        default: []
  max_sockets:
    description:
      - Destroy nothing if more sockets than this would be destroyed. The plan comes back instead,
        and the task fails.
      - A number, or a share such as V(25%) of the unprotected sockets of the selected protocols in
        the selected namespaces.
      - There is no limit where this is not given.
    type: str
"""
