#!/usr/bin/python

# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: socket_policy
short_description: Enforce a policy on the sockets of a host, once
version_added: 0.1.0
description:
  - A policy says which sockets must not exist, while which condition of the network holds, and for
    how long it has to be violated. This module looks at the sockets of the host, waits for the
    longest hold of what it found, looks again, and destroys what violated the policy throughout.
  - The role C(linuxnet.sockets.agent) has the same policy enforced all the time, within
    milliseconds of a change.
  - Before anything is sent to the host, the policy is read on the controller. All that is wrong
    with it is told at once, each with its path, its value and the remedy.
  - What is destroyed, protected and verified, and how, is as of M(linuxnet.sockets.socket_destroy).
author:
  - linuxnet.sockets contributors (!UNKNOWN)
extends_documentation_fragment:
  - linuxnet.sockets._attributes
  - linuxnet.sockets._attributes.actiongroup_sockets
  - linuxnet.sockets.limit
attributes:
  action:
    description: Has an action plugin of the same name, so that a part of it runs on the controller.
    support: full
    details:
      - It reads the policy and checks it, before anything is sent.
  async:
    description: Supports being used with the C(async) keyword.
    support: full
  check_mode:
    support: full
    details:
      - The holds are waited for. RV(destroyed) names the very sockets that would be destroyed, and
        the task fails where it would fail.
  diff_mode:
    support: full
    details:
      - The sockets that change, one on a line.
  idempotent:
    support: partial
    details:
      - A second run finds nothing left and changes nothing, unless clients have connected again in
        the meantime, against the policy.
