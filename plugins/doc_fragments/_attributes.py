# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Attributes of the modules. Each module documents its own level of support."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying the
      target.
  diff_mode:
    description: Returns details on what has changed, or would change in C(check_mode), when in diff
      mode.
  idempotent:
    description:
      - When run twice in a row outside of check mode with the same arguments, the second invocation
        indicates no change.
  platform:
    description: Operating systems that the module supports.
    support: full
    platforms: Linux
"""

    FACTS = r"""
options: {}
attributes:
  facts:
    description: Returns an C(ansible_facts) dictionary that updates the facts of the host.
"""

    INFO = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - This module changes nothing.
  diff_mode:
    support: N/A
    details:
      - This module changes nothing.
  idempotent:
    support: full
    details:
      - This module changes nothing.
"""

    ACTIONGROUP_SOCKETS = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/linuxnet.sockets.sockets) in C(module_defaults) to set defaults for
      this module.
    support: full
    membership:
      - linuxnet.sockets.all
      - linuxnet.sockets.sockets
"""
