# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  namespaces:
    description:
      - The network namespaces to look at, each once, however many names lead to it.
      - V(current) is the one that the module runs in. A name is one that C(ip netns list) shows, or
        the absolute path of a mounted namespace.
        V(pid:N) is the one that process C(N) is in. V(all) is every network namespace of the host,
        those of containers too.
      - Another than the current one takes C(CAP_SYS_ADMIN).
    type: list
    elements: str
    default:
      - current
"""
