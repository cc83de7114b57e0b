# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: policy_check
short_description: What is wrong with a policy, and what it needs
version_added: 0.1.0
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
- name: Stop before anything is sent, and tell all that is wrong
  ansible.builtin.assert:
    that: checked.valid
    fail_msg: "{{ checked.errors | join('\n') }}"
  vars:
    checked: "{{ policy | linuxnet.sockets.policy_check }}"
    policy: "{{ lookup('ansible.builtin.file', 'vpn-policy.yml') | from_yaml }}"
"""

RETURN = r"""
_value:
  description: What was found out. Where the policy is not valid, all but C(valid), C(errors) and
    C(warnings) are null, empty or false.
  type: dict
  contains:
    valid:
      description: Whether it is a policy, as far as that can be told away from its hosts.
      type: bool
    errors:
      description: All that is wrong with it, each with the path, the value, and what is allowed.
      type: list
      elements: str
    warnings:
      description: What is not wrong, but hardly meant, and the remedy.
      type: list
      elements: str
    digest:
      description: The sha256 of its canonical JSON, as C(socket-agent status) shows it.
      type: str
    mode:
      description: V(enforce) or V(report).
      type: str
    namespaces:
      description: The network namespaces in which it holds.
      type: list
      elements: str
    needs:
      description: The kinds of facts that it depends on, out of C(links), C(addresses), C(routes)
        and C(rules).
      type: list
      elements: str
    reads_owners:
      description: Whether the guard or a rule asks who holds a socket.
      type: bool
    longest_hold_s:
      description: The longest hold of its rules, in seconds.
      type: float
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
