# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what withholds everything: a pause, a trial that is over."""

from __future__ import annotations

from collections.abc import Callable

from .clocks import Clocks
from .controls import read_confirmation, read_pause
from .lasting import tell_controls
from .reporter import Teller
from .state import PAUSED, UNCONFIRMED, Account


class Restraint:
    """directory: where the files of pause and trial are."""

    def __init__(
        self, directory: str, account: Account, teller: Teller, clocks: Callable[[], Clocks]
    ) -> None:
        self._directory = directory
        self._account = account
        self._teller = teller
        self._clocks = clocks

    def read(self) -> bool:
        """Whether pause and trial, or what they withhold, are others than before."""
        account = self._account
        before = self.withheld, account.pause, account.trial
        account.at = self._clocks()
        account.pause = read_pause(self._directory, account.at)
        account.trial = read_confirmation(self._directory)
        tell_controls(account, self._teller)
        return before != (self.withheld, account.pause, account.trial)

    @property
    def withheld(self) -> str | None:
        """Why nothing may be destroyed; None: it may."""
        if self._account.pause is not None:
            return PAUSED
        return UNCONFIRMED if self._account.unconfirmed() else None

    def ends_s(self) -> list[float]:
        """In how many seconds what is there now is over."""
        pause, trial = self._account.pause, self._account.on_trial()
        ends = [None if pause is None else pause.until]
        if self.withheld is None:
            ends.append(None if trial is None else trial.until)
        now = self._clocks()
        return [end.left_s(now) for end in ends if end is not None]
