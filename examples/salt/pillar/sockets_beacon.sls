# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# A beacon for each minion whose top file includes this. With the reactor of master.d, the master
# destroys what the beacon reports.
beacons:
  sockets:
    - match:
        local_port: 8080
        stuck: [{verdict: close_wait, for: 10m}]
    - at_most: 50
    - interval: 30
