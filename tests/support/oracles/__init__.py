# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Independent readers of the same sockets: ss(8) and pyroute2's DiagSocket.

They read the kernel with their own code. This package parses their output and shares no code with
the core.
"""