options:
  policy:
    description:
      - The policy, as a mapping. One of this and O(src) is required.
      - Its keys C(version), C(mode), C(namespaces), C(limits), C(protect) and C(rules) are
        described in the collection's guide to policies, and by its JSON Schema, which makes an
        editor complete and explain them (C(docs/docsite/policy.schema.json) of the collection).
    type: dict
  src:
    description:
      - A file of YAML or JSON on the controller that holds the policy. It is looked for as
        M(ansible.builtin.copy) looks for its own, and may be encrypted with Ansible Vault. It is
        not a template.
    type: path
  engine:
    description: How sockets are destroyed, as of O(linuxnet.sockets.socket_destroy#module:engine).
    type: str
    choices:
      - auto
      - netlink
      - pidfd
    default: netlink
requirements:
  - Linux 5.4 or later that was built with C(CONFIG_INET_DIAG_DESTROY), or O(engine=pidfd)
  - C(CAP_NET_ADMIN) in the user namespaces that own the network namespaces
  - Python 3.9 or later
seealso:
  - module: linuxnet.sockets.socket_destroy
  - plugin: linuxnet.sockets.policy_check
    plugin_type: filter
"""

EXAMPLES = r"""
- name: No connection outlives its address
  linuxnet.sockets.socket_policy:
    policy:
      version: 1
      limits: {max_sockets: 500, per: 1m}
      rules:
        - name: gone-with-the-address
          match:
            protocol: [tcp, udp]
            stranded: [address_gone, unroutable]

- name: See what bypasses the VPN
  linuxnet.sockets.socket_policy:
    src: vpn-policy.yml
  check_mode: true
  register: bypassing

- name: Show it
  ansible.builtin.debug:
    msg: "{{ bypassing.violations | linuxnet.sockets.table(width=140) }}"
"""

RETURN = r"""
changed:
  description: Whether at least one socket was destroyed or disconnected, or would be in check mode.
  returned: always
  type: bool
  sample: true
digest:
  description: The sha256 of the policy's canonical JSON, as C(socket-agent status) shows it.
  returned: always, unless the task could not be understood
  type: str
  sample: 6449e1d524d2e505554305cc5e8117d540ec723a37569a9fd5157becb118d5be
mode:
  description: The policy's mode. In V(report) nothing is destroyed.
  returned: always, unless the task could not be understood
  type: str
  sample: enforce
rules:
  description: The rules of the policy, and how they stand.
  returned: always, unless the task could not be understood
  type: list
  elements: dict
  sample:
    - name: gone-with-the-address
      action: destroy
      violations: 2
      by_status: {destroy: 2}
      holds_in: [current]
      missing_interfaces: []
  contains:
    name:
      description: Its name.
      type: str
    action:
      description: What it does about violations.
      type: str
    violations:
      description: How many sockets violate it.
      type: int
    by_status:
      description: How many of them have which status, as in RV(violations).
      type: dict
    holds_in:
      description: The namespaces in which its C(while) is true.
      type: list
      elements: str
    missing_interfaces:
      description: Interfaces that it names and that no namespace has. One may be misspelt.
      type: list
      elements: str
violations:
  description: The sockets that violate the policy, once for each rule, at most O(limit).
  returned: always, unless the task could not be understood
  type: list
  elements: dict
  sample:
    - rule: gone-with-the-address
      status: destroy
      reason: ["stranded: address_gone"]
      protected_by: null
      protected_detail: null
      record:
        protocol: tcp
        state: established
        local: 192.0.2.10
        local_port: 48134
        remote: 10.20.3.4
        remote_port: 443
        cookie: "3e9"
        namespace: current
  contains:
    rule:
      description: The rule's name.
      type: str
    status:
      description:
        - V(destroy), it was taken on, and RV(outcomes) counts what became of it.
        - V(hold), it came to violate the rule too late for its hold.
        - V(limit), the limits of the policy say no. Where its mode is V(report), that is a warning
          and no failure.
        - V(protected), it is protected.
        - V(reported), the rule only reports.
        - V(inhibited), the policy's mode is V(report).
        - V(other_rule), an earlier rule names the same socket.
        - V(back_off), what leads there was destroyed again and again. Only the agent sees that.
      type: str
    reason:
      description: The verdicts that the rule asks for and that are true of it. Where there is none
        of them, the C(while) of the rule, which is true too.
      type: list
      elements: str
    protected_by:
      description: Of a protected one, the rule of the guard that protects it.
      type: str
    protected_detail:
      description: What made that rule apply, where it is not plain, such as the file that a
        selector is from.
      type: str
    record:
      description:
        - The socket, as RV(linuxnet.sockets.socket_diag_info#module:sockets) has it.
        - Its C(processes) are told, but for a rule with C(action=report).
      type: dict
matched:
  description: How many violations there are.
  returned: always, unless the task could not be understood
  type: int
  sample: 2
outcomes:
  description:
    - How many sockets ended how, as RV(linuxnet.sockets.socket_destroy#module:outcomes).
      V(limit) counts those that the limits of the policy held back.
  returned: always, unless the task could not be understood
  type: dict
  sample:
    destroyed: 2
destroyed:
  description: Those that were destroyed or disconnected, at most O(limit), as
    RV(linuxnet.sockets.socket_destroy#module:destroyed).
  returned: always, unless the task could not be understood
  type: list
  elements: dict
  sample: []
protected:
  description: Those that were protected, or gone already, at most O(limit), with the same keys.
  returned: always, unless the task could not be understood
  type: list
  elements: dict
  sample: []
survivors:
  description: Those for which the task failed, at most O(limit), with the same keys.
  returned: always, unless the task could not be understood
  type: list
  elements: dict
  sample: []
truncated:
  description: Whether any of these lists was cut at O(limit).
  returned: always, unless the task could not be understood
  type: bool
  sample: false
not_evaluated:
  description: Namespaces that could not be looked at, and rules whose sockets could not. The task
    fails for them.
  returned: always, unless the task could not be understood
  type: list
  elements: dict
  sample:
    - namespace: blue
      rule: null
      error: There is no network namespace 'blue' on this host.
  contains:
    namespace:
      description: The namespace.
      type: str
    rule:
      description: The rule whose sockets in it could not be looked at. Null, none could.
      type: str
    error:
      description: Why, and what to do.
      type: str
errors:
  description: All that is wrong with a policy that was refused, by the controller or by the host.
    Each has the path, the value, and what is allowed there.
  returned: when the policy was refused
  type: list
  elements: str
  sample:
    - "policy.rules[0].match.remot: '10.0.0.1': no such key (did you mean remote?). Allowed: ..."
msg:
  description: What failed, and what to do.
  returned: on failure
  type: str
  sample: >-
    12 sockets violate the policy and would be destroyed, but its limits allow 10 in 60 s: none was
    touched. They are listed in survivors. If they are meant, raise limits.max_sockets; if not,
    narrow the rules.
"""

from ansible_collections.linuxnet.sockets.plugins.module_utils._module import arguments, policy
from ansible_collections.linuxnet.sockets.plugins.module_utils._module.run import run_module


def main() -> None:
    argument_spec = {
        **policy.argument_spec(),
        **arguments.engine_name(),
        **arguments.limit(),
    }
    run_module(argument_spec, policy.work)


if __name__ == "__main__":
    main()
