# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Grain that says which sockets the kernel can destroy for the minion.

Example: target the minions that can destroy TCP sockets.

.. code-block:: bash

    salt -G 'socket_diag:support:tcp:supported' sockets.list stuck=close_wait
"""

from __future__ import annotations

from typing import Any

from saltext.linuxnet_sockets import kernel_support

__virtualname__ = "socket_diag"


def __virtual__() -> str | bool:
    return __virtualname__ if kernel_support.AVAILABLE else False


def socket_diag() -> dict[str, Any]:
    """Return the grain ``socket_diag``; no grain if the kernel cannot be asked.

    ``may_destroy`` says whether the minion has CAP_NET_ADMIN. ``support`` has the verdict for each
    protocol, such as ``supported`` or ``handler_missing``.

    .. versionadded:: 0.1.0
    """
    found = kernel_support.summary()
    return {} if found is None else {"socket_diag": found}
