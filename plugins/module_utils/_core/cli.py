# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The command socketctl: list, drain and destroy sockets from a shell.

    python3 -m linuxnet_sockets.cli list state=established remote_port=443

The wheel and the role install it as ``socketctl``. The code is in ``socketctl``.
"""

from __future__ import annotations

from .socketctl.main import main
from .socketctl.parser import get_parser

__all__ = ["get_parser", "main"]

if __name__ == "__main__":
    raise SystemExit(main())
