# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: printable
short_description: Escape characters that a terminal would obey
version_added: 0.1.0
description:
  - Replaces control characters, marks that change the direction of text, characters without a glyph
    and invalid bytes with escapes such as C(\x1b) and C(\u202e). Newlines stay.
  - A user can give a process any name, so text from hosts can contain such characters. The
    results of the modules and the other filters of this collection are already printable. Use this
    filter for messages of other modules.
author:
  - linuxnet.sockets contributors (!UNKNOWN)
options:
  _input:
    description: The text. Other values are converted to text.
    type: raw
    required: true
seealso:
  - plugin: linuxnet.sockets.table
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Read the processes
  ansible.builtin.command:
    cmd: ps -eo pid,args
  register: processes
  changed_when: false

- name: Show them
  ansible.builtin.debug:
    msg: "{{ processes.stdout | linuxnet.sockets.printable }}"
"""

RETURN = r"""
_value:
  description: The text with escapes. Text that is printable stays as it is.
  type: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.linuxnet.sockets.plugins.plugin_utils._formatting import (
    printable_lines,
)


def printable(value: Any) -> str:
    return printable_lines(str(value))


class FilterModule:
    """Jinja2 filters of the collection."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"printable": printable}
