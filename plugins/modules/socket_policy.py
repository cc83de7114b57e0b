#!/usr/bin/python

# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: socket_policy
short_description: Enforce a policy on the sockets of a host once
version_added: 0.1.0
description:
  - A policy declares which sockets must not exist. Each rule can have a network condition and a
    hold. The hold is how long a socket must violate the rule before it is destroyed.
  - The module takes a snapshot of the sockets of the host. It waits for the longest hold of the
    rules that were violated and takes another snapshot. Then it destroys the sockets that violated
    the policy throughout.
  - To enforce the same policy continuously, use the role C(linuxnet.sockets.agent). The agent
    reacts to network changes within milliseconds.
  - The controller validates the policy before it sends anything to the host. It reports all errors
    at once, each with its path, the value and the allowed values.
  - Sockets are protected, destroyed and verified as in M(linuxnet.sockets.socket_destroy).
author:
  - linuxnet.sockets contributors (!UNKNOWN)
extends_documentation_fragment:
  - linuxnet.sockets._attributes
  - linuxnet.sockets._attributes.actiongroup_sockets
  - linuxnet.sockets.limit
attributes:
  action:
    description: Has a corresponding action plugin, so that a part of it runs on the controller.
    support: full
    details:
      - The action plugin reads and validates the policy before it sends anything to the host.
  async:
    description: Supports being used with the C(async) keyword.
    support: full
  check_mode:
    support: full
    details:
      - Waits for the holds. RV(destroyed) lists the sockets that would be destroyed. The task fails
        in the same cases as without check mode.
  diff_mode:
    support: full
    details:
      - Shows each socket that changes, one per line.
  idempotent:
    support: partial
    details:
      - A second run finds no violations and changes nothing, unless clients have violated the
        policy again in the meantime.
