# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The core of the collection linuxnet.sockets; as a package of its own: linuxnet_sockets."""

from __future__ import annotations

# Also the version of the wheel. galaxy.yml and packaging/saltext have the same one.
__version__ = "0.1.0"
