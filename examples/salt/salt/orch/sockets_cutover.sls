# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Cuts minions over to the policy of their pillar, batch by batch:
#
#   salt-run state.orchestrate orch.sockets_cutover pillar='{batches: [[web1], [web2, web3]]}'
#
# shows the connections that would be destroyed, and changes nothing. With `confirm: true` in the
# pillar, it continues with the batches. The policy is on trial on each batch until all minions of
# the batch have no violation left. If one fails, the batch is not confirmed, and the next one does not
# start: the agents of the batch stop destroying sockets when the trial expires. To undo the cutover
# at once, run orch.sockets_rollback. With `ssh: true`, it uses salt-ssh.
{% set batches = salt['pillar.get']('batches', []) %}
{% set ssh = salt['pillar.get']('ssh', False) %}
preview:
  salt.state:
    - tgt: {{ batches | sum(start=[]) | json }}
    - tgt_type: list
    - ssh: {{ ssh }}
    - sls: sockets.cutover
    - test: true
{% if salt['pillar.get']('confirm', False) %}
{% for batch in batches %}
cut-over-batch-{{ loop.index }}:
  salt.state:
    - tgt: {{ batch | json }}
    - tgt_type: list
    - ssh: {{ ssh }}
    - sls: sockets.cutover
    - require:
      - salt: {{ 'preview' if loop.first else 'confirm-batch-' ~ loop.index0 }}

confirm-batch-{{ loop.index }}:
  salt.function:
    - name: sockets.agent_confirm
    - tgt: {{ batch | json }}
    - tgt_type: list
    - ssh: {{ ssh }}
    - require:
      - salt: cut-over-batch-{{ loop.index }}
{% endfor %}
{% endif %}
