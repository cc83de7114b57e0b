# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  limit:
    description:
      - The most entries in each list that comes back. Counts are always whole.
      - RV(truncated) says whether a list was cut.
      - V(0) returns counts alone.
    type: int
    default: 1000
"""
