# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  limit:
    description:
      - The maximum number of entries in each returned list. Counts always cover all sockets.
      - RV(truncated) is V(true) when a list was cut.
      - V(0) returns only counts.
    type: int
    default: 1000
"""
