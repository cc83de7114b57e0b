# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# One batch of the cutover: the agent with the policy on trial, and no violation left.
{% set settings = salt['pillar.get']('linuxnet_sockets', {}) %}
agent-on-trial:
  sockets.agent_running:
    - protect: {{ settings.get('protect', {}) | json }}
    - confirm_within: {{ settings.get('confirm_within', '10m') | json }}

no-violations-left:
  sockets.policy_enforced:
    - require:
      - sockets: agent-on-trial
