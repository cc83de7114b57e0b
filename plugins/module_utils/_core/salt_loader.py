# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Entry point that makes salt-ssh pack this package together with the Salt extension.

salt-ssh sends a host the packages that define the entry points of the group ``salt.loader``
(salt/utils/thin.py). The extension is the package ``saltext.linuxnet_sockets``. Without an entry
point of its own, this package would be missing on the host.
"""

from __future__ import annotations


def directories() -> dict[str, list[str]]:
    """The directories of Salt modules by type: none, because the extension has them all."""
    return {}
