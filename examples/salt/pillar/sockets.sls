# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

linuxnet_sockets:
  # Which connections must not exist. docs: policy.rst
  policy:
    version: 1
    limits: {max_sockets: 500, per: 1m}
    rules:
      - name: gone-with-the-address
        match: {protocol: [tcp, udp], stranded: [address_gone, unroutable]}
      - name: old-database
        match: {remote: 192.0.2.10:5432}
        hold: 0
  # Selectors of sockets that are never destroyed, by name.
  protect: {}
  # How long a new policy destroys sockets without a confirmation.
  confirm_within: 10m
