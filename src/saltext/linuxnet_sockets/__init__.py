# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Salt extension that finds, drains and destroys Linux sockets.

Salt's loader reads the subdirectories: ``modules``, ``grains`` and others. The operations are in
``linuxnet_sockets.api``.
"""
