# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Removes the agent from the minions of a cutover:
#
#   salt-run state.orchestrate orch.sockets_rollback pillar='{batches: [[web1], [web2, web3]]}'
rollback:
  salt.state:
    - tgt: {{ salt['pillar.get']('batches', []) | sum(start=[]) | json }}
    - tgt_type: list
    - ssh: {{ salt['pillar.get']('ssh', False) }}
    - sls: sockets.rollback
