# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Carries out the requests of clients: pause, resume, confirm, trial and status."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import OtherPolicyOnTrial
from ..host.peer import Peer
from . import controls, protocol
from .clocks import Clocks, Deadline
from .journal import Log
from .protocol import Request


class RequestHandler:
    """Changes the files in the state directory, which the agent reads before each pass.

    status: returns the content of status.json; None before it was first written.
    """

    def __init__(
        self,
        directory: str,
        clocks: Callable[[], Clocks],
        log: Log,
        status: Callable[[], Mapping[str, Any] | None],
    ) -> None:
        self._directory = directory
        self._clocks = clocks
        self._log = log
        self._status = status

    def __call__(self, peer: Peer, request: Request) -> bytes:
        """Carry out a request and return the answer line."""
        if request.name == protocol.STATUS:
            return protocol.answer(status=self._status())
        try:
            done = self._change(request)
        except OtherPolicyOnTrial as error:
            return protocol.error(protocol.OTHER_POLICY, on_trial=error.on_trial, given=error.given)
        except OSError as error:
            return protocol.error(protocol.FAILED, errno=error.errno or 0)
        self._log.notice("request", {"request": request.name, "uid": peer.uid, "done": done})
        return protocol.answer(done=done)

    def _change(self, request: Request) -> bool:
        until = None
        if request.seconds is not None:
            until = Deadline.after(self._clocks(), request.seconds)
        if request.name == protocol.PAUSE:
            controls.write_pause(self._directory, request.reason, until)
            return True
        if request.name == protocol.RESUME:
            return controls.remove_pause(self._directory)
        if request.name == protocol.CONFIRM:
            return controls.confirm(self._directory, request.digest)
        if until is None or request.digest is None:
            raise AssertionError(request)
        controls.start_trial(self._directory, request.digest, until)
        return True
