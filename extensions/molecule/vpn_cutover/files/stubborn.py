# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Client that binds to an interface, so bypasses the VPN, and always reconnects.

usage: stubborn.py ADDRESS PORT INTERFACE
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time


def main() -> None:
    """Reconnect whenever the connection ends, until killed."""
    address, port, interface = sys.argv[1:]
    while True:
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
            sock.connect((address, int(port)))
            while sock.recv(4096):
                pass
        time.sleep(0.05)


if __name__ == "__main__":
    main()
