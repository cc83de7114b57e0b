# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What others print of the same sockets: ss(8), and pyroute2's DiagSocket.

They read the kernel by code of their own and are read here by code of ours that the core knows
nothing of.
"""
