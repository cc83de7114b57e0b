# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  namespaces:
    description:
      - The network namespaces to query. A namespace that several names refer to is queried once.
      - V(current) is the namespace that the module runs in.
      - V(pid:N) is the namespace of the process with the ID C(N).
      - V(all) is every network namespace of the host, including those of containers. It finds those
        that a process or a thread is in, and those that a mount or an open descriptor keeps.
      - Any other value is a name that C(ip netns list) shows, or the absolute path of a mounted
        namespace.
      - Every namespace other than V(current) requires C(CAP_SYS_ADMIN).
    type: list
    elements: str
    default:
      - current
"""
