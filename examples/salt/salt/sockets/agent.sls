# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Installs the agent, which enforces the policy of the pillar permanently.
{% set settings = salt['pillar.get']('linuxnet_sockets', {}) %}
socket-agent:
  sockets.agent_running:
    - protect: {{ settings.get('protect', {}) | json }}
