# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: unknown_variables
short_description: Find mistyped variables of a playbook
version_added: 0.1.0
description:
  - Compares the names of given variables with the names that a playbook knows. Returns a sentence
    for each unknown name, with the known name that is most similar.
  - Ansible ignores variables that it does not know. A mistyped variable of a playbook that
    destroys connections would protect nothing.
author:
  - linuxnet.sockets contributors (!UNKNOWN)
positional: known
options:
  _input:
    description: The names of the given variables, such as those that the lookup
      P(ansible.builtin.varnames#lookup) finds.
    type: list
    elements: str
    required: true
  known:
    description: The names that the playbook knows.
    type: list
    elements: str
    required: true
  allowed:
    description: Further names that are not errors.
    type: list
    elements: str
    default: []
  other:
    description: The variable that lists the names in O(allowed). The sentences refer to it.
    type: str
    default: ""
seealso:
  - plugin: ansible.builtin.varnames
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Reject mistyped variables
  ansible.builtin.assert:
    that: unknown == []
    fail_msg: "{{ unknown | join(' ') }}"
  vars:
    unknown: "{{ query('ansible.builtin.varnames', '^site_')
      | linuxnet.sockets.unknown_variables(['site_name', 'site_address']) }}"
# site_adress: unknown variable; did you mean site_address?
"""

RETURN = r"""
_value:
  description: A sentence for each unknown name, in alphabetical order. It names the most similar
    known name or, if none is similar, all known names.
  type: list
  elements: str
"""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from itertools import takewhile


def unknown_variables(
    given: Iterable[str], known: Iterable[str], allowed: Iterable[str] = (), other: str = ""
) -> list[str]:
    names = sorted(known)
    unknown = sorted(set(given) - set(names) - set(allowed))
    return [_sentence(name, names, other) for name in unknown]


def _sentence(name: str, known: list[str], other: str) -> str:
    # The prefix that all share would make every name similar.
    shared = _shared_length([name, *known])
    ends = {each[shared:]: each for each in known}
    close = get_close_matches(name[shared:].lower(), list(ends), n=1)
    hint = f"did you mean {ends[close[0]]}?" if close else f"known variables: {', '.join(known)}."
    text = f"{name}: unknown variable; {hint}"
    if other:
        text += f" If it belongs to something else, list it in {other}."
    return text


def _shared_length(names: list[str]) -> int:
    """The length of the longest prefix that all names share."""
    first, last = min(names), max(names)
    same = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return len(list(same))


class FilterModule:
    """Jinja2 filters of the collection."""

    def filters(self) -> dict[str, Callable[..., object]]:
        return {"unknown_variables": unknown_variables}
