# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Destroys the connections that the beacon sockets reports. They must still match the selector of
# the beacon. The guard of the minion protects its own connection to the master.
{% if data['match'] %}
destroy-reported-connections:
  local.sockets.destroy:
    - tgt: {{ data['id'] | json }}
    - kwarg:
        match: {{ data['match'] | json }}
        namespaces: {{ data['namespaces'] | json }}
        max_sockets: 50
{% endif %}
