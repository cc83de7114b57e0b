# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what the agent tries, and can go on without."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..errors import SocketsError
from ..messages import describe
from .reporter import Teller
from .state import Account

T = TypeVar("T")


class Attempts:
    """What fails is told when it begins and when it ends, and stays in the account till then."""

    def __init__(self, account: Account, teller: Teller) -> None:
        self._account = account
        self._teller = teller

    def attempt(self, what: str, work: Callable[[], T]) -> T | None:
        """What the work gives; None: it failed, with OSError or SocketsError."""
        try:
            answer = work()
        except OSError as error:
            self.lasts(what, f"cannot {what}: {error}")
        except SocketsError as error:
            self.lasts(what, f"cannot {what}: {describe(error)}")
        else:
            self.lasts(what, None, ended=f"recovered: {what}")
            return answer
        return None

    def lasts(self, what: str, text: str | None, *, ended: str = "") -> None:
        """text: what is wrong; None: nothing is."""
        if text is None:
            self._account.errors.pop(what, None)
        else:
            self._account.errors[what] = text
        self._teller.lasts(what, text, ended=ended)
