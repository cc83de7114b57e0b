# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Installs the extension into the Python of a minion. A restart of the minion loads it.
linuxnet-sockets:
  pip.installed: []

restart-the-minion:
  cmd.run:
    - name: salt-call --local service.restart salt-minion
    - bg: true
    - onchanges:
      - pip: linuxnet-sockets
