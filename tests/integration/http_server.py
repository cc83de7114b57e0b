# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A web server with keep-alive on several ports: `python http_server.py NAME PORT ...`.

Answers with its name. The path /slow takes two seconds, /slow/8 takes eight. The path /accepted
answers with the number of connections that the port accepted.
"""

from __future__ import annotations

import http.server
import sys
import threading
import time
from typing import Any

SLOW_S = 2.0


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256
    accepted = 0

    def process_request(self, request: Any, client_address: Any) -> None:
        self.accepted += 1
        super().process_request(request, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        """Health checks and destroyed connections end with a reset."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.startswith("/slow"):
            time.sleep(float(self.path[len("/slow/") :] or SLOW_S))
        body = sys.argv[1].encode()
        if self.path == "/accepted":
            body = str(self.server.accepted).encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Log nothing."""


if __name__ == "__main__":
    for port in map(int, sys.argv[2:]):
        server = _Server(("0.0.0.0", port), _Handler)
        threading.Thread(target=server.serve_forever).start()
