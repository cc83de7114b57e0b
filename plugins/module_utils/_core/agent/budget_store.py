# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: sees to it that the limits hold over a restart, and says where what
they count is not known."""

from __future__ import annotations

from ..policy.budget import BudgetSnapshot
from ..policy.decide import Decider
from ..policy.model import Policy
from .faults import Attempts
from .ledger import Ledger
from .state import COUNT

# What Account.errors calls it that what is destroyed cannot be written down.
COUNTING = "write budget.json"


class Brake:
    """Between an engine and the ledger of what was destroyed."""

    def __init__(self, ledger: Ledger, attempts: Attempts) -> None:
        self._ledger = ledger
        self._attempts = attempts
        self._broken = False

    def decider(self, policy: Policy, now_ms: int, max_gap_ms: int) -> Decider:
        """One that counts on from where the last agent was."""
        budget = self._ledger.read(now_ms)
        decider = Decider(policy, max_gap_ms=max_gap_ms, budget=budget, save=self._keep)
        # Where it cannot be written, that is told before there is anything to destroy.
        decider.persist()
        return decider

    def _keep(self, kept: BudgetSnapshot) -> None:
        self._broken = self._attempts.attempt(COUNTING, lambda: self._ledger.write(kept)) is None

    def mend(self, decider: Decider) -> None:
        """Try again what failed, also where nothing is to be destroyed."""
        if self._broken:
            decider.persist()

    def tell(self, decider: Decider, now_ms: int) -> None:
        """Whether it is known what was destroyed within the time of the limits."""
        text = None
        if decider.budget_unknown_until_ms(now_ms) is not None:
            why = self._ledger.trouble or "the agent before this one could not read it"
            text = (
                f"it is not known what was destroyed before the start: {why}. Nothing is destroyed "
                f"for the time of the limits, {decider.policy.limits.per_ms / 1000:g} s"
            )
        self._attempts.lasts(COUNT, text, ended="the limits count again")

    def close(self) -> None:
        self._ledger.close()
