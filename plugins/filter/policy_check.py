# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: policy_check
short_description: What is wrong with a policy, and what it needs
version_added: 0.3.0
description:
  - Reads a policy as C(socket-agent check) and M(linuxnet.sockets.socket_policy) do, and tells
    everything that is wrong with it at once, each with its path, its value and the remedy.
  - Names of users and services are those of the hosts that the policy is for, so they are taken as
    they are here, and looked up there.
author:
  - linuxnet.sockets contributors (!UNKNOWN)
options:
  _input:
    description: The policy, as a mapping.
    type: raw
    required: true
seealso:
  - module: linuxnet.sockets.socket_policy
"""

EXAMPLES = r"""
- name: Stop before anything is sent
  ansible.builtin.assert:
    that: checked.valid
    fail_msg: "{{ checked.errors | join('\n') }}"
  vars:
    checked: "{{ policy | linuxnet.sockets.policy_check }}"
"""

RETURN = r"""
_value:
  description:
    - C(valid), and C(errors) and C(warnings), sentences.
    - Of a valid policy C(digest), C(mode), C(namespaces), C(needs) (the kinds of facts that it
      depends on), C(reads_owners) (whether it asks who holds sockets) and C(longest_hold_s).
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.linuxnet.sockets.plugins.plugin_utils import _policy


def policy_check(value: Any) -> dict[str, Any]:
    return _policy.told(_policy.check(value))


class FilterModule:
    """Jinja2 filters of the collection."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"policy_check": policy_check}