options:
  policy:
    description:
      - The policy. Either this option or O(src) is required.
      - The guide to policies of this collection describes the keys C(version), C(mode),
        C(engine), C(namespaces), C(limits), C(protect) and C(rules).
      - JSON or YAML text is accepted too, as a template may give it.
      - The collection contains a JSON Schema of the policy, C(docs/docsite/policy.schema.json).
        With it, editors complete and explain the keys.
    type: dict
  src:
    description:
      - The path of a YAML or JSON file on the controller that contains the policy. Relative paths
        are resolved as in M(ansible.builtin.copy). The file can be encrypted with Ansible Vault. It
        is not rendered as a template.
    type: path
  engine:
    description: The mechanism that destroys sockets, as in
      O(linuxnet.sockets.socket_destroy#module:engine). By default, it is the C(engine) of the
      policy.
    type: str
    choices:
      - auto
      - netlink
      - bpf
      - pidfd
requirements:
  - Linux 5.4 or later, with C(CONFIG_INET_DIAG_DESTROY), or with O(engine=bpf) or O(engine=pidfd)
  - C(CAP_NET_ADMIN) in the user namespaces that own the network namespaces
  - Python 3.9 or later
seealso:
  - module: linuxnet.sockets.socket_destroy
  - plugin: linuxnet.sockets.policy_check
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Destroy connections whose address or route is gone
  linuxnet.sockets.socket_policy:
    policy:
      version: 1
      limits: {max_sockets: 500, per: 1m}
      rules:
        - name: gone-with-the-address
          match:
            protocol: [tcp, udp]
            stranded: [address_gone, unroutable]

- name: Preview which connections bypass the VPN
  linuxnet.sockets.socket_policy:
    src: vpn-policy.yml
  check_mode: true
  register: bypassing

- name: Show them as a table
  ansible.builtin.debug:
    msg: "{{ (bypassing.violations | linuxnet.sockets.table(width=140)).splitlines() }}"
"""

RETURN = r"""
changed:
  description: Whether at least one socket was destroyed or disconnected. In check mode, whether one
    would be.
  returned: always
  type: bool
  sample: true
digest:
  description: The SHA-256 digest of the canonical JSON of the policy. C(socket-agent status) shows
    the same digest.
  returned: when the options are valid
  type: str
  sample: 6449e1d524d2e505554305cc5e8117d540ec723a37569a9fd5157becb118d5be
mode:
  description: The mode of the policy. In mode V(report), nothing is destroyed.
  returned: when the options are valid
  type: str
  sample: enforce
rules:
  description: The rules of the policy and their current state.
  returned: when the options are valid
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
      description: The name of the rule.
      type: str
    action:
      description: The action of the rule, V(destroy) or V(report).
      type: str
    violations:
      description: The number of sockets that violate the rule.
      type: int
    by_status:
      description: The number of these sockets for each status, as in RV(violations[].status).
      type: dict
    holds_in:
      description: The namespaces in which the C(while) condition of the rule is true.
      type: list
      elements: str
    missing_interfaces:
      description: The interfaces that the rule names and that exist in no namespace.
      type: list
      elements: str
violations:
  description: The sockets that violate the policy, at most O(limit). A socket that violates several
    rules is listed once for each rule.
  returned: when the options are valid
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
      description: The name of the rule.
      type: str
    status:
      description:
        - "V(destroy): the task tried to destroy the socket, or would in check mode. RV(outcomes)
          counts the result."
        - "V(hold): the hold of the rule has not expired for the socket."
        - "V(limit): the limits of the policy do not allow to destroy the socket. In mode V(report),
          this is a warning and not a failure."
        - "V(protected): the guard protects the socket."
        - "V(reported): the action of the rule is C(report)."
        - "V(inhibited): the mode of the policy is V(report)."
        - "V(other_rule): an earlier rule matches the same socket."
        - "V(back_off): connections to the same destination were destroyed repeatedly. Only the
          agent uses this status."
      type: str
    reason:
      description: The verdicts of the rule that are true for the socket. If the rule uses no
        verdict, its C(while) condition.
      type: list
      elements: str
    protected_by:
      description: For a protected socket, the rule of the guard that protects it.
      type: str
    protected_detail:
      description: Why that rule applies, for example the file that contains the selector.
      type: str
    record:
      description:
        - The socket, as in RV(linuxnet.sockets.socket_diag_info#module:sockets).
        - Its C(processes) are filled in, except for rules with C(action=report).
      type: dict
matched:
  description: The number of violations.
  returned: when the options are valid
  type: int
  sample: 2
outcomes:
  description:
    - The number of sockets for each outcome, as in
      RV(linuxnet.sockets.socket_destroy#module:outcomes).
    - V(limit) counts the sockets that the limits of the policy did not allow to destroy.
  returned: when the options are valid
  type: dict
  sample:
    destroyed: 2
destroyed:
  description: The sockets that were destroyed or disconnected, at most O(limit), as in
    RV(linuxnet.sockets.socket_destroy#module:destroyed).
  returned: when the options are valid
  type: list
  elements: dict
  sample: []
protected:
  description: The sockets that were protected or already gone, at most O(limit). The keys are those
    of RV(destroyed).
  returned: when the options are valid
  type: list
  elements: dict
  sample: []
survivors:
  description: The sockets for which the task failed, at most O(limit). The keys are those of
    RV(destroyed).
  returned: when the options are valid
  type: list
  elements: dict
  sample: []
truncated:
  description: Whether any of these lists was cut at O(limit).
  returned: when the options are valid
  type: bool
  sample: false
not_evaluated:
  description: The namespaces, and the rules in a namespace, that could not be evaluated. The task
    fails if there are any.
  returned: when the options are valid
  type: list
  elements: dict
  sample:
    - namespace: blue
      rule: null
      error: Unknown network namespace 'blue'.
  contains:
    namespace:
      description: The network namespace.
      type: str
    rule:
      description: The rule that could not be evaluated in this namespace. Null if none of the rules
        could.
      type: str
    error:
      description: The cause, and what to do.
      type: str
errors:
  description: The errors in a rejected policy. The controller or the host rejected it. Each error
    contains the path, the value and the allowed values.
  returned: when the policy was rejected
  type: list
  elements: str
  sample:
    - "policy.rules[0].match.remot: '10.0.0.1': no such key (did you mean remote?). Allowed: ..."
msg:
  description: What failed, and what to do.
  returned: on failure
  type: str
  sample: >-
    Budget exceeded by rule past-the-vpn, user alice (uid 1000): 12 sockets to destroy, at most 10
    in 60 s. None of these was destroyed. They are listed in survivors. If you mean all of them,
    raise limits.max_sockets; if not, narrow the rules.
warnings:
  description:
    - Problems that did not stop the task, such as a part of the selector that cannot match.
    - Since ansible-core 2.19, ansible-core leaves out an empty list. Write
      C(result.warnings | default([]\)) for every version.
  returned: when there are warnings
  type: list
  elements: str
  sample:
    - "match.device: 'wg00': unknown interface, so it matches nothing. Existing: eth0, lo."
"""

from ansible_collections.linuxnet.sockets.plugins.module_utils._module import policy
from ansible_collections.linuxnet.sockets.plugins.module_utils._module.run import run_module


def main() -> None:
    run_module(policy.argument_spec(), policy.enforce, modes=True)


if __name__ == "__main__":
    main()
