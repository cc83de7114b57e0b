# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the request server of the agent without its main loop."""

from __future__ import annotations

import select

from linuxnet_sockets.agent.request_server import RequestServer


def serve_waiting(server: RequestServer) -> bool:
    """Serve what has arrived, without waiting. Returns whether there was something."""
    poller = select.poll()
    for source in server.sources():
        poller.register(source, select.POLLIN)
    for writer in server.writers():
        poller.register(writer, select.POLLOUT)
    return server.serve({descriptor for descriptor, _events in poller.poll(0)})
