# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: policy_check
short_description: Validate a policy on the controller
version_added: 0.1.0
description:
  - Validates a policy with the rules of C(socket-agent check) and
    M(linuxnet.sockets.socket_policy). It reports all errors at once, each with its path, its value
    and the allowed values.
  - It does not check the names of users and services, which each host resolves.
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
- name: Stop before the deployment if the policy is invalid
  ansible.builtin.assert:
    that: checked.valid
    fail_msg: "{{ checked.errors | join(' ') }}"
  vars:
    checked: "{{ policy | linuxnet.sockets.policy_check }}"
    policy: "{{ lookup('ansible.builtin.file', 'vpn-policy.yml') | from_yaml }}"
"""

RETURN = r"""
_value:
  description: The result of the validation. If the policy is invalid, all keys other than C(valid),
    C(errors) and C(warnings) are null, empty or false.
  type: dict
  contains:
    valid:
      description: Whether the policy is valid, apart from names that only a host can resolve.
      type: bool
    errors:
      description: All errors, each with the path, the value and the allowed values.
      type: list
      elements: str
    warnings:
      description: Parts of the policy that are valid but probably unintended, with the remedy.
      type: list
      elements: str
    digest:
      description: SHA-256 of the canonical JSON of the policy, as C(socket-agent status) shows it.
      type: str
    mode:
      description: V(enforce) or V(report).
      type: str
    namespaces:
      description: Network namespaces to which the policy applies.
      type: list
      elements: str
    needs:
      description: Kinds of facts that the policy depends on, a subset of C(links), C(addresses),
        C(routes) and C(rules).
      type: list
      elements: str
    engine:
      description: The mechanism that destroys sockets, C(netlink), C(auto) or C(pidfd).
      type: str
    reads_owners:
      description: Whether the guard, a rule or the engine depends on the processes that hold a
        socket.
      type: bool
    longest_hold_s:
      description: Longest hold time of the rules, in seconds.
      type: float
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.linuxnet.sockets.plugins.plugin_utils import _policy


def policy_check(value: Any) -> dict[str, Any]:
    return _policy.check_policy(value).summary


class FilterModule:
    """Jinja2 filters of the collection."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"policy_check": policy_check}
